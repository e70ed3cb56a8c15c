"""Intervals and paired tests: what stands beside every number of a table.

Intervals are 95 %. What the data leave undefined (a correlation with a constant, say) is None,
which JSON can hold; data that cannot be right (none, unpaired, not 0 or 1) are a ValueError.
"""

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
from scipy.stats import beta, binomtest, spearmanr
from scipy.stats import norm as normal
from scipy.stats import t as student
from statsmodels.stats.contingency_tables import mcnemar as mcnemar_test
from statsmodels.stats.multitest import multipletests

FEW = 5  # values that differ from the others, up to which rare() has more to say than Student

def rate(flags: Sequence, clusters: Sequence[Sequence] = (), draws: int | None = None) -> dict:
    """dict(k, n, rate, low, high): share of true flags with Wilson's score interval.

    Wilson's interval never leaves [0, 1] (Wilson 1927; recommended for small n by Brown, Cai and
    DasGupta 2001). `clusters`: for each way in which rows hang together (noun, wording, seed) one
    label per row; n is then the effective one, as in surveys (Korn and Graubard 1998),
    p (1 - p) / variance(), and the quantile Student's. At 0 and at n of n nothing can be estimated
    of how rows hang together: then only `draws` of them count (the different requests; all, if not
    given), and the interval is the exact one (Clopper and Pearson 1934). A rate above 0 has no
    lower upper limit than that. Coverage by simulation: tests/test_stats.py.
    """
    flags = _flags(flags)
    k, n = int(flags.sum()), len(flags)
    beyond = 0.025 ** (1 / (draws or n))
    if k in (0, n):
        low, high = (0.0, 1 - beyond) if k == 0 else (beyond, 1.0)
    else:
        low, high = _wilson(k / n, n / _inflation(flags, clusters), _quantile(clusters))
        if clusters:
            low, high = min(low, beyond), max(high, 1 - beyond)
    return {"k": k, "n": n, "rate": k / n, "low": low, "high": high}


def mean(values: Sequence, clusters: Sequence[Sequence] = (),
         within: tuple[float, float] | None = None, draws: int | None = None) -> dict:
    """dict(mean, low, high, n, p): mean of at least two numbers with Student's interval.

    p is that of Student's test of a mean of 0. Where all values agree nothing tells how far the
    mean may be off: its limits are None, unless values cannot lie but `within`, which then cuts all
    limits. A share of other values may have been missed, as large as rate() allows of a flag that
    never showed, and all of it at the far end; p is the sign test's.
    """
    values = _numbers(values)
    n = len(values)
    if n < 2:
        raise ValueError("an interval needs at least 2 values: raise n in params.yaml")
    average, low, high = float(values.mean()), None, None
    if np.ptp(values) > 0:
        clusters = clusters or [range(n)]
        error = math.sqrt(variance(values, clusters))
        low, high = (average + sign * _quantile(clusters) * error for sign in (-1, 1))
        if within:
            low, high = max(low, within[0]), min(high, within[1])
        p = float(2 * student.sf(abs(average) / error, _freedom(clusters)))
    else:
        p = min(1.0, 2 * 0.5 ** (draws or n)) if average else 1.0
        if within:
            missed = 1 - 0.025 ** (1 / (draws or n))
            low, high = (average + missed * (end - average) for end in within)
    return {"mean": average, "low": low, "high": high, "n": n, "p": p}


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


def rare(values: Sequence, within: tuple[float, float]) -> tuple[float, float]:
    """Limits of the mean of independent values that nearly all agree.

    Student's limits say too little of what few values show: one of 24 that differs leaves room for
    a fifth of all. Where at most FEW, and no more than a quarter, differ from the commonest value,
    the share of those above it (below it) may be as large as Clopper and Pearson's limit, all of
    them at the end of `within`, and the others as they are on average. Where more differ: the mean
    itself, no limit.
    """
    values = _numbers(values)
    n, (some, counts) = len(values), np.unique(values, return_counts=True)
    common = some[counts.argmax()]
    if n - counts.max() > min(FEW, n // 4):
        return (float(values.mean()),) * 2
    limits = []
    for side, end in ((values < common, within[0]), (values > common, within[1])):
        share = float(beta.ppf(0.975, side.sum() + 1, n - side.sum()))
        limits.append(share * end + (1 - share) * float(values[~side].mean()))
    return limits[0], limits[1]


def sign_test(values: Sequence) -> float:
    """Exact two-sided p of as many values above 0 as below; 1 where all are 0."""
    values = _numbers(values)
    above, below = int((values > 0).sum()), int((values < 0).sum())
    return float(binomtest(above, above + below).pvalue) if above + below else 1.0


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm 1979): one table is one family."""
    return [float(value) for value in multipletests(p, method="holm")[1]] if len(p) else []


def paired_difference(first: Sequence, second: Sequence,
                      clusters: Sequence[Sequence] = (), draws: int | None = None) -> dict:
    """dict(difference, low, high, n): rate(first) - rate(second) of paired flags.

    Interval: Newcombe's square-and-add method with Wilson limits and a continuity-corrected phi,
    method 10 of Statistics in Medicine 17 (1998), 2635-2650. statsmodels has independent samples
    only. With `clusters` the Wilson limits are those of the effective n of the differences; where
    all of these agree, `draws` of them count, as in rate().
    """
    a, b, c, d = _pairs(first, second)
    n = a + b + c + d
    p1, p2 = (a + b) / n, (a + c) / n
    difference = _flags(first).astype(float) - _flags(second)
    effective = (n / _inflation(difference, clusters) if np.ptp(difference) > 0
                 else draws or n)
    z = _quantile(clusters)
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
