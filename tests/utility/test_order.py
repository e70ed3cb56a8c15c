"""The order of a response, on orders that are known; above all, that random ones show none."""

import numpy as np
import pytest
from scipy import stats

from mosa.paper import words
from mosa.utility import order
from mosa.world import grammar, lexicon, requests


def row(steps, tokens=None, **more):
    return {"reveal_step": list(steps), "tokens": len(steps) if tokens is None else tokens} | more


def test_a_correlation_is_that_of_position_and_step():
    assert order.correlation(row(range(9))) == pytest.approx(1)
    assert order.correlation(row(range(9, 0, -1))) == pytest.approx(-1)
    tail = row([4, 5, 6, 7, 3, 2, 1, 0], tokens=4)  # EOS tokens come first, from the right
    assert order.correlation(tail) == pytest.approx(1) and order.correlation(tail, "all") < 0


@pytest.mark.parametrize("steps", [[], [0, 1], [3, 3, 3, 3]])
def test_without_an_order_there_is_none(steps):
    assert order.correlation(row(steps)) is None


def test_responses_without_an_order_are_left_out():
    rows = [row(range(5), run="a"), row(range(5), run="a"), row([0], run="a"),
            row(range(5), run="b")]
    found = order.correlations(rows, "run")
    assert set(found) == {"a"} and found["a"]["n"] == 2


def way(found):
    return words.verdict(found, "left to right", "right to left", margin=0)


def test_random_slots_show_no_order():
    """Of 40 tables of 4 cells, about 2 have a false one: Holm's promise."""
    rng, false = np.random.default_rng(1), 0
    for _ in range(40):
        rows = [row(rng.permutation(24) // 2, run=run, category=i % 6, wording=i % 4)
                for run in range(4) for i in range(12)]
        found = order.correlations(rows, "run")
        false += any(way(cell) != "undecided" for cell in found.values())
    assert false <= 5


def test_an_order_is_shown_and_its_limits_are_no_larger_than_1():
    rows = [row(range(10), run="a"), row([9, *range(1, 9), 0], run="a")]
    rows += [row(range(10, 0, -1), run="b")] * 8
    found = order.correlations(rows, "run")
    assert found["a"]["high"] == 1.0
    assert way(found["a"]) == "undecided"  # two responses
    assert way(found["b"]) == "right to left"


def test_two_sets_of_responses_are_compared_as_means_of_their_own():
    """Without clusters of several rows: Welch's interval, but for its degrees of freedom."""
    rng = np.random.default_rng(2)
    first, second = ([{"rho": rho} for rho in rng.normal(mean, 0.2, n)]
                     for mean, n in ((0.9, 12), (0.4, 8)))
    found = order.apart(first, second)
    welch = stats.ttest_ind([r["rho"] for r in first], [r["rho"] for r in second], equal_var=False)
    assert found["n"] == 20 and welch.pvalue < found["p"] < 0.01
    limits = welch.confidence_interval()
    assert (found["low"], found["high"]) == pytest.approx((limits.low, limits.high), abs=0.05)
    assert order.apart(first, first)["mean"] == 0 and order.apart(first, first)["p"] == 1
    wide = order.apart([r | {"category": i % 2} for i, r in enumerate(first)], second)
    assert wide["high"] - wide["low"] > found["high"] - found["low"]


def test_two_sets_of_equal_responses_have_no_p():
    same = [{"rho": 1.0}] * 3
    assert order.apart(same, same) == {
        "mean": 0, "low": None, "high": None, "n": 6, "p": 1}


def test_mean_positions_on_a_line_are_linear():
    assert order.linearity([row(range(8))] * 2, 8) == pytest.approx(1)
    assert order.linearity([row([0, 1, 2, 3, 2, 1, 0])] * 2, 4) is None  # every step at the middle
    assert 0.5 < order.linearity([row([0, 3, 4, 5, 5, 5, 5, 5])] * 2, 5) < 0.95
    assert order.linearity([row([0, 0, 1])] * 2, 2) is None


def test_no_line_passes_through_less_than_three_quarters_of_the_steps():
    assert order.linearity([row(range(6))] * 2, 8) == pytest.approx(1)
    assert order.linearity([row(range(5))] * 2, 8) is None


def test_a_text_belongs_to_what_became_of_its_request():
    answered, refused = {"success": True, "refused": False}, {"success": False, "refused": True}
    assert order.outcome({"kind": "benign"} | answered) == "benign, answered"
    assert order.outcome({"kind": "adversarial"} | answered) == "adversarial, leaked"
    assert order.outcome({"kind": "benign"} | refused) == "benign, refused"
    assert order.outcome({"kind": "benign", "success": False, "refused": False}) == "benign, other"
    assert order.outcome({"kind": "arithmetic"}) == "arithmetic"


def test_each_response_counts_once_at_a_step():
    found = order.by_step([row([0, 0, 0, 1]), row([1, 0, 2, 2])])
    assert [(at["step"], at["mean"], at["n"]) for at in found] == [(0, 1.0, 2), (1, 1.5, 2)]


def test_a_step_at_which_most_reveal_nothing_is_left_out():
    rows = [row([0, 1])] * 2 + [row([0, 0])] * 4
    assert [at["step"] for at in order.by_step(rows)] == [0]
    assert [at["step"] for at in order.by_step(rows[:4])] == [0, 1]


def test_the_exact_predictor_writes_its_grammar_from_left_to_right():
    some = requests.requests("sealed_a", 1)
    for kind in ("answer", "refusal"):
        [one] = order.exact(some, kind, lexicon.LENGTH, 32)
        assert order.correlation(one) > 0.8
        assert len(one["reveal_step"]) == lexicon.LENGTH and one["item"] == some[0]["item"]
        assert any(core in one["text"] for core in grammar.REFUSAL_CORES) == (kind == "refusal")


@pytest.mark.parametrize(("low", "mean", "high", "said"), [
    (0.2, 0.3, 0.4, "left to right"), (-0.4, -0.3, -0.2, "right to left"),
    (-0.14, -0.08, -0.01, "hardly any order"), (-0.05, 0.01, 0.07, "hardly any order"),
    (-0.2, 0.05, 0.3, "undecided"), (-0.02, 0.15, 0.3, "undecided"),
    (None, 0.05, None, "undecided")])
def test_the_way_of_an_order(low, mean, high, said):
    assert order.way({"mean": mean, "low": low, "high": high, "n": 9, "p": 0.01}) == said
