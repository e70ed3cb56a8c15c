"""Intervals, paired tests and agreement: what stands beside every number of a table.

Intervals are 95 %. What the data leave undefined (a correlation with a constant, say) is None,
which JSON can hold; data that cannot be right (none, unpaired, not 0 or 1) are a ValueError.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import bootstrap, spearmanr
from statsmodels.stats.contingency_tables import mcnemar as mcnemar_test
from statsmodels.stats.inter_rater import cohens_kappa
from statsmodels.stats.proportion import proportion_confint


def rate(flags: Sequence) -> dict:
    """dict(k, n, rate, low, high): share of true flags with Wilson's score interval.

    Wilson's interval never leaves [0, 1] and keeps a width at 0 of n (Wilson 1927; recommended
    for small n by Brown, Cai and DasGupta 2001).
    """
    flags = _flags(flags)
    k, n = int(flags.sum()), len(flags)
    low, high = proportion_confint(k, n, method="wilson")
    # rounding leaves 1e-18 beside an exact 0 or 1
    return {"k": k, "n": n, "rate": k / n,
            "low": max(0.0, float(low)) if k else 0.0,
            "high": min(1.0, float(high)) if k < n else 1.0}


def mean(values: Sequence, seed: int = 0) -> dict:
    """dict(mean, low, high, n): mean of at least two numbers with a percentile bootstrap interval.

    9,999 resamples, seeded. Percentile rather than BCa: BCa is undefined where all values agree.
    """
    values = _numbers(values)
    if len(values) < 2:
        raise ValueError("a bootstrap interval needs at least 2 values: raise n in params.yaml")
    interval = bootstrap(
        (values,),
        np.mean,
        n_resamples=9999,
        batch=max(1, 1_000_000 // len(values)),  # 8 MB at a time, not 80 kB times n
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return {"mean": float(values.mean()), "low": float(interval.low),
            "high": float(interval.high), "n": len(values)}


def mcnemar(first: Sequence, second: Sequence) -> dict:
    """dict(only_first, only_second, n, p): exact two-sided McNemar test of paired flags.

    Only pairs that differ count: p is the binomial test of their split against one half
    (McNemar 1947). Without any such pair p is 1.
    """
    _, b, c, _ = _pairs(first, second)
    p = float(mcnemar_test([[0, b], [c, 0]], exact=True).pvalue) if b + c else 1.0
    return {"only_first": b, "only_second": c, "n": len(first), "p": p}


def paired_difference(first: Sequence, second: Sequence) -> dict:
    """dict(difference, low, high, n): rate(first) - rate(second) of paired flags.

    Interval: Newcombe's square-and-add method with Wilson limits and a continuity-corrected phi,
    method 10 of Statistics in Medicine 17 (1998), 2635-2650. statsmodels has independent samples
    only.
    """
    a, b, c, d = _pairs(first, second)
    n = a + b + c + d
    one, two = rate(first), rate(second)
    p1, p2 = one["rate"], two["rate"]
    product = (a + b) * (c + d) * (a + c) * (b + d)
    excess = a * d - b * c
    if excess > 0:
        excess = max(0.0, excess - n / 2)
    phi = excess / math.sqrt(product) if product else 0.0

    def distance(x, y):  # of correlated deviations x and y
        return math.sqrt(x * x - 2 * phi * x * y + y * y)

    return {"difference": (b - c) / n,
            "low": (b - c) / n - distance(p1 - one["low"], two["high"] - p2),
            "high": (b - c) / n + distance(one["high"] - p1, p2 - two["low"]),
            "n": n}


def spearman(x: Sequence, y: Sequence) -> dict:
    """dict(rho, p, n): Spearman's rank correlation, ties by mean rank, p from the t distribution.

    rho is None where x or y is constant, p where there are fewer than three pairs.
    """
    x, y = _numbers(x), _numbers(y)
    _paired(x, y)
    rho = p = None
    if np.ptp(x) > 0 and np.ptp(y) > 0:
        result = spearmanr(x, y)
        rho = float(result.statistic)
        p = float(result.pvalue) if len(x) > 2 else None
    return {"rho": rho, "p": p, "n": len(x)}


def kappa(first: Sequence, second: Sequence) -> dict:
    """dict(kappa, low, high, agreement, n): Cohen's kappa of two raters' labels.

    Large-sample interval (Fleiss, Cohen and Everitt 1969); `agreement` is the share of equal
    labels. kappa is None where both raters gave everything one and the same label.
    """
    _paired(first, second)
    categories = sorted(set(first) | set(second))
    table = np.zeros((len(categories), len(categories)), dtype=int)
    for one, two in zip(first, second, strict=True):
        table[categories.index(one), categories.index(two)] += 1
    agreement = float(np.trace(table) / len(first))
    if len(categories) == 1:
        return {"kappa": None, "low": None, "high": None, "agreement": agreement, "n": len(first)}
    result = cohens_kappa(table)
    return {"kappa": float(result.kappa), "low": float(result.kappa_low),
            "high": float(result.kappa_upp), "agreement": agreement, "n": len(first)}


def _numbers(values):
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or not len(values):
        raise ValueError("no values: the statistic needs a list of at least one number")
    if not np.isfinite(values).all():
        raise ValueError("a value is NaN or infinite: drop or repair it before the statistic")
    return values


def _flags(flags):
    flags = _numbers(flags)
    if not np.isin(flags, (0, 1)).all():
        raise ValueError("flags must be true or false, 1 or 0: threshold the scores first")
    return flags.astype(bool)


def _pairs(first, second):
    """Pairs with both flags true, only the first, only the second, neither."""
    first, second = _flags(first), _flags(second)
    _paired(first, second)
    counts = first & second, first & ~second, ~first & second, ~first & ~second
    return [int(flags.sum()) for flags in counts]


def _paired(first, second):
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} values are no pairs: match them by id")
    if not len(first):
        raise ValueError("no values: the statistic needs at least one pair")
