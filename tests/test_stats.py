import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mosa.stats import (
    holm,
    mcnemar,
    mean,
    paired_difference,
    rate,
    sign_test,
    spearman,
    variance,
)

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
    if p in (0, 1):  # the exact one: so much is missed in n draws once in forty
        assert (found["high"] - found["low"]) == pytest.approx(1 - 0.025 ** (1 / n))
        return
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


def test_a_mean_without_spread_has_no_interval():
    assert mean([2.0] * 5) == {"mean": 2.0, "low": None, "high": None, "n": 5, "p": 2 / 2**5}
    assert mean([0.0] * 5)["p"] == 1


def test_a_mean_of_bounded_values_has_limits_where_all_agree():
    found = mean([0.0] * 12, within=(-1, 1))
    assert -found["low"] == found["high"] == pytest.approx(rate([0] * 12)["high"])
    assert mean([1.0] * 11 + [0.0], within=(-1, 1))["high"] == 1 < mean([1.0] * 11 + [0.0])["high"]
    found = mean([1.0] * 72, within=(-1, 1), draws=24)  # 24 requests of three models
    assert found["high"] == 1 and found["low"] == pytest.approx(1 - 2 * rate([0] * 24)["high"])
    assert found["p"] == pytest.approx(2 / 2**24)


def test_where_all_agree_only_different_requests_count():
    copied = [[i % 24 for i in range(72)]]
    exact = 1 - 0.025 ** (1 / 24)  # Clopper and Pearson's limit at 0 of 24
    assert exact == pytest.approx(0.1425, abs=1e-4)
    assert rate([0] * 72, copied, 24)["high"] == rate([0] * 24)["high"] == pytest.approx(exact)
    assert rate([1] * 72, copied, 24)["low"] == pytest.approx(1 - exact)
    wide = paired_difference([1] * 72, [0] * 72, copied, 24)
    assert wide["low"] < paired_difference([1] * 72, [0] * 72)["low"]


def crossed(rng, n, nouns, wordings, middle, spread):
    """n flags whose log-odds differ by noun and by wording, and both labels."""
    noun, wording = np.arange(n) % nouns, (np.arange(n) + np.arange(n) // 48) % wordings
    odds = middle + spread * (rng.normal(size=nouns)[noun] + rng.normal(size=wordings)[wording])
    return rng.random(n) < 1 / (1 + np.exp(-odds)), [noun, wording]


def true_rate(middle, spread):
    draws = np.random.default_rng(0).normal(size=(200_000, 2)).sum(1)
    return (1 / (1 + np.exp(-middle - spread * draws))).mean()


@pytest.mark.parametrize("n", [24, 48, 96])
@pytest.mark.parametrize("middle", [-3.0, 0.0])
def test_a_clustered_interval_covers_the_rate_and_an_unclustered_one_does_not(n, middle):
    rng, truth, runs = np.random.default_rng(3), true_rate(middle, 1.5), 300
    covered = {True: 0, False: 0}
    for _ in range(runs):
        values, labels = crossed(rng, n, 24, 16, middle, 1.5)
        for clustered in covered:
            found = rate(values, labels if clustered else ())
            covered[clustered] += found["low"] <= truth <= found["high"]
    # 95 % of 300 give or take 2 standard errors; measured 0.93 to 0.97
    assert 0.925 <= covered[True] / runs <= 0.985
    assert covered[False] < covered[True]


@pytest.mark.parametrize("middle", [-4.0, -2.0, 0.0])
def test_requests_asked_of_three_models_keep_their_coverage(middle):
    rng, truth, runs, covered = np.random.default_rng(7), true_rate(middle, 1.0), 400, 0
    for _ in range(runs):  # models that agree nine times in ten
        values, (noun, wording) = crossed(rng, 24, 24, 15, middle, 1.0)
        apart = rng.random((3, 24)) < 0.1
        fresh = np.stack([crossed(rng, 24, 24, 15, middle, 1.0)[0] for _ in range(3)])
        flags = np.where(apart, fresh, values).ravel()
        found = rate(flags, [np.tile(noun, 3), np.tile(wording, 3)], 24)
        covered += found["low"] <= truth <= found["high"]
    assert 0.925 <= covered / runs <= 1.0  # near 0 an exact interval covers more than it must


def test_rows_that_hang_together_in_no_way_keep_nearly_their_interval():
    rng, truth, runs, covered = np.random.default_rng(4), 0.3, 300, 0
    for _ in range(runs):
        values, labels = crossed(rng, 96, 24, 16, math.log(3 / 7), 0.0)
        found = rate(values, labels)
        covered += found["low"] <= truth <= found["high"]
    assert 0.93 <= covered / runs <= 0.99  # a little wide: a variance is never below the plain one


def test_a_paired_difference_covers_the_truth_when_nouns_differ_in_it():
    rng, runs, covered = np.random.default_rng(5), 300, 0
    for _ in range(runs):
        noun = np.arange(96) % 24
        gain = 0.2 + 0.15 * rng.choice([-1, 1], size=24)[noun]  # 20 points on average
        first, second = rng.random(96) < 0.4 + gain, rng.random(96) < 0.4
        found = paired_difference(first, second, [noun])
        covered += found["low"] <= 0.2 <= found["high"]
    assert 0.925 <= covered / runs <= 0.985


def test_the_clustered_mean_of_a_skewed_value_covers_it():
    rng, runs, covered = np.random.default_rng(6), 300, 0
    for _ in range(runs):
        noun = np.arange(48) % 24
        values = rng.exponential(size=48) + 0.5 * rng.exponential(size=24)[noun]
        found = mean(values, [noun])
        covered += found["low"] <= 1.5 <= found["high"]
    assert 0.91 <= covered / runs <= 0.97


def test_one_cluster_a_row_is_no_cluster():
    values = np.random.default_rng(2).random(30)
    assert variance(values, [range(30)]) == pytest.approx(values.var(ddof=1) / 30)
    assert variance(values) == pytest.approx(values.var(ddof=1) / 30)


def test_copies_of_a_row_add_nothing():
    values = np.random.default_rng(2).random(10).tolist()
    once, copied = variance(values, [range(10)]), variance(values * 5, [[*range(10)] * 5])
    assert copied == pytest.approx(once)


def test_zero_of_n_keeps_its_width_and_p_grows_with_clusters():
    assert rate([0] * 40)["high"] > 0.08
    first, second = [True] * 8 + [False] * 32, [False] * 40
    same_noun = [[0] * 8 + [1 + i % 4 for i in range(32)]]
    assert mcnemar(first, second, same_noun)["p"] > mcnemar(first, second)["p"]


def test_limits_grow_with_the_rate():
    labels, highs = [[i % 24 for i in range(72)]], []
    for k in range(8):
        flags = [i < k for i in range(72)]
        highs.append(rate(flags, labels, 24)["high"])
        assert rate([not f for f in flags], labels, 24)["low"] == pytest.approx(1 - highs[-1])
    assert highs == sorted(highs)


def test_the_sign_test_is_the_binomial_of_its_signs():
    assert sign_test([1] * 23 + [0]) == pytest.approx(2 / 2**23)
    assert sign_test([0, 0]) == sign_test([0.2, -3]) == 1


def test_holm_gives_the_textbook_values():
    # Holm 1979 by hand: 3 * 0.01, then 2 * 0.03, then the largest so far
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


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
    ],
)
def test_impossible_data_is_one_clear_line(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
