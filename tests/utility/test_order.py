"""The order of a response, on orders that are known; above all, that random ones show none."""

import numpy as np
import pytest

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


def test_p_is_below_a_twentieth_where_the_interval_leaves_0_out():
    rng = np.random.default_rng(0)
    for _ in range(200):
        values = rng.normal(0.5, 1, 12)
        clusters = [rng.integers(4, size=12), rng.integers(6, size=12)][: rng.integers(3)]
        found = order.mean(values, clusters)
        assert (found["p"] < 0.05) == (words.verdict(found) != "undecided")


def test_equal_values_are_tested_by_their_signs():
    assert order.mean([1.0] * 12)["p"] == 2 * 0.5**12
    assert order.mean([0.0] * 12)["p"] == 1 and order.mean([1.0, 1.0])["p"] == 0.5


def test_random_slots_show_no_order():
    """Of 40 tables of 4 cells, about 2 have a false one: Holm's promise."""
    rng, false = np.random.default_rng(1), 0
    for _ in range(40):
        rows = [row(rng.permutation(24) // 2, run=run, category=i % 6, wording=i % 4)
                for run in range(4) for i in range(12)]
        found = order.correlations(rows, "run")
        false += any(order.direction(cell) not in ("no order shown", "undecided")
                     for cell in found.values())
    assert false <= 5


def test_an_order_is_shown_and_its_limits_are_no_larger_than_1():
    rows = [row(range(10), run="a"), row([9, *range(1, 9), 0], run="a")]
    rows += [row(range(10, 0, -1), run="b")] * 8
    found = order.correlations(rows, "run")
    assert found["a"]["high"] == 1.0
    assert order.direction(found["a"]) == "no order shown"  # two responses
    assert order.direction(found["b"]) == "right to left"
    assert order.direction({"mean": 0.2, "low": 0.1, "high": 0.3, "p, Holm": 0.2}) == "undecided"


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
