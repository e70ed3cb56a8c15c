import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mosa.stats import kappa, mcnemar, mean, paired_difference, rate, spearman

Z = 1.959963984540054


def flags(k, n):
    return [True] * k + [False] * (n - k)


def pairs(a, b, c, d):
    """Two lists of flags with a pairs both true, b only the first, c only the second, d neither."""
    return flags(a + b, a + b + c + d), [1] * a + [0] * b + [1] * c + [0] * d


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    # Newcombe, Statistics in Medicine 17 (1998), 857-872, table I, method 3
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_rate_gives_newcombes_wilson_limits(k, n, low, high):
    found = rate(flags(k, n))
    assert (found["k"], found["n"], found["rate"]) == (k, n, k / n)
    assert found["low"] == pytest.approx(low, abs=5e-5)
    assert found["high"] == pytest.approx(high, abs=5e-5)


@given(st.lists(st.booleans(), min_size=1, max_size=60))
@settings(max_examples=60, deadline=None)
def test_rate_solves_the_score_equation(values):
    found = rate(values)
    p, n = found["rate"], found["n"]
    assert 0 <= found["low"] <= p <= found["high"] <= 1
    for limit in (found["low"], found["high"]):  # |p - limit| = z * se(limit), or limit = p
        expected = Z * math.sqrt(limit * (1 - limit) / n)
        assert abs(p - limit) == pytest.approx(expected, abs=1e-7)


def test_rate_takes_lists_arrays_and_numbers():
    assert rate([1, 0, 1, 1]) == rate(np.array([True, False, True, True])) == rate([1.0, 0, 1, 1])
    assert rate(flags(5, 5))["high"] == 1.0 and rate(flags(0, 5))["low"] == 0.0
    assert all(type(v) in (int, float) for v in rate([1, 0]).values())  # JSON-able


def test_mean_of_a_normal_sample_is_near_its_t_interval():
    values = np.random.default_rng(1).normal(3, 2, 200)
    found = mean(values.tolist())
    half = 1.972 * values.std(ddof=1) / math.sqrt(200)  # t quantile, 199 degrees of freedom
    assert found["mean"] == pytest.approx(values.mean())
    assert found["low"] == pytest.approx(values.mean() - half, abs=0.03)
    assert found["high"] == pytest.approx(values.mean() + half, abs=0.03)


def test_mean_is_deterministic_and_seeded():
    values = [0.1, 0.5, 0.2, 3.0, 1.0]
    assert mean(values) == mean(values)
    many = np.random.default_rng(0).random(50)
    assert mean(many, seed=1) != mean(many, seed=0)
    assert mean([2.0] * 5) == {"mean": 2.0, "low": 2.0, "high": 2.0, "n": 5}


def test_mcnemar_gives_the_known_p():
    # statsmodels' documented example, and Bentur et al. 2009 in Fagerland, Lydersen and Laake
    found = mcnemar(*pairs(101, 121, 59, 33))
    assert (found["only_first"], found["only_second"], found["n"]) == (121, 59, 314)
    assert found["p"] == pytest.approx(4.434444926375551e-06)
    assert mcnemar(*pairs(1, 1, 7, 12))["p"] == pytest.approx(2 * (1 + 8) / 2**8)


@given(st.integers(0, 12), st.integers(0, 12))
@settings(max_examples=40, deadline=None)
def test_mcnemar_is_twice_the_binomial_tail(b, c):
    tail = sum(math.comb(b + c, i) for i in range(min(b, c) + 1)) / 2 ** (b + c)
    assert mcnemar(*pairs(3, b, c, 2))["p"] == pytest.approx(min(1, 2 * tail))


@pytest.mark.parametrize(
    ("table", "difference", "low", "high"),
    [
        # Altman et al., Statistics with Confidence (2000), table 6.2
        ((14, 5, 0, 22), 0.122, 0.011, 0.226),
        # Fagerland, Lydersen and Laake, Statistics in Medicine 33 (2014), 2850-2875, Bentur's data
        ((1, 1, 7, 12), -0.286, -0.507, -0.026),
    ],
)
def test_paired_difference_gives_the_published_interval(table, difference, low, high):
    found = paired_difference(*pairs(*table))
    assert found["difference"] == pytest.approx(difference, abs=5e-4)
    assert found["low"] == pytest.approx(low, abs=6e-4)
    assert found["high"] == pytest.approx(high, abs=6e-4)


@given(*[st.integers(0, 15)] * 4)
@settings(max_examples=60, deadline=None)
def test_paired_difference_is_antisymmetric_and_contains_itself(a, b, c, d):
    if a + b + c + d == 0:
        return
    first, second = pairs(a, b, c, d)
    there, back = paired_difference(first, second), paired_difference(second, first)
    assert -1 <= there["low"] <= there["difference"] <= there["high"] <= 1
    assert there["low"] == pytest.approx(-back["high"])
    assert there["high"] == pytest.approx(-back["low"])


def test_paired_difference_ignores_how_pairs_are_ordered():
    first, second = pairs(5, 4, 3, 2)
    order = np.random.default_rng(0).permutation(len(first))
    shuffled = np.array(first)[order], np.array(second)[order]
    assert paired_difference(*shuffled) == paired_difference(first, second)


def test_pairing_matters():
    first, second = pairs(10, 2, 0, 8)
    apart = paired_difference(first, second[::-1])
    together = paired_difference(first, second)
    assert apart["difference"] == together["difference"]
    assert apart["high"] - apart["low"] > together["high"] - together["low"]


def test_spearman_gives_the_textbook_value():
    # IQ and hours of TV: the worked example of Wikipedia's article, rho = -29/165
    iq = [106, 86, 100, 101, 99, 103, 97, 113, 112, 110]
    hours = [7, 0, 27, 50, 28, 29, 20, 12, 6, 17]
    found = spearman(iq, hours)
    assert found["rho"] == pytest.approx(-29 / 165)
    assert found["p"] == pytest.approx(0.6272, abs=1e-4)


def test_spearman_with_ties_is_pearson_of_mean_ranks():
    found = spearman([1, 2, 2, 3], [1, 3, 2, 4])
    assert found["rho"] == pytest.approx(np.corrcoef([1, 2.5, 2.5, 4], [1, 3, 2, 4])[0, 1])


def test_spearman_is_none_where_undefined():
    assert spearman([1, 1, 1], [1, 2, 3]) == {"rho": None, "p": None, "n": 3}
    assert spearman([1, 2], [3, 4])["p"] is None


def test_kappa_gives_the_textbook_value():
    # 50 grant proposals, the worked example of Wikipedia's article: kappa = 0.4
    first, second = pairs(20, 5, 10, 15)
    found = kappa(first, second)
    assert found["kappa"] == pytest.approx(0.4)
    assert found["agreement"] == 0.7
    labels = kappa(["yes" if f else "no" for f in first], ["yes" if f else "no" for f in second])
    assert labels == pytest.approx(found)


def test_kappa_interval_is_that_of_fleiss_cohen_and_everitt():
    # variance of eq. 13 in Psychological Bulletin 72 (1969), 323-327, written out plainly
    first, second = pairs(20, 5, 10, 15)
    p = np.array([[20, 5], [10, 15]]) / 50
    row, column = p.sum(1), p.sum(0)
    observed, chance = np.trace(p), (row * column).sum()
    terms = sum(
        p[i, i] * ((1 - chance) - (row[i] + column[i]) * (1 - observed)) ** 2 for i in range(2)
    )
    terms += (1 - observed) ** 2 * sum(
        p[i, j] * (column[i] + row[j]) ** 2 for i in range(2) for j in range(2) if i != j
    )
    terms -= (observed * chance - 2 * chance + observed) ** 2
    deviation = math.sqrt(terms / (50 * (1 - chance) ** 4))
    found = kappa(first, second)
    assert found["low"] == pytest.approx(0.4 - Z * deviation)
    assert found["high"] == pytest.approx(0.4 + Z * deviation)


def test_kappa_at_the_ends():
    assert kappa([1, 0, 1], [1, 0, 1])["kappa"] == 1
    undefined = {"kappa": None, "low": None, "high": None}
    assert kappa([1, 1], [1, 1]) == {**undefined, "agreement": 1.0, "n": 2}
    assert kappa([1, 1, 0, 0], [0, 0, 1, 1])["kappa"] == -1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rate([]), "no values"),
        (lambda: rate([0.5]), "true or false"),
        (lambda: rate([1, float("nan")]), "NaN"),
        (lambda: mean([]), "no values"),
        (lambda: mean([1.0]), "at least 2 values"),
        (lambda: mean([1.0, float("inf")]), "infinite"),
        (lambda: mcnemar([], []), "no values"),
        (lambda: mcnemar([1], [1, 0]), "1 and 2 values are no pairs"),
        (lambda: paired_difference([1], [1, 0]), "no pairs"),
        (lambda: paired_difference([], []), "no values"),
        (lambda: spearman([], []), "no values"),
        (lambda: spearman([1, 2], [1]), "no pairs"),
        (lambda: kappa([], []), "no values"),
        (lambda: kappa(["a"], []), "no pairs"),
    ],
)
def test_impossible_data_is_one_clear_line(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
