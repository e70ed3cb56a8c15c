"""In which order was a response filled? Measured within each response, never over pooled tokens.

A row is a flat one (mosa.paper.tables.flat) of a decoding to the last slot (`stop_at_eos` off),
with `tokens`: how many slots its text takes, up to the first EOS.
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


def correlation(row: dict, which: str = "text") -> float | None:
    """Spearman's rank correlation of position and step: 1 is strictly left to right.

    which: "text" or "all" slots. None for fewer than three slots, or all filled in one step.
    """
    steps = _steps(row, which)
    return stats.spearman(range(len(steps)), steps)["rho"] if len(steps) > 2 else None


def correlations(rows: Iterable[dict], by: tables.Field | Sequence[tables.Field],
                 which: str = "text") -> dict:
    """{cell: stats.mean of correlation(), clustered, with p and "p, Holm"}: one table, one family.

    Responses without an order are left out, and cells that keep fewer than two. Limits beyond 1,
    which Student's interval of a few responses may have, are cut.
    """
    found = {}
    for cell, some in tables.cells(rows, by).items():
        known = [(row, rho) for row in some if (rho := correlation(row, which)) is not None]
        if len(known) > 1:
            found[cell] = mean([rho for _, rho in known],
                               tables.clusters([row for row, _ in known]))
    for values, p in zip(found.values(), stats.holm([values["p"] for values in found.values()])):
        values["p, Holm"] = p
        if values["low"] is not None:
            values |= {"low": max(-1.0, values["low"]), "high": min(1.0, values["high"])}
    return found


def mean(values: Sequence[float], clusters: Sequence[Sequence] = ()) -> dict:
    """stats.mean with p, of a mean of 0: the t test that its interval stands for.

    Where all values agree there is no interval, and p is that of their signs.
    """
    found = stats.mean(values, clusters)
    if found["low"] is None:
        return found | {"p": 0.5 ** (len(values) - 1) if found["mean"] else 1.0}
    score = abs(found["mean"]) / math.sqrt(stats.variance(values, clusters))
    freedom = min(len(set(labels)) for labels in clusters or [range(len(values))]) - 1
    return found | {"p": float(2 * student.sf(score, max(1, freedom)))}


def direction(found: dict) -> str:
    """What one of correlations() shows: an order only where it holds after Holm's correction."""
    if found["p, Holm"] >= 0.05:
        return "no order shown" if words.verdict(found) == "undecided" else "undecided"
    return "left to right" if found["mean"] > 0 else "right to left"


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
    """
    rows = []
    for request in requests:
        item = lexicon.Item(*request["item"].split())
        predictor = Exact(written(kind, item), length, item.words())
        [ids], [when] = predictor.decode(np.full((1, length), MASKED), steps)
        text = predictor.text(ids)
        rows.append(request | {"text": text, "tokens": len(text.split()),
                               "reveal_step": when.tolist()})
    return rows


def _steps(row, which):
    return row["reveal_step"][: row["tokens"] if which == "text" else None]
