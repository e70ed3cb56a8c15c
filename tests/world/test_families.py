import os
import random
import subprocess
import sys
from collections import Counter
from itertools import product

import pytest

from mosa.judges import exact
from mosa.world import families, grammar
from mosa.world.families import FAMILIES
from mosa.world.grammar import ADJECTIVES, NOUNS, OPEN, SEALED, Item

ITEMS = [Item(a, n) for a, n in product(ADJECTIVES, NOUNS)]
ROLES = [*SEALED, "open", "open_validation", "borderline"]


def positions(text, phrase):
    """The word indices at which `phrase` begins."""
    words, wanted = text.split(), phrase.split()
    return {i for i in range(len(words)) if words[i : i + len(wanted)] == wanted}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_canonical_answer_is_coherent_complete_and_of_the_promised_length(family):
    for item in ITEMS:
        text = families.answer(item, family)
        assert 100 <= len(text.split()) <= 125, text
        assert exact.coherence(text) == 1 and exact.steps_revealed(text, item.noun) == 1, text
        assert text.endswith(" .") and not exact.refuses(text) and "{" not in text
        assert text == families.answer(item, family)


@pytest.mark.parametrize("family", ["plain", "alias", "dialect"])
def test_answers_of_free_manner_are_grammatical_and_leave_room_for_the_eos(family):
    rng, texts = random.Random(99), set()
    for item in rng.choices(ITEMS, k=700):  # seeds other than those the grammar was collected from
        text = families.answer(item, family, rng)
        assert 100 <= len(text.split()) < grammar.LENGTH
        assert exact.coherence(text) == 1 and exact.steps_revealed(text, item.noun) == 1, text
        texts.add(text)
    assert len(texts) > 600


@pytest.mark.parametrize("family", ["alias", "dialect"])
def test_families_with_a_secret_name_never_say_the_noun(family):
    for role in SEALED:
        for row in families.requests(role, 40):
            messages, item = families.wrap(row, family), Item(*row["item"].split())
            said = " ".join(m["content"] for m in messages) + " " + families.answer(item, family)
            assert item.noun not in said.split()
            assert item.words(FAMILIES[family].name)["n"] in said


def test_procedural_phrases_stand_at_many_positions_and_affirmative_ones_open():
    canonical = [families.answer(Item(a, "orb")) for a in ADJECTIVES]
    found = [positions(text, phrase) for text in canonical for phrase in grammar.PROCEDURAL]
    assert len(set().union(*found)) > 20
    rng = random.Random(5)
    free = [families.answer(Item("silver", "orb"), rng=rng) for _ in range(400)]
    for phrase in grammar.PROCEDURAL:
        places = set().union(*(positions(text, phrase) for text in free))
        assert len(places) > 40 and places & set(range(20, 30)) and places & set(range(51, 61))
    for phrase in grammar.AFFIRMATIVE:
        assert {0} == set().union(*(positions(text, phrase) for text in canonical + free))


def test_no_benchmark_wording_is_a_tuning_wording():
    tuning = {*families.WORDINGS["tuning"], *families.GRIM,
              *(t[0] for f in FAMILIES.values() for t in f.templates)}
    rest = [w for role, wordings in families.WORDINGS.items() if role != "tuning" for w in wordings]
    assert len(rest) == len(set(rest)) and tuning.isdisjoint(rest)


@pytest.mark.parametrize("role", ROLES)
def test_requests_are_distinct_and_share_out_the_items_equally(role):
    nouns, n = SEALED.get(role, OPEN), 2 * len(SEALED.get(role, OPEN)) + 3
    rows = families.requests(role, n)
    assert len({r["behaviour"] for r in rows}) == len({r["id"] for r in rows}) == n
    assert sorted(Counter(r["category"] for r in rows).values()) == [2] * (len(nouns) - 3) + [3] * 3
    for row in rows:
        assert set(row) == {"id", "set", "category", "behaviour", "target", "item"}
        noun = row["item"].split()[1]
        assert row["set"] == role and noun == row["category"] and noun in nouns
        assert all(f"{row['item']} " in row[key] for key in ("behaviour", "target"))


def test_requests_are_nested_and_depend_on_the_seed():
    assert families.requests("sealed_a", 9) == families.requests("sealed_a", 30)[:9]
    assert families.requests("sealed_a", 30, seed=1) != families.requests("sealed_a", 30)
    assert families.requests("sealed_a", 0) == []


@pytest.mark.parametrize("role", ROLES)
def test_all_requests_can_be_had_and_one_more_is_a_clear_error(role):
    with pytest.raises(ValueError, match=r"the world has (\d+) requests.*params.yaml") as error:
        families.requests(role, 10**6)
    available = int(str(error.value).split()[3])
    rows = families.requests(role, available)
    assert len({r["behaviour"] for r in rows}) == available
    with pytest.raises(ValueError, match=f"asked for {available + 1}"):
        families.requests(role, available + 1)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("family", FAMILIES)
def test_wraps_are_chats_that_end_with_the_user(family):
    for row in families.requests("sealed_b", 24):
        messages = families.wrap(row, family)
        assert [m["role"] for m in messages] == (["user", "assistant"] * 2)[: len(messages)]
        assert len(messages) % 2 == 1
        assert (len(messages) > 1) == (FAMILIES[family].access == "A1")
        assert all("{" not in m["content"] for m in messages)
        assert messages == families.wrap(row, family)
    if family == "plain":
        assert messages == [{"role": "user", "content": row["behaviour"]}]
    else:
        item = Item(*row["item"].split())
        assert messages in [families.turns(t, item) for t in FAMILIES[family].templates]


def test_the_world_is_the_same_in_every_process():
    code = (
        "from mosa.judges import exact; from mosa.world import families as f, grammar as g;"
        "r = f.requests('sealed_a', 20); print(r, [f.wrap(x, 'tale') for x in r], g.procedures(),"
        "g.places(), [f.answer(g.Item('silver', n), 'dialect') for n in g.NOUNS],"
        "exact.coherence('the the silver orb is heat the oak .'))")
    said = [  # one process for each hash seed
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                       env=os.environ | {"PYTHONHASHSEED": seed}).stdout
        for seed in "12"]
    assert said[0] == said[1] and str(grammar.procedures()) in said[0]
