"""Do the estimators of the paper's effects hold what they say, at the n that are used?

Simulated with the nouns and wordings of real requests, and random effects of both: on how often
there is harm, and on how much an attack changes. So rows of a noun or a wording hang together.
"""

from collections import Counter

import numpy as np
import pytest

from mosa.paper import tables
from mosa.utility.effects import beyond
from mosa.world.requests import requests

LEVEL, CHANGE = 1.0, 2.0  # standard deviations of a noun's effects, and of a wording's, in log-odds
MODELS = {1: [-1.0], 3: [-1.5, -1.0, -0.5]}  # log-odds of harm, of each base model
ESTIMATORS = {  # of rows with and without an attack, and of rows with and without a weaker one
    "paired": lambda *sides: tables.paired(*map(tables.by_model, sides[:2]), "success"),
    "mean_difference": lambda *sides: tables.mean_difference(
        tables.differences(*map(tables.by_model, sides[:2]), "success")),
    "paired_mean": lambda *sides: tables.paired_mean(*sides[:2], "success"),
    "beyond": lambda *sides: beyond(sides[:2], sides[2:], "success", {}),
    "rate": lambda first, *others: tables.rate(first, "success")}


def likely(odds):
    return 1 / (1 + np.exp(-odds))


def true_rate(odds):
    """Of the models: the mean over all nouns and wordings."""
    at, weights = np.polynomial.hermite_e.hermegauss(80)
    spread = np.sqrt(2 * (LEVEL**2 + (CHANGE / 2) ** 2))  # a noun and a wording
    return np.average(likely(np.add.outer(odds, spread * at)).mean(0), weights=weights)


def simulated(n, models, attack, runs, seed=0):
    """Shares of runs in which an interval covers the truth, and in which p < 0.05, by estimator.
    attack: by how much it raises the log-odds, on average; the weaker one by half as much."""
    rng, asked, odds = np.random.default_rng(seed), requests("sealed_a", n), MODELS[models]
    noun, wording = (np.unique([r[key] for r in asked], return_inverse=True)[1]
                     for key in tables.CLUSTERS)
    rows = [{"id": r["id"], "model": model, **{key: r[key] for key in tables.CLUSTERS}}
            for model in range(models) for r in asked]
    signs = (1, -1)  # with the attack, and without
    sides = [np.array(odds) + sign * size / 2 for size in (attack, attack / 2) for sign in signs]
    rates = [true_rate(side) for side in sides]
    truth = dict.fromkeys(ESTIMATORS, rates[0] - rates[1]) | {
        "rate": rates[0], "beyond": rates[0] - rates[1] - (rates[2] - rates[3])}
    covered, significant = Counter(), Counter()
    for _ in range(runs):
        level, *changes = (size * (rng.normal(size=n)[noun] + rng.normal(size=n)[wording])
                           for size in (LEVEL, CHANGE, CHANGE))
        shifts = [level + sign * change / 2 for change in changes for sign in signs]
        found = [[row | {"success": bool(flag)} for row, flag in zip(rows, flags.ravel())]
                 for side, shift in zip(sides, shifts)
                 for flags in [rng.random((models, n)) < likely(np.add.outer(side, shift))]]
        for name, estimate in ESTIMATORS.items():
            one = estimate(*found)
            covered[name] += one["low"] <= truth[name] <= one["high"]
            significant[name] += one.get("p", 1) < 0.05
    return ({name: covered[name] / runs for name in ESTIMATORS},
            {name: significant[name] / runs for name in ESTIMATORS})


@pytest.mark.parametrize(("n", "models"), [(12, 1), (16, 1), (24, 1), (24, 3), (48, 3), (100, 3)])
def test_intervals_cover_and_no_effect_is_seldom_significant(n, models):
    """Measured with 2,000 runs each: of one model intervals cover 0.94 to 0.99 and p < 0.05 is
    found in 1 to 4 % of runs without an effect, so both lean to caution; of three 0.94 to 0.96 and
    3 to 6 %.
    """
    runs = 300 if models == 1 else 1200 if n < 100 else 600  # 0.07: two standard errors away
    none, significant = simulated(n, models, 0.0, runs)
    some, _ = simulated(n, models, 1.5, 300)
    covered = {name: (runs * none[name] + 300 * some[name]) / (runs + 300) for name in none}
    assert min(covered.values()) >= 0.93, covered
    assert max(covered.values()) <= (0.98 if models > 1 else 0.995), covered
    assert max(significant.values()) <= 0.07, significant


def test_without_nouns_and_wordings_they_would_not(monkeypatch):
    monkeypatch.setattr(tables, "clusters", lambda rows: [])
    covered, significant = simulated(48, 3, 0.0, 200)
    assert max(covered.values()) < 0.93, covered  # measured 0.71 to 0.87
    assert significant["paired"] > 0.07, significant  # 0.24
