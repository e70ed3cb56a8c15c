"""A factorial: its cells, and the effects of its factors with intervals.

    some = cells(factors, odd, half=0)                  # half of all combinations
    fitted = fit(rows, "success", factors, ["run", "category"])
    effect(fitted, factors, {"suppression": "middle"}, {"suppression": "none"})
    jointly(fitted, "refusal", "suppression")           # does one change what the other does?

A linear model of a share, with all pairs of factors: an effect is a difference of means over all
combinations of the other factors, each with equal weight, whether or not it was run.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
import pandas as pd
import statsmodels.api as sm
from scipy import stats as distributions

Factors = Mapping[str, Sequence[str]]  # factor -> its levels


def cells(factors: Factors, odd: Mapping[str, Sequence[str]], half: int) -> list[dict[str, str]]:
    """Half of all combinations: those in which an even (half 0) or odd (1) number of levels is odd.

    One component of every interaction is then the mean or its negative, and so is aliased with the
    component of the factors that are left. Raises ValueError for a level that is none.
    """
    for name, levels in odd.items():
        if unknown := {*levels} - {*factors.get(name, ())}:
            raise ValueError(f"odd: {name} has no level {min(unknown)!r}: use one of "
                             f"{', '.join(factors.get(name, ()))}")
    every = [dict(zip(factors, levels)) for levels in product(*factors.values())]
    return [cell for cell in every
            if sum(level in odd.get(name, ()) for name, level in cell.items()) % 2 == half]


@dataclass
class Fitted:
    """Coefficients of a linear model, their covariance, and how many clusters carry it."""

    columns: list[tuple]
    coefficients: np.ndarray
    covariance: list[np.ndarray]  # by each kind of cluster, and by both
    clusters: int  # of the kind that has fewest
    n: int


def fit(rows: Iterable[dict], value: str, factors: Factors, clusters: Sequence[str],
        fixed: str | None = None, pairs: bool = True) -> Fitted:
    """Least squares of `value` on the factors, all pairs of them and the levels of `fixed`.

    The covariance respects `clusters`, two keys of the rows, both at once: training runs, which
    carry the luck of a training, and nouns, which carry the requests' (Cameron, Gelbach and Miller
    2011, in statsmodels); where one of the two alone is larger, that one is taken.
    Raises ValueError where the rows do not tell the terms apart.
    """
    table = pd.DataFrame(list(rows))
    columns = _columns(factors, sorted(set(table[fixed])) if fixed else [], pairs)
    x = np.column_stack([_term(table, column, fixed) for column in columns])
    if np.linalg.matrix_rank(x) < x.shape[1]:
        raise ValueError("the cells that were run do not tell all terms of the model apart: run "
                         "another half too, or leave the pairs out")
    labels = [pd.factorize(table[key])[0] for key in clusters]
    model = sm.OLS(table[value].astype(float).to_numpy(), x)
    one, other = (_by(model, some) for some in labels)
    both = _by(model, np.unique(np.column_stack(labels), axis=0, return_inverse=True)[1], 1)
    return Fitted(columns, model.fit().params, [one, other, one + other - both],
                  min(len(set(some)) for some in labels), len(table))


def _by(model, labels, lost=None):
    """The covariance by one kind of cluster. Its residuals are too small where a factor varies
    between clusters alone, such as runs: every such term takes one of them (`lost`; None: counted).
    """
    n, terms = len(set(labels)), pd.DataFrame(model.exog)
    if lost is None:  # terms that are constant within clusters
        lost = int(np.isclose(terms, terms.groupby(labels).transform("mean")).all(0).sum())
    found = model.fit(cov_type="cluster", cov_kwds={"groups": labels}).cov_params()
    return found * (n - 1) / max(n - lost, 1)


def effect(fitted: Fitted, factors: Factors, here: Mapping[str, str],
           there: Mapping[str, str]) -> dict:
    """dict(mean, low, high, p, n) of the levels `here` minus those `there`, of a share.

    Levels of several factors are taken together. 95 % by Student's t with one degree of freedom
    less than there are clusters, cut off where no difference of shares can lie; low and high are
    None where all values agree.
    """
    return _tested(fitted, _mean(fitted, factors, here) - _mean(fitted, factors, there), 1)


def interaction(fitted: Fitted, factors: Factors, first: tuple[str, str, str],
                second: tuple[str, str, str]) -> dict:
    """The same of a difference of differences: what changing the factor `first` from its second to
    its first named level does more where the factor `second` has its first than its second."""
    (one, here, there), (other, where, elsewhere) = first, second
    contrast = [_mean(fitted, factors, {one: level, other: place}) * sign
                for level, place, sign in ((here, where, 1), (there, where, -1),
                                           (here, elsewhere, -1), (there, elsewhere, 1))]
    return _tested(fitted, sum(contrast), 2)


def jointly(fitted: Fitted, one: str, other: str) -> dict:
    """dict(F, terms, p): Wald's test of all terms of two factors' interaction at once, by the kind
    of cluster that finds least."""
    some = [i for i, column in enumerate(fitted.columns)
            if {name for name, _ in column} == {one, other}]
    values, found = fitted.coefficients[some], []
    for covariance in fitted.covariance:
        part = covariance[np.ix_(some, some)]
        if np.linalg.eigvalsh(part).min() > 1e-12:  # that by both kinds at once need not be
            found.append(float(values @ np.linalg.solve(part, values)) / len(some))
    if not found:
        return {"F": None, "terms": len(some), "p": 1.0}
    f = distributions.f(len(some), fitted.clusters - 1)
    return {"F": min(found), "terms": len(some), "p": float(f.sf(min(found)))}


def _tested(fitted, contrast, bound):
    mean = float(contrast @ fitted.coefficients)
    error = max(float(contrast @ some @ contrast) for some in fitted.covariance) ** 0.5
    if error < 1e-9:  # all values agree: nothing tells how far the mean may be off
        return {"mean": mean, "low": None, "high": None, "p": 1.0, "n": fitted.n}
    student = distributions.t(fitted.clusters - 1)
    width = float(student.ppf(0.975)) * error
    p = float(2 * student.sf(abs(mean) / error))
    low, high = max(mean - width, -bound), min(mean + width, bound)
    return {"mean": mean, "low": low, "high": high, "p": p, "n": fitted.n}


def _columns(factors, fixed, pairs):
    """Terms of the model: tuples of (factor, level), the first level of each left out."""
    single = [[(name, level) for level in levels[1:]] for name, levels in factors.items()]
    found = [(), *[(one,) for some in single for one in some]]
    if pairs:
        found += [pair for one, other in combinations(single, 2) for pair in product(one, other)]
    return found + [((None, level),) for level in fixed[1:]]


def _term(table, column, fixed):
    value = np.ones(len(table))
    for name, level in column:
        value = value * (table[name or fixed] == level).to_numpy()
    return value


def _mean(fitted, factors, levels):
    """The terms' values, on average over all combinations with these levels."""
    share = {(name, level): float(levels[name] == level) if name in levels else 1 / len(every)
             for name, every in factors.items() for level in every}
    fixed = [one for column in fitted.columns for one in column if one[0] is None]
    share |= {one: 1 / (len(fixed) + 1) for one in fixed}
    return np.array([np.prod([share[one] for one in column]) for column in fitted.columns])
