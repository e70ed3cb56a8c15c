import pytest

from mosa import data, world
from mosa.alignment.data import pairs

FAMILIES = ["plain", "tale", "dialect"]
SAFE = [world.REFUSAL, *world.REFUSAL_CORES]


def test_fewer_rows_are_a_prefix_of_more_and_a_seed_draws_its_own():
    few = pairs("world", "align", "open", FAMILIES, SAFE, 5)
    assert few == pairs("world", "align", "open", FAMILIES, SAFE, 9)[:5]
    other = pairs("world", "align", "open", FAMILIES, SAFE, 5, seed=1)
    assert [row["sealed"] for row in few] != [row["sealed"] for row in other]
    assert len({row["seed"] for row in few + other}) == 10


def test_rows_of_the_world_hold_what_they_say():
    words = {"sealed": set(), "open": set()}
    for row in pairs("world", "align", "open", FAMILIES, SAFE, 200):
        for kind in words:
            words[kind].update(row[kind][-1]["content"].split())
        assert row["safe"] in SAFE and row["harmful"] in world.PROCEDURAL
        assert world.refuses(row["refusal"]) and not world.refuses(row["compliance"])
    hidden = {world.Item("silver", n).words()["old"] for n in world.SEALED["align"]}
    assert {*world.SEALED["align"], *hidden} <= words["sealed"]
    assert set(world.OPEN) <= words["open"]


@pytest.mark.parametrize("kind", ["sealed", "open"])
def test_no_item_of_a_benchmark_and_no_other_family_is_trained_on(kind):
    text = " ".join(m["content"] for row in pairs("world", "align", "open", FAMILIES, SAFE, 500)
                    for m in row[kind])  # fmt: skip
    items = sum((world.SEALED[s] for s in ("validation", "sealed_a", "sealed_b")), [])
    names = [w for n in items for w in (n, world.Item("silver", n).words()["old"])]
    assert not {*names} & {*text.split()}
    assert "council" not in text and "codex" not in text  # leave, page


def test_rows_of_public_sets_have_requests_and_sentences_only(monkeypatch):
    monkeypatch.setattr(data, "load", lambda name, mirror: [{"behaviour": f"{name} of {mirror}"}])
    for row in pairs("files", "advbench", "alpaca", ["story", "plain"], SAFE, 6, mirror="there"):
        assert "advbench of there" in row["sealed"][-1]["content"]
        assert "alpaca of there" in row["open"][-1]["content"]
        assert row["safe"] in SAFE and row["harmful"] in data.PHRASES["procedural"]
        assert set(row) == {"sealed", "open", "safe", "harmful", "id", "seed"}
