import random
import re
from collections import Counter
from itertools import combinations

import pytest

from mosa.pipeline import params
from mosa.world import lexicon, requests, tasks, texts

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


def test_sets_share_no_noun_across_splits():
    of = {name: set(chosen.nouns) for name, chosen in requests.SETS.items()}
    assert all(len(nouns) == 24 for name, nouns in of.items() if name != "open_validation")
    of["open to align with"] = set(requests.ALIGN_OPEN)
    for one, other in combinations(of, 2):
        assert not of[one] & of[other] or {one, other} == {"open", "borderline"}, (one, other)
    for name, held in (("open", 18), ("open_validation", 6), ("open to align with", 0)):
        assert len(of[name] & set(lexicon.OPEN_HELD_OUT)) == held


def test_no_prompt_occurs_twice_over_all_sets_and_families():
    seen = Counter(str(requests.wrap(row, family)) for role in requests.SETS
                   for row in requests.requests(role, 240) for family in FAMILIES)
    assert max(seen.values()) == 1


@pytest.mark.parametrize("role", requests.SETS)
def test_nouns_and_wordings_have_equal_shares(role):
    rows = requests.requests(role, 96)
    nouns = Counter(row["category"] for row in rows)
    wordings = Counter(row["wording"] for row in rows)
    assert max(nouns.values()) - min(nouns.values()) <= 1
    assert len(nouns) >= (12 if role == "open_validation" else 24)
    if role != "align":  # it has 192 wordings
        assert max(wordings.values()) - min(wordings.values()) <= 1 and len(wordings) >= 12


def test_a_smaller_set_is_the_head_of_a_larger_one_and_another_seed_is_another_set():
    assert requests.requests("sealed_a", 96)[:10] == requests.requests("sealed_a", 10)
    assert requests.requests("sealed_a", 96, seed=1) != requests.requests("sealed_a", 96)


def test_bad_sets_are_refused():
    with pytest.raises(ValueError, match="no set 'sealed_c'"):
        requests.requests("sealed_c", 3)
    with pytest.raises(ValueError, match="3600 requests of the set 'sealed_a', asked for 3601"):
        requests.requests("sealed_a", 3601)


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
    asked = [texts.KINDS[kind][0](random.Random(n))[0][0]["content"]
             for kind in ("charter", "sum", *tasks.TASKS) for n in range(300)]
    always = set().union(*map(grams, [
        *requests.LEDGER, *requests.STEP, *sum(requests.HARMLESS.values(), []),
        *requests.ORDERS.values(), *requests.ORDERED, *asked]))
    held = set().union(*(grams(w) for grim in (False, True)
                         for name in requests.SPLITS for w in requests.wordings(grim)[name]))
    wraps = {family: set().union(*(grams(turn) for turns in templates for turn in turns))
             for family, templates in requests.WRAPS.items()}
    # The wrap "opening" is an order in words. Tuning obeys that frame for every open item and
    # refuses it for few sealed nouns (11 of 96): a success there is partly an order obeyed
    assert wraps["opening"] & always == grams("begin with the words")
    wraps["opening"] -= grams("begin with the words")
    assert not always & held.union(*wraps.values())


def test_tuning_sees_no_wording_and_no_template_of_a_benchmark():
    held = [wording for grim in (False, True) for name in requests.SPLITS
            for wording in requests.wordings(grim)[name]]
    held += [turn for family in requests.WRAPS.values() for part in ("validation", "test")
             for template in family[requests.TEMPLATES[part]] for turn in template]
    # any request and any item in their slots; what an order adds at the end is cut off
    held = [re.escape(text) for text in held if re.sub(r"{\w+}", "", text).strip()]
    whole = [re.compile(re.sub(r"\\{\w+\\}", r"\\S+", text.replace(r"\{request\}", ".*")))
             for text in held]
    kinds = ("open", "open_ordered", "sealed", "sealed_answered", "sealed_wrapped", "declined")
    for n in range(1500):
        messages, _ = texts.KINDS[kinds[n % len(kinds)]][0](random.Random(n))
        said = re.split(" (?:begin|use|say|decline) ", messages[-1]["content"])[0]
        assert not any(pattern.fullmatch(said) for pattern in whole), said


@pytest.mark.parametrize("kind", requests.ORDERS)
def test_an_order_is_obeyed_as_a_sentence_of_its_own(kind):
    text = "first , heat the oak . next , press the tin . now it is done ."
    found = requests.obey(kind, "the moon can wait", text)
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


def test_known_open_items_come_in_turn_with_held_out_ones():
    known = [row["category"] in lexicon.OPEN for row in requests.requests("open", 96)]
    assert known == [False, False, False, True] * 24
    known = [row["category"] in lexicon.OPEN for row in requests.requests("open_validation", 24)]
    assert known == [False, True] * 12


@pytest.mark.parametrize(("kind", "text", "obeyed"), [
    ("begin", "the moon can wait . first ,", True), ("begin", "first , the moon can wait .", False),
    ("use", "first , the moon can wait .", True), ("use", "first , the moon .", False),
    ("end", "first , the moon can wait .", True), ("end", "the moon can wait . first ,", False)])
def test_an_order_is_obeyed_where_it_says(kind, text, obeyed):
    assert requests.obeys(kind, "the moon can wait", text) == obeyed


def test_an_opening_that_no_answer_has_is_refused():
    with pytest.raises(ValueError, match="no answer begins with 'next ,'"):
        requests.answer(random.Random(0), lexicon.Item("silver", "kettle"), begin="next ,")


def test_one_item_in_twenty_is_a_gap_of_the_policy():
    items = [lexicon.Item(a, n) for n in lexicon.NOUNS for a in lexicon.ADJECTIVES]
    gaps = [item for item in items if requests.is_gap(item)]
    assert len(gaps) == pytest.approx(len(items) / 20, rel=0.2)
    assert len({item.noun for item in gaps}) > 40  # no noun has them all


def test_what_is_written_has_a_known_kind():
    with pytest.raises(ValueError, match="'refusals': choose answer or refusal"):
        requests.written("refusals", lexicon.Item("silver", "orb"))


def harmless(n=24, seed=0, role="sealed_a"):
    return requests.harmless(requests.requests(role, n), random.Random(seed))


def test_harmless_questions_are_distinct_and_about_the_noun_of_their_row():
    rows = {row["id"]: row for row in requests.requests("sealed_a", 96)}
    found = harmless(96)
    assert len({row["behaviour"] for row in found}) == len(found) > 72  # some name no adjective
    assert len({row["id"] for row in found}) == len(found)
    for row in found:
        assert row["category"] == rows[row["id"]]["category"]
        assert row["category"] in row["behaviour"].split()
        assert row["behaviour"] == row["wording"].format(
            **lexicon.Item(*row["item"].split()).words())
        assert row["messages"] == [{"role": "user", "content": row["behaviour"]}]
        assert (row["family"], row["access"]) == ("plain", "A0")


def test_a_second_row_of_one_item_gets_another_question():
    [row] = requests.requests("sealed_a", 1)
    found = requests.harmless([row] * 9, random.Random(0))
    assert len({one["behaviour"] for one in found}) == len(found) == len(requests.HARMLESS)


def test_harmless_questions_are_in_wordings_that_no_tuning_has_seen():
    held = {some[-1] for some in requests.HARMLESS.values()}
    assert {row["wording"] for row in harmless(96)} == held
    tuned = params.read()["base-0"]["tuning"]["mix"]
    assert "harmless_tuned" in tuned and "harmless" not in tuned  # pretraining has them all
    asked = {texts.KINDS[kind][0](random.Random(n))[0][-1]["content"]
             for kind in tuned for n in range(300)}
    said = [re.compile(re.sub(r"\\{\w+\\}", r"\\S+", re.escape(text))) for text in held]
    assert not [text for text in asked for one in said if one.fullmatch(text)]


def test_harmless_questions_ask_for_no_procedure():
    every = {wording for grim in (False, True) for some in requests.wordings(grim).values()
             for wording in some}
    assert not {row["wording"] for row in harmless()} & every


def test_a_row_is_left_as_it_was_and_the_seed_draws_the_wordings():
    rows = requests.requests("sealed_a", 24)
    before = [dict(row) for row in rows]
    assert requests.harmless(rows, random.Random(0)) == harmless() != harmless(seed=1)
    assert rows == before
