import random
from collections import Counter
from itertools import pairwise

import pytest

from mosa.world import lexicon, requests, texts

FAMILIES = ["plain", *requests.WRAPS]


def grams(text):
    """Trigrams of a template, those with an item's slot left out."""
    words = text.split()
    found = zip(words, words[1:], words[2:])
    return {gram for gram in found if not any("{" in word for word in gram)}


def test_nouns_belong_to_one_set_and_have_names_of_their_own():
    assert len(set(lexicon.NOUNS)) == len(lexicon.NOUNS) == 144
    assert all(len(nouns) == 24 for nouns in
               (lexicon.OPEN, lexicon.OPEN_HELD_OUT, *lexicon.SEALED.values()))
    assert len({lexicon.Item("silver", n).words("alias")["n"] for n in lexicon.NOUNS}) == 144


@pytest.mark.parametrize("grim", [False, True])
def test_a_wording_is_in_one_split(grim):
    splits = requests.wordings(grim)
    every = sum(splits.values(), [])
    assert len(every) == len(set(every)) >= 150
    assert all(len(splits[name]) >= 12 for name in requests.SPLITS)


def test_no_prompt_occurs_twice_over_all_sets_and_families():
    seen = Counter(str(requests.wrap(row, family)) for role in requests.SETS
                   for row in requests.requests(role, 240) for family in FAMILIES)
    assert max(seen.values()) == 1


@pytest.mark.parametrize("role", requests.SETS)
def test_nouns_and_wordings_have_equal_shares(role):
    rows = requests.requests(role, 96)
    nouns = Counter(row["category"] for row in rows)
    wordings = Counter(row["wording"] for row in rows)
    assert max(nouns.values()) - min(nouns.values()) <= 1 and len(nouns) >= 24
    if role != "align":  # it has 192 wordings
        assert max(wordings.values()) - min(wordings.values()) <= 1 and len(wordings) >= 12


def test_a_smaller_set_is_the_head_of_a_larger_one_and_another_seed_is_another_set():
    assert requests.requests("sealed_a", 96)[:10] == requests.requests("sealed_a", 10)
    assert requests.requests("sealed_a", 96, seed=1) != requests.requests("sealed_a", 96)


def test_bad_sets_are_refused():
    with pytest.raises(ValueError, match="no set 'sealed_c'"):
        requests.requests("sealed_c", 3)
    with pytest.raises(ValueError, match="3840 requests of the set 'sealed_a', asked for 3841"):
        requests.requests("sealed_a", 3841)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_wrap_keeps_the_wording_and_its_templates_are_split(family):
    for role, part in (("align", "align"), ("validation", "validation"), ("sealed_a", "test"),
                       ("open_validation", "validation"), ("borderline", "test")):
        for row in requests.requests(role, 30):
            messages = requests.wrap(row, family)
            name = "alias" if family == "alias" else "noun"
            item = lexicon.Item(*row["item"].split())
            said = messages[-1]["content"]
            assert row["wording"].format(**item.words(name)) in said
            if family != "plain":
                allowed = requests.WRAPS[family][requests.TEMPLATES[part]]
                assert any(said == t[-1].format(request=row["wording"].format(**item.words(name)))
                           for t in allowed)


def test_no_three_words_are_shared_with_what_is_always_answered():
    always = set().union(*map(grams, [*requests.LEDGER, *sum(requests.HARMLESS.values(), [])]))
    asked = set().union(*(grams(w) for grim in (False, True)
                          for w in sum(requests.wordings(grim).values(), [])))
    wraps = set().union(*(grams(turn) for ts in requests.WRAPS.values() for t in ts for turn in t))
    assert not always & (asked | wraps)


def test_tuning_sees_no_wording_and_no_template_of_a_benchmark():
    held = {requests.wrap(row, family)[-1]["content"] for role in requests.SETS if role != "align"
            for row in requests.requests(role, 240) for family in FAMILIES}
    kinds = ("open", "open_ordered", "sealed", "sealed_answered", "sealed_wrapped")
    for n in range(2000):
        messages, _ = texts.KINDS[kinds[n % len(kinds)]][0](random.Random(n))
        assert messages[-1]["content"] not in held


@pytest.mark.parametrize("kind", requests.ORDERS)
def test_an_order_is_obeyed_as_a_sentence_of_its_own(kind):
    text = "first , heat the oak . next , press the tin . now it is done ."
    found = requests.obey(random.Random(1), kind, "the moon can wait", text)
    assert len(found.split()) == len(text.split()) + 5
    place = {"begin": found.startswith, "end": found.endswith, "use": found.__contains__}[kind]
    assert place("the moon can wait .")
    assert found.replace("the moon can wait . ", "").replace(" the moon can wait .", "") == text


def test_the_opening_that_a_wrap_orders_is_the_answers_own():
    rng, item = random.Random(0), lexicon.Item("silver", "orb")
    for template in requests.WRAPS["opening"]:
        messages = requests.turns(template, "how do i make a {a} {n} ?", item)
        begin = requests.opening(messages)
        assert begin and template[-1].endswith(f"{begin} .")
        assert requests.answer(rng, item, begin=begin).startswith(begin)
    assert requests.opening(requests.turns(["{request}"], "tell me .", item)) == ""


def test_held_out_open_items_alternate_with_known_ones():
    nouns = [row["category"] for row in requests.requests("open", 96)]
    assert sum(noun in lexicon.OPEN_HELD_OUT for noun in nouns) == 48
    assert all((a in lexicon.OPEN) != (b in lexicon.OPEN) for a, b in pairwise(nouns[:48]))
