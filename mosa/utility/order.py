"""In which order was a response filled? Measured within each response, never over pooled tokens.

A row is a flat one (mosa.paper.tables.flat), of a decoding to the last slot (`stop_at_eos` off)
where all slots are counted.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from scipy.stats import t as student

from mosa import stats
from mosa.paper import tables, words
from mosa.world import lexicon
from mosa.world.exact import MASKED, Exact
from mosa.world.requests import written

SMALL = 0.1  # of a correlation: Cohen, Statistical Power Analysis (1988), section 3.2
MEASURED = 0.75  # the share of a decoding's steps that a straight line has to pass through


def correlation(row: dict, which: str = "text") -> float | None:
    """Spearman's rank correlation of position and step: 1 is strictly left to right.

    which: "text" or "all" slots. None for fewer than three slots, or all filled in one step.
    """
    steps = _steps(row, which)
    return stats.spearman(range(len(steps)), steps)["rho"] if len(steps) > 2 else None


def ordered(rows: Iterable[dict], which: str = "text") -> list[dict]:
    """The rows whose responses have an order, each with its correlation() as `rho`."""
    found = [row | {"rho": correlation(row, which)} for row in rows]
    return [row for row in found if row["rho"] is not None]


def correlations(rows: Iterable[dict], by: tables.Field | Sequence[tables.Field],
                 which: str = "text") -> dict:
    """{cell: stats.mean of correlation(), clustered, with p and "p, Holm"}: one table, one family.

    Responses without an order are left out, and cells that keep fewer than two. No limit lies
    beyond 1, as one of Student's interval of a few responses may.
    """
    found = {}
    for cell, some in tables.cells(ordered(rows, which), by).items():
        if len(some) > 1:
            found[cell] = stats.mean([row["rho"] for row in some], tables.clusters(some), (-1, 1),
                                     tables.draws(some))
    tables.corrected([*found.values()])
    return found


def way(value: dict) -> str:
    """What a mean correlation decides: "left to right", "right to left", "undecided", or "hardly
    any order" where that is decided and small, or the whole interval is (SMALL)."""
    found = words.verdict(value, "left to right", "right to left", margin=0)
    if value["low"] is None:
        return found
    size = max(-value["low"], value["high"]) if found == "undecided" else abs(value["mean"])
    return "hardly any order" if size < SMALL else found


def outcome(row: dict) -> str:
    """A row's kind and what became of it, as a group of texts that are alike: refusals are other
    texts than answers, and an answer to an adversarial request is a leak. A row without a verdict
    is its kind alone."""
    if "refused" not in row:
        return row["kind"]
    done = "leaked" if row["kind"] == "adversarial" else "answered"
    which = "refused" if row["refused"] else done if row["success"] else "other"
    return f"{row['kind']}, {which}"


def apart(first: Sequence[dict], second: Sequence[dict]) -> dict:
    """dict(mean, low, high, n, p): mean `rho` of ordered() rows minus that of rows of other
    requests, two of each or more.

    The variances of the two means add up (stats.variance, clustered); Student's t, with the degrees
    of freedom of the side that has fewer clusters. Where the rows of each side agree, nothing tells
    how far the means may be off: low and high are None, p is 1.
    """
    average, error, freedom = 0.0, 0.0, []
    for sign, rows in ((1, first), (-1, second)):
        values, clusters = [row["rho"] for row in rows], tables.clusters(rows)
        average += sign * float(np.mean(values))
        error += stats.variance(values, clusters)
        freedom += [len(set(labels)) - 1 for labels in clusters or [range(len(rows))]]
    error, freedom = math.sqrt(error), max(1, min(freedom))
    n = len(first) + len(second)
    if not error:
        return {"mean": average, "low": None, "high": None, "n": n, "p": 1.0}
    half = float(student.ppf(0.975, freedom)) * error
    return {"mean": average, "low": average - half, "high": average + half, "n": n,
            "p": float(2 * student.sf(abs(average) / error, freedom))}


def linearity(rows: Iterable[dict], steps: int, which: str = "text") -> float | None:
    """R^2 of the straight line through the mean positions of by_step(): 1 where they grow linearly
    with the step. None where by_step() has fewer than three, or than three quarters, of the `steps`
    of the decoding: a line through a part of a curve is no word on it. None too where all positions
    agree."""
    points = by_step(rows, which)
    at, means = ([point[key] for point in points] for key in ("step", "mean"))
    if len(points) < max(3, MEASURED * steps) or not np.ptp(means):
        return None
    return float(np.corrcoef(at, means)[0, 1] ** 2)


def by_step(rows: Iterable[dict], which: str = "text") -> list[dict]:
    """dict(step, mean, low, high, n) of the mean position of the slots filled at each step.

    Each response counts once at a step, whatever it fills there. Only steps at which at least half
    of the responses fill a slot: at others the curve would be that of another set.
    """
    rows, seen = list(rows), []
    for row in rows:
        steps = np.array(_steps(row, which))
        seen += [row | {"step": int(step), "position": float(np.flatnonzero(steps == step).mean())}
                 for step in np.unique(steps)]
    return [{"step": step} | tables.means(some, "step", ["position"])[step]["position"]
            for step, some in sorted(tables.cells(seen, "step").items())
            if len(some) > 1 and 2 * len(some) >= len(rows)]


def exact(requests: Sequence[dict], kind: str, length: int, steps: int) -> list[dict]:
    """Rows of what the exact predictor of the world's grammar writes about the requests' items, in
    one block: the ceiling of a trained model. kind: "answer" or "refusal".

    One item an adjective, the first: the grammar's probabilities depend on nothing else of it, so
    another noun's text is filled in the same order, and a copy is no draw.
    """
    rows, items = [], {r["item"].split()[0]: r for r in reversed(requests)}
    for request in items.values():
        item = lexicon.Item(*request["item"].split())
        predictor = Exact(written(kind, item), length, item.words())
        [ids], [when] = predictor.decode(np.full((1, length), MASKED), steps)
        text = predictor.text(ids)
        rows.append(request | {"text": text, "tokens": len(text.split()),
                               "reveal_step": when.tolist()})
    return rows


def _steps(row, which):
    return row["reveal_step"][: row["tokens"] if which == "text" else None]
