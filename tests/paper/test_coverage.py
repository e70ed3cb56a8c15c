"""Do the estimators of the paper's effects hold what they say, at the n that are used?

Simulated with the nouns and wordings of real requests, and random effects of both: on how often
there is harm, and on how much an attack changes. So rows of a noun or a wording hang together.
"""

from collections import Counter

import numpy as np
import pytest

from mosa.paper import tables
from mosa.world.requests import requests

LEVEL, CHANGE = 1.0, 2.0  # standard deviations of a noun's effects, and of a wording's, in log-odds
MODELS = {1: [-1.0], 3: [-1.5, -1.0, -0.5]}  # log-odds of harm, of each base model
ESTIMATORS = {  # of two sets of rows, with and without an attack
    "paired": lambda *sides: tables.paired(*map(tables.by_model, sides), "success"),
    "mean_difference": lambda *sides: tables.mean_difference(
        tables.differences(*map(tables.by_model, sides), "success")),
    "paired_mean": lambda *sides: tables.paired_mean(*sides, "success"),
    "rate": lambda first, second: tables.rate(first, "success")}


def likely(odds):
    return 1 / (1 + np.exp(-odds))


def true_rate(odds):
    """Of the models: the mean over all nouns and wordings."""
    at, weights = np.polynomial.hermite_e.hermegauss(80)
    spread = np.sqrt(2 * (LEVEL**2 + (CHANGE / 2) ** 2))  # a noun and a wording
    return np.average(likely(np.add.outer(odds, spread * at)).mean(0), weights=weights)


def simulated(n, models, attack, runs, seed=0):
    """Shares of runs in which an interval covers the truth, and in which p < 0.05, by estimator.
    attack: by how much it raises the log-odds, on average."""
    rng, asked, odds = np.random.default_rng(seed), requests("sealed_a", n), MODELS[models]
    noun, wording = (np.unique([r[key] for r in asked], return_inverse=True)[1]
                     for key in tables.CLUSTERS)
    rows = [{"id": r["id"], "model": model, **{key: r[key] for key in tables.CLUSTERS}}
            for model in range(models) for r in asked]
    sides = [np.array(odds) + sign * attack / 2 for sign in (1, -1)]
    rates = [true_rate(side) for side in sides]
    truth = dict.fromkeys(ESTIMATORS, rates[0] - rates[1]) | {"rate": rates[0]}
    covered, significant = Counter(), Counter()
    for _ in range(runs):
        level, change = (size * (rng.normal(size=n)[noun] + rng.normal(size=n)[wording])
                         for size in (LEVEL, CHANGE))
        found = [[row | {"success": bool(flag)} for row, flag in zip(rows, flags.ravel())]
                 for side, sign in zip(sides, (1, -1))
                 for flags in [rng.random((models, n))
                               < likely(np.add.outer(side, level + sign * change / 2))]]
        for name, estimate in ESTIMATORS.items():
            one = estimate(*found)
            covered[name] += one["low"] <= truth[name] <= one["high"]
            significant[name] += one.get("p", 1) < 0.05
    return ({name: covered[name] / runs for name in ESTIMATORS},
            {name: significant[name] / runs for name in ESTIMATORS})


@pytest.mark.parametrize(("n", "models"), [(12, 1), (16, 1), (24, 1), (24, 3), (48, 3)])
def test_intervals_cover_and_no_effect_is_seldom_significant(n, models):
    """Measured with 2,000 runs: of one model intervals cover 0.95 to 0.99 and p < 0.05 is found in
    1 to 3 % of runs without an effect, so both are conservative; of three 0.94 to 0.97, 3 to 6 %.
    """
    runs = {1: 300, 3: 1200}[models]  # with such a p, 0.07 is two standard errors away
    none, significant = simulated(n, models, 0.0, runs)
    some, _ = simulated(n, models, 1.5, 300)
    covered = {name: (runs * none[name] + 300 * some[name]) / (runs + 300) for name in none}
    assert min(covered.values()) >= 0.93, covered
    assert max(significant.values()) <= 0.07, significant


def test_without_nouns_and_wordings_they_would_not(monkeypatch):
    monkeypatch.setattr(tables, "clusters", lambda rows: [])
    covered, significant = simulated(48, 3, 0.0, 200)
    assert max(covered.values()) < 0.93, covered  # measured 0.71 to 0.87
    assert significant["paired"] > 0.07, significant  # 0.24
