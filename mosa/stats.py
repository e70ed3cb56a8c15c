"""Intervals, paired tests and agreement: what stands beside every number of a table.

Intervals are 95 %. What the data leave undefined (a correlation with a constant, say) is None,
which JSON can hold; data that cannot be right (none, unpaired, not 0 or 1) are a ValueError.
"""

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
from scipy.stats import norm as normal
from scipy.stats import spearmanr
from scipy.stats import t as student
from statsmodels.stats.contingency_tables import mcnemar as mcnemar_test
from statsmodels.stats.inter_rater import cohens_kappa
from statsmodels.stats.multitest import multipletests


def rate(flags: Sequence, clusters: Sequence[Sequence] = ()) -> dict:
    """dict(k, n, rate, low, high): share of true flags with Wilson's score interval.

    Wilson's interval never leaves [0, 1] and keeps a width at 0 of n (Wilson 1927; recommended
    for small n by Brown, Cai and DasGupta 2001). `clusters`: for each way in which rows hang
    together (noun, wording, seed) one label per row; n is then the effective one, as in surveys
    (Korn and Graubard 1998), p (1 - p) / variance(), and the quantile Student's. Coverage by
    simulation: tests/test_stats.py.
    """
    flags = _flags(flags)
    k, n = int(flags.sum()), len(flags)
    low, high = _wilson(k / n, n / _inflation(flags, clusters), _quantile(clusters))
    # rounding leaves 1e-18 beside an exact 0 or 1
    return {"k": k, "n": n, "rate": k / n, "low": max(0.0, low) if k else 0.0,
            "high": min(1.0, high) if k < n else 1.0}


def mean(values: Sequence, clusters: Sequence[Sequence] = ()) -> dict:
    """dict(mean, low, high, n): mean of at least two numbers with Student's interval.

    Its limits are None where all values agree: nothing then tells how far the mean may be off.
    """
    values = _numbers(values)
    n = len(values)
    if n < 2:
        raise ValueError("an interval needs at least 2 values: raise n in params.yaml")
    average, low, high = float(values.mean()), None, None
    if np.ptp(values) > 0:
        half = _quantile(clusters or [range(n)]) * math.sqrt(variance(values, clusters))
        low, high = average - half, average + half
    return {"mean": average, "low": low, "high": high, "n": n}


def variance(values: Sequence, clusters: Sequence[Sequence] = ()) -> float:
    """Variance of the mean of values that hang together in several ways at once.

    Multiway cluster-robust (Cameron, Gelbach and Miller 2011): the sum over the ways, minus that
    over pairs of ways, and so on; at least that of independent values, since the estimate may fall
    below it by chance.
    """
    values = _numbers(values)
    n, off = len(values), values - values.mean()
    independent = float(off @ off) / n / max(1, n - 1)
    for labels in clusters:
        _paired(values, labels)
    codes = [np.unique(np.asarray(list(labels), dtype=str), return_inverse=True)[1].ravel()
             for labels in clusters]
    total = 0.0
    for size in range(1, len(codes) + 1):
        for some in combinations(codes, size):
            _, of = np.unique(np.stack(some), axis=1, return_inverse=True)
            sums = np.bincount(of.ravel(), off)
            total -= (-1) ** size * float(sums @ sums) / n**2 * len(sums) / max(1, len(sums) - 1)
    return max(total, independent)


def mcnemar(first: Sequence, second: Sequence, clusters: Sequence[Sequence] = ()) -> dict:
    """dict(only_first, only_second, n, p): exact two-sided McNemar test of paired flags.

    Only pairs that differ count: p is the binomial test of their split against one half
    (McNemar 1947). Without any such pair p is 1. With `clusters` p is that of the clustered mean
    difference by Student's t, if it is the larger.
    """
    _, b, c, _ = _pairs(first, second)
    p = float(mcnemar_test([[0, b], [c, 0]], exact=True).pvalue) if b + c else 1.0
    if clusters and b + c:
        difference = _flags(first).astype(float) - _flags(second)
        score = abs(difference.mean()) / math.sqrt(variance(difference, clusters) or 1e-12)
        p = max(p, float(2 * student.sf(score, _freedom(clusters))))
    return {"only_first": b, "only_second": c, "n": len(first), "p": p}


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm 1979): one table is one family."""
    return [float(value) for value in multipletests(p, method="holm")[1]] if len(p) else []


def paired_difference(first: Sequence, second: Sequence,
                      clusters: Sequence[Sequence] = ()) -> dict:
    """dict(difference, low, high, n): rate(first) - rate(second) of paired flags.

    Interval: Newcombe's square-and-add method with Wilson limits and a continuity-corrected phi,
    method 10 of Statistics in Medicine 17 (1998), 2635-2650. statsmodels has independent samples
    only. With `clusters` the Wilson limits are those of the effective n of the differences.
    """
    a, b, c, d = _pairs(first, second)
    n = a + b + c + d
    p1, p2 = (a + b) / n, (a + c) / n
    difference = _flags(first).astype(float) - _flags(second)
    effective, z = n / _inflation(difference, clusters), _quantile(clusters)
    (low1, high1), (low2, high2) = (_wilson(p, effective, z) for p in (p1, p2))
    product = (a + b) * (c + d) * (a + c) * (b + d)
    excess = a * d - b * c
    if excess > 0:
        excess = max(0.0, excess - n / 2)
    phi = excess / math.sqrt(product) if product else 0.0

    def distance(x, y):  # of correlated deviations x and y
        return math.sqrt(x * x - 2 * phi * x * y + y * y)

    return {"difference": (b - c) / n,
            "low": (b - c) / n - distance(p1 - low1, high2 - p2),
            "high": (b - c) / n + distance(high1 - p1, p2 - low2),
            "n": n}


def _wilson(p: float, n: float, z: float) -> tuple[float, float]:
    middle = p + z * z / 2 / n
    half = z * math.sqrt(p * (1 - p) / n + z * z / 4 / n**2)
    return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


def _inflation(values: np.ndarray, clusters: Sequence[Sequence]) -> float:
    """How many times the variance of independent values theirs is; 1 where all agree."""
    independent = variance(values)
    return variance(values, clusters) / independent if independent else 1.0


def _freedom(clusters: Sequence[Sequence]) -> int:
    return max(1, min(len(set(labels)) for labels in clusters) - 1)


def _quantile(clusters: Sequence[Sequence]) -> float:
    """Of the 95 % interval: Student's, by the way with the fewest clusters; the normal's else."""
    return float(student.ppf(0.975, _freedom(clusters)) if clusters else normal.ppf(0.975))


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
