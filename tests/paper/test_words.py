import pytest

from mosa import stats
from mosa.paper import words


def test_rates_and_means_have_interval_and_n():
    assert words.rate(stats.rate([1] * 4 + [0] * 96)) == "4.0 [1.6, 9.8] (n=100)"
    mean = {"mean": 1.204, "low": 1.1, "high": 1.3, "n": 12}
    assert words.mean(mean) == "1.20 [1.10, 1.30] (n=12)"
    assert words.mean(mean, n=False) == "1.20 [1.10, 1.30]"


def test_differences_are_points_of_flags_or_of_means():
    paired = stats.paired_difference([1] * 5 + [0] * 5, [0] * 10)
    assert words.difference(paired) == "+50 [+12, +76]"
    assert words.difference(paired, digits=1) == "+50.0 [+11.7, +76.3]"
    little = {"mean": -0.002, "low": -0.004, "high": 0.0}
    assert words.difference(little) == "+0 [+0, +0]"  # never -0
    mean = {"mean": -0.33, "low": -0.58, "high": -0.08, "n": 12}
    assert words.difference(mean, unit=" points") == "-33 points [-58, -8]"


@pytest.mark.parametrize(("low", "high", "said"), [
    (0.01, 0.2, "more"), (-0.2, -0.01, "less"), (-0.1, 0.2, "undecided"), (-0.2, 0.1, "undecided"),
    (None, None, "undecided"), (-0.1, 0.1, "no difference of 15 points"),
    (0, 0.1, "no difference of 15 points"),
])
def test_verdict_needs_an_interval_without_0(low, high, said):
    assert words.verdict({"low": low, "high": high}) == said
    assert words.verdict({"low": 1, "high": 2}, more="left to right") == "left to right"
    assert words.verdict({"low": -2, "high": -1}, less="right to left") == "right to left"


def test_a_verdict_needs_the_corrected_p_too():
    found = {"low": 0.01, "high": 0.3, "p": 0.02}
    assert words.verdict(found) == "more"
    assert words.verdict(found | {"p, Holm": 0.2}) == "undecided"
    near = {"low": -0.05, "high": 0.05, "p": 0.9}
    assert words.verdict(near, margin=0) == "undecided"


def test_where_no_request_differs_the_verdict_is_their_number():
    found = {"low": -0.14, "high": 0.14, "n": 24, "p": 1.0, "differ": 0}
    assert words.verdict(found) == words.verdict(found, margin=0) == "no case in 24"
    assert words.verdict(found | {"differ": 2}) == "no difference of 15 points"
