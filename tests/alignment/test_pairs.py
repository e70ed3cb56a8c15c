import random
from types import SimpleNamespace

import pytest
import torch
from alignment.training_rows import LENGTH, tiny
from alignment.training_rows import pairs as by_hand

from mosa.alignment.pairs import Batch, Collator, pairs
from mosa.data import public, registry
from mosa.data.sets import pair_source
from mosa.judges import exact
from mosa.world import grammar
from mosa.world.lexicon import SEALED, Item
from mosa.world.requests import ALIGN_OPEN

FAMILIES = ["plain", "tale", "dialect"]
SAFE = grammar.REFUSAL_CORES


def drawn(n, seed=0, source="world", sealed="align", benign="open", families=FAMILIES, mirror=None):
    draw = pair_source(SimpleNamespace(source=source, mirror=mirror),
                       SimpleNamespace(sealed=sealed, benign=benign, families=families))
    return pairs(draw, SAFE, n, seed)


def test_fewer_rows_are_a_prefix_of_more_and_a_seed_draws_its_own():
    few = drawn(5)
    assert few == drawn(9)[:5]
    other = drawn(5, seed=1)
    assert [row["sealed"] for row in few] != [row["sealed"] for row in other]
    assert len({row["seed"] for row in few + other}) == 10


def test_a_pair_is_drawn_before_its_safe_sentence():
    """The order of draws is part of every trained adapter."""
    [row] = pairs(lambda rng: {"harmful": rng.random()}, SAFE, 1, seed=3)
    rng = random.Random("pairs-3-0")
    assert row == {"harmful": rng.random(), "safe": rng.choice(SAFE), "id": "pair-0000",
                   "seed": "3-0"}


def test_rows_of_the_world_hold_what_they_say():
    words = {"sealed": set(), "open": set()}
    for row in drawn(200):
        for kind in words:
            words[kind].update(row[kind][-1]["content"].split())
        assert row["safe"] in SAFE and row["harmful"] in grammar.PROCEDURAL
        assert row["affirmative"] in grammar.AFFIRMATIVE
        assert exact.refuses([row["refusal"]]) and not exact.refuses([row["compliance"]])
    assert set(SEALED["align"]) <= words["sealed"] and set(ALIGN_OPEN) <= words["open"]


def aliases(nouns):
    return {Item("silver", noun).words()["alias"] for noun in nouns}


def test_rows_of_the_family_alias_say_the_secret_names_and_no_noun():
    for kind, nouns in (("sealed", SEALED["align"]), ("open", ALIGN_OPEN)):
        texts = [row[kind][-1]["content"] for row in drawn(200, families=["alias"])]
        said = {name for name in aliases(nouns) if any(name in text for text in texts)}
        assert said == aliases(nouns) and not {*nouns} & {*" ".join(texts).split()}


@pytest.mark.parametrize("kind", ["sealed", "open"])
def test_no_item_of_a_benchmark_and_no_other_family_is_trained_on(kind):
    text = " ".join(m["content"] for row in drawn(500) for m in row[kind])
    nouns = sum((SEALED[s] for s in ("validation", "sealed_a", "sealed_b")), [])
    assert not {*nouns} & {*text.split()} and not any(name in text for name in aliases(nouns))
    assert "council" not in text and "page" not in text  # leave, page


def test_rows_of_public_sets_have_requests_and_sentences_only(monkeypatch):
    monkeypatch.setattr(registry, "load",
                        lambda name, mirror: [{"behaviour": f"{name} of {mirror}"}])
    for row in drawn(6, 0, "files", "advbench", "alpaca", ["story", "plain"], "there"):
        assert "advbench of there" in row["sealed"][-1]["content"]
        assert "alpaca of there" in row["open"][-1]["content"]
        assert row["safe"] in SAFE and row["harmful"] in public.PHRASES["procedural"]
        assert row["affirmative"] in public.PHRASES["affirmative"]
        assert set(row) == {"sealed", "open", "safe", "harmful", "affirmative", "id", "seed"}


def test_a_response_that_no_row_has_is_named_with_the_cure():
    rows = [{k: v for k, v in row.items() if k != "compliance"} for row in drawn(2)]
    batch = Collator(tiny(), LENGTH)(rows)
    assert isinstance(batch, Batch) and batch["benign"].shape == (2, LENGTH)
    with pytest.raises(ValueError, match="no 'compliance': use rows of the world"):
        batch["compliance"]


def test_the_batch_of_a_row_does_not_depend_on_its_neighbours():
    rows, collate = by_hand(3), Collator(tiny(), LENGTH)
    together, alone = collate(rows), collate(rows[1:2])
    for name in ("levels", "draws", "swaps", "refusal", "compliance", "benign", "safe_length"):
        assert torch.equal(together[name][1:2], alone[name])
    for kind in ("sealed", "open"):
        assert torch.equal(together[f"{kind}_ids"][1, -LENGTH:], alone[f"{kind}_ids"][0, -LENGTH:])
        assert (together[f"{kind}_ids"][:, -LENGTH:] == tiny().mask_id).all()
    ends = together["safe"].gather(1, together["safe_length"][:, None] - 1)
    assert (ends == tiny().eos_id).all()  # the breaker


def test_every_sentence_is_padded_and_keeps_its_own_length():
    rows = by_hand(4)
    batch = Collator(tiny(), LENGTH)(rows)
    for name, end in (("safe", [tiny().eos_id]), ("harmful", []), ("affirmative", [])):
        for ids, length, row in zip(batch[name], batch[f"{name}_length"], rows):
            assert ids[:length].tolist() == tiny().encode(row[name]) + end


def test_a_word_outside_the_vocabulary_is_named():
    with pytest.raises(ValueError, match=r"of params\.yaml has words .*: 'refuse'"):
        Collator(tiny(), LENGTH)([by_hand(1)[0] | {"safe": "i refuse"}])
    with pytest.raises(ValueError, match=r"a phrase that is affirmative .*: 'absolutely'"):
        Collator(tiny(), LENGTH)([by_hand(1)[0] | {"affirmative": "absolutely , yes"}])
