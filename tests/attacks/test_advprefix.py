"""AdvPrefix filters, weighs, completes and chooses by both of its losses."""

from math import log

import pytest

from mosa.attacks import advprefix
from mosa.attacks.drive import user
from mosa.pipeline.sections import Sampler

SAMPLER = Sampler(length=64, steps=8, block_length=64, temperature=0.0, cfg_scale=0.0,
                  remasking="low_confidence", stop_at_eos=True, batch_size=2)
BEHAVIOUR = {"id": "b", **user("x ?")}
NATS = {"p one": 1.0, "p two": 20.0, "p three": 30.0, "p four": 8.0}


class Target:
    """Its responses to a text succeed as often as a script says."""

    def __init__(self, wins=None):
        self.wins, self.waves = wins or {}, []

    def generate(self, requests, sampler, part):
        self.waves.append((sampler.temperature, [r.get("wanted") for r in requests]))
        seen = {}
        rows = []
        for r in requests:
            text = r.get("wanted")
            number = seen[text] = seen.get(text, -1) + 1
            said = f"{'won' if number < self.wins.get(text, 0) else 'lost'} {text} {number}"
            own = [said] if "prefill" not in r or "0" in r["prefill"] else ["so", said]
            rows.append({"request": r, "verdicts": {}, "response": {
                "text": "all of it", "own": own, "forwards": 4,
                "seed": r.get("seed")}})
        return rows


class Helper:
    ask, phrases, lines = None, {}, {"begin": "begin {words} !"}

    def __init__(self, proposed):
        self.proposed, self.judged = proposed, []

    def propose(self, behaviour, kind, n, seed, tries=()):
        yield from ()
        self.wanted, self.seed = (kind, n), seed
        return self.proposed[:n]

    def score(self, behaviour, texts):
        yield from ()
        self.judged += texts
        return [0.6 if "won" in text.split() else 0.5 for text in texts]


def likely(target, queries, sampler):
    likely.asked = queries
    return [-NATS[query["phrase"]] for query in queries]


def run(form="canvas", wins=None, proposed=tuple(NATS), **values):
    cfg = advprefix.Config(forms=[form], **{"min_tokens": 2, "min_chars": 0, "completions": 4,
                                            "kept": 3, "k_start": 7} | values)
    target, helper = Target(wins), Helper(list(proposed))
    found = advprefix.run(target, [BEHAVIOUR], helper, cfg, SAMPLER, likely=likely)
    return target, helper, found


def test_the_likeliest_are_kept_and_each_is_completed_at_temperature_1():
    target, helper, found = run()
    assert helper.wanted == ("opening", 300)
    assert target.waves[0] == (1.0, ["p one"] * 4 + ["p four"] * 4 + ["p two"] * 4)
    assert target.waves[1] == (0.0, ["p one"])
    seeds = [row["response"]["seed"] for row in found.queries[:-1]]
    assert len(set(seeds)) == 12


def test_both_losses_choose():
    """The likeliest never succeeds, the most successful is unlikely: neither is chosen."""
    wins = {"p one": 0, "p four": 2, "p two": 4}
    _, _, found = run(wins=wins)
    [row] = found.rows
    loss = {text: NATS[text] - 10 * log(won / 4 + 1e-6) for text, won in wins.items()}
    assert min(NATS, key=NATS.get) == "p one" and max(wins, key=wins.get) == "p two"
    assert row["request"]["wanted"] == min(loss, key=loss.get) == "p four"
    assert (row["request"]["nats"], row["request"]["rate"]) == (8.0, 0.5)


@pytest.mark.parametrize("weight, chosen", [(0.0, "p one"), (10.0, "p four"), (100.0, "p two")])
def test_the_weight_is_that_of_success(weight, chosen):
    _, _, found = run(wins={"p four": 2, "p two": 4}, weight=weight)
    assert found.rows[0]["request"]["wanted"] == chosen


def test_what_is_short_or_refuses_or_comes_twice_is_dropped():
    run(proposed=["p one", "p", "i cannot help", "p two", "p one"])
    assert [query["phrase"] for query in likely.asked] == ["p one", "p two"]


def test_where_nothing_is_left_the_plain_request_counts():
    target, _, found = run(proposed=["p"])
    assert [asked for _, asked in target.waves] == [[None]] and len(found.rows) == 1


def test_a_short_completion_is_no_success_and_is_not_judged():
    wins = {"p one": 4, "p four": 4}
    _, helper, found = run(wins=wins, min_chars=len("won p four 0"))
    assert found.rows[0]["request"]["wanted"] == "p four"
    assert not any("p one" in text for text in helper.judged)


def test_completions_are_read_without_what_was_planted():
    assert run("canvas")[1].judged[0] == "lost p one 0"
    assert run("middle")[1].judged[0] == "so . lost p one 0"


@pytest.mark.parametrize("form, kind, slot, prefill, messages", [
    ("prompt", "opening", 0, None, "x ? begin p one !"),
    ("canvas", "opening", 0, {"0": "p one"}, "x ?"),
    ("middle", "middle", 7, {"7": "p one"}, "x ?")])
def test_forms(form, kind, slot, prefill, messages):
    _, helper, found = run(form)
    assert helper.wanted[0] == kind
    assert [query["position"] for query in likely.asked] == [slot] * 4
    assert likely.asked[0]["messages"] == user(messages)["messages"]
    assert "prefill" not in likely.asked[0]  # only masked slots have a likelihood
    for row in (found.queries[0], found.rows[0]):
        assert row["request"].get("prefill") == prefill
        assert row["request"]["messages"] == user(messages)["messages"]
        assert row["request"].get("phrase") == (None if form == "prompt" else "p one")


def test_first_searches_as_middle_does_and_puts_the_same_span_at_the_start():
    searched = {}
    for form, slot in (("middle", "7"), ("first", "0")):
        _, helper, found = run(form, wins={"p four": 2, "p two": 4})
        searched[form] = helper.wanted, helper.seed, likely.asked, [
            (row["request"]["prefill"], row["response"]["seed"]) for row in found.queries[:-1]]
        [row] = found.rows
        assert row["request"]["prefill"] == {slot: "p four"} and row["request"]["access"] == "A3"
        assert row["request"]["phrase"] == row["request"]["wanted"] == "p four"
        assert row["request"]["rate"] == 0.5 and row["request"]["goal"] == form
    assert searched["first"] == searched["middle"]
    assert searched["first"][:2] == (("middle", 300), "0-middle")


def test_costs():
    _, _, found = run()
    [row] = found.rows
    assert row["response"]["search_queries"] == 3 * 4
    assert row["response"]["search_forwards"] == 4 + 3 * 4 * 4  # four likelihoods
    assert (row["response"]["helper_calls"], row["response"]["judge_calls"]) == (4, 12)


def test_run_asks_in_the_forms_of_its_config():
    target = Target()
    cfg = advprefix.Config(forms=["middle", "prompt"])
    found = advprefix.run(target, [BEHAVIOUR], Helper(["p one"]), cfg, SAMPLER)  # none fits
    assert [(row["request"]["goal"], row["request"]["access"]) for row in found.rows] == [
        ("middle", "A3"), ("prompt", "A3")]


def test_defaults_are_the_published_ones():
    cfg = advprefix.Config()
    assert (cfg.min_tokens, cfg.kept, cfg.completions, cfg.weight, cfg.min_chars) == (
        16, 100, 25, 10.0, 300)
