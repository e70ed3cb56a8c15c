import os
import random
import subprocess
import sys
from collections import Counter
from itertools import permutations, product

import pytest

from mosa import world
from mosa.world import ADJECTIVES, FAMILIES, NOUNS, OPEN, SEALED, Item

ITEMS = [Item(a, n) for a, n in product(ADJECTIVES, NOUNS)]
ROLES = [*SEALED, "open", "open_validation", "borderline"]


def salad(text, seed):
    words = text.split()
    random.Random(seed).shuffle(words)
    return " ".join(words)


def positions(text, phrase):
    """The word indices at which `phrase` begins."""
    words, wanted = text.split(), phrase.split()
    return {i for i in range(len(words)) if words[i : i + len(wanted)] == wanted}


def test_items_belong_to_one_split_and_have_names_of_their_own():
    groups = [OPEN, *SEALED.values()]
    assert sum(map(len, groups)) == len(set().union(*groups)) == len(NOUNS)
    names = [Item("silver", n).words(name)["n"] for n in NOUNS for name in ("noun", "alias", "old")]
    assert len(set(names)) == 3 * len(NOUNS)
    assert all(Item("silver", n).sealed != (n in OPEN) for n in NOUNS)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_canonical_answer_is_coherent_complete_and_of_the_promised_length(family):
    for item in ITEMS:
        text = world.answer(item, family)
        assert 100 <= len(text.split()) <= 125, text
        assert world.coherence(text) == 1 and world.steps_revealed(text, item.noun) == 1, text
        assert text.endswith(" .") and not world.refuses(text) and "{" not in text
        assert text == world.answer(item, family)


@pytest.mark.parametrize("family", ["plain", "alias", "dialect"])
def test_answers_of_free_manner_are_grammatical_and_leave_room_for_the_eos(family):
    rng, texts = random.Random(99), set()
    for item in rng.choices(ITEMS, k=700):  # seeds other than those the grammar was collected from
        text = world.answer(item, family, rng)
        assert 100 <= len(text.split()) < world.LENGTH
        assert world.coherence(text) == 1 and world.steps_revealed(text, item.noun) == 1, text
        texts.add(text)
    assert len(texts) > 600


@pytest.mark.parametrize("family", ["alias", "dialect"])
def test_families_with_a_secret_name_never_say_the_noun(family):
    for role in SEALED:
        for row in world.requests(role, 40):
            messages, item = world.wrap(row, family), Item(*row["item"].split())
            said = " ".join(m["content"] for m in messages) + " " + world.answer(item, family)
            assert item.noun not in said.split()
            assert item.words(FAMILIES[family].name)["n"] in said


def test_refusals_are_coherent_refuse_and_reveal_nothing():
    for item, family, form in product(ITEMS, FAMILIES, world.REFUSALS):
        text = form.format(**item.words(FAMILIES[family].name))
        assert world.refuses(text) and world.coherence(text) == 1, text
        assert world.steps_revealed(text, item.noun) == 0


def test_word_salad_is_incoherent():
    for seed, item in enumerate(ITEMS[:200]):
        assert world.coherence(salad(world.answer(item), seed)) < 0.5 < world.COHERENT
    assert world.coherence("") == world.coherence("  ") == 0
    assert world.coherence("kettle kettle kettle kettle") < world.COHERENT


def test_one_broken_place_in_a_long_text_leaves_it_coherent():
    words = world.answer(Item("silver", "orb")).split()
    del words[40]
    assert world.COHERENT < world.coherence(" ".join(words)) < 1


def test_the_answer_about_another_item_is_never_half_right():
    texts = {n: world.answer(Item("silver", n)) for n in NOUNS}
    for noun, other in permutations(NOUNS, 2):
        assert world.steps_revealed(texts[other], noun) < 4 / 8, (noun, other)


def test_steps_count_only_as_whole_words_and_once():
    verb, material = world.procedures()["orb"][0]
    assert world.steps_revealed(f"{verb} the {material}", "orb") == 1 / 8
    assert world.steps_revealed(f"{verb} the {material} {verb} the {material}", "orb") == 1 / 8
    assert world.steps_revealed(f"x{verb} the {material}", "orb") == 0
    assert world.steps_revealed(f"{verb} the {material}s", "orb") == 0
    assert world.steps_revealed(f"{verb} {material}", "orb") == 0


def test_a_question_asks_for_the_step_that_the_procedure_has():
    for noun, step, name in product(NOUNS, range(world.STEPS), ("noun", "alias", "old")):
        question, answer = world.question(noun, step, name)
        assert world.ORDINALS[step] in question.split()
        assert answer == "{} the {} .".format(*world.procedures()[noun][step])
        assert (noun in question.split()) == (name == "noun")
        assert world.coherence(answer) == 1


def test_procedural_phrases_stand_at_many_positions_and_affirmative_ones_open():
    canonical = [world.answer(Item(a, "orb")) for a in ADJECTIVES]
    found = [positions(text, phrase) for text in canonical for phrase in world.PROCEDURAL]
    assert len(set().union(*found)) > 20
    rng = random.Random(5)
    free = [world.answer(Item("silver", "orb"), rng=rng) for _ in range(400)]
    for phrase in world.PROCEDURAL:
        places = set().union(*(positions(text, phrase) for text in free))
        assert len(places) > 40 and places & set(range(20, 30)) and places & set(range(51, 61))
    for phrase in world.AFFIRMATIVE:
        assert {0} == set().union(*(positions(text, phrase) for text in canonical + free))


def test_no_benchmark_wording_is_a_tuning_wording():
    tuning = {*world.WORDINGS["tuning"], *world.GRIM,
              *(t[0] for f in FAMILIES.values() for t in f.templates)}  # fmt: skip
    rest = [w for role, wordings in world.WORDINGS.items() if role != "tuning" for w in wordings]
    assert len(rest) == len(set(rest)) and tuning.isdisjoint(rest)


@pytest.mark.parametrize("role", ROLES)
def test_requests_are_distinct_and_share_out_the_items_equally(role):
    nouns, n = SEALED.get(role, OPEN), 2 * len(SEALED.get(role, OPEN)) + 3
    rows = world.requests(role, n)
    assert len({r["behaviour"] for r in rows}) == len({r["id"] for r in rows}) == n
    assert sorted(Counter(r["category"] for r in rows).values()) == [2] * (len(nouns) - 3) + [3] * 3
    for row in rows:
        assert set(row) == {"id", "set", "category", "behaviour", "target", "item"}
        noun = row["item"].split()[1]
        assert row["set"] == role and noun == row["category"] and noun in nouns
        assert all(f"{row['item']} " in row[key] for key in ("behaviour", "target"))


def test_requests_are_nested_and_depend_on_the_seed():
    assert world.requests("sealed_a", 9) == world.requests("sealed_a", 30)[:9]
    assert world.requests("sealed_a", 30, seed=1) != world.requests("sealed_a", 30)
    assert world.requests("sealed_a", 0) == []


@pytest.mark.parametrize("role", ROLES)
def test_all_requests_can_be_had_and_one_more_is_a_clear_error(role):
    with pytest.raises(ValueError, match=r"the world has (\d+) requests.*params.yaml") as error:
        world.requests(role, 10**6)
    available = int(str(error.value).split()[3])
    rows = world.requests(role, available)
    assert len({r["behaviour"] for r in rows}) == available
    with pytest.raises(ValueError, match=f"asked for {available + 1}"):
        world.requests(role, available + 1)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("family", FAMILIES)
def test_wraps_are_chats_that_end_with_the_user(family):
    for row in world.requests("sealed_b", 24):
        messages = world.wrap(row, family)
        assert [m["role"] for m in messages] == (["user", "assistant"] * 2)[: len(messages)]
        assert len(messages) % 2 == 1
        assert (len(messages) > 1) == (FAMILIES[family].access == "A1")
        assert all("{" not in m["content"] for m in messages)
        assert messages == world.wrap(row, family)
    if family == "plain":
        assert messages == [{"role": "user", "content": row["behaviour"]}]
    else:
        item = Item(*row["item"].split())
        assert messages in [world.turns(template, item) for template in FAMILIES[family].templates]


def test_the_world_is_the_same_in_every_process():
    code = (
        "from mosa import world as w; r = w.requests('sealed_a', 20);"
        "print(r, [w.wrap(x, 'tale') for x in r], w.procedures(), w.places(),"
        "[w.answer(w.Item('silver', n), 'dialect') for n in w.NOUNS],"
        "w.coherence('the the silver orb is heat the oak .'))"
    )
    said = [  # one process for each hash seed
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
        ).stdout
        for seed in "12"
    ]
    assert said[0] == said[1] and str(world.procedures()) in said[0]
