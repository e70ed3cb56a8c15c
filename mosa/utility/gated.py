"""What the gates say, as a table, and what they said of the models when these were frozen."""

import json

import pandas as pd

from mosa.pipeline.params import need
from mosa.utility import first_step
from mosa.utility.gates import GATES, Gate

MISSED, OPEN = " *", " ?"  # behind a figure that its gate does not let pass, and one left open


def frozen() -> dict[str, dict[str, dict]]:
    """{base model: {figure: dict(mean, n)}}: measured once, before anything else was measured.

    From models/tried.json, whose entry names the hash of the weights: of a model that has other
    weights now (`make retrain`) nothing is known. n is that of the sealed requests.
    """
    return {entry["model"]: {figure: {"mean": value, "n": entry["n"]}
                             for figure, value in entry["looks"][-1].items()}
            for entry in _frozen()}


def decoded() -> str:
    """How the responses of frozen() were decoded: "128 tokens, 64 steps, order at 32"."""
    return "; ".join(sorted({entry["decoded"] for entry in _frozen()}))


def wanted(gate: Gate) -> str:
    """The condition in words: "0.01 to 0.08", "at least 0.9"."""
    if gate.high in (1.0, float("inf")):
        return f"at least {gate.low:g}"
    return f"{gate.low:g} to {gate.high:g}" if gate.low else f"at most {gate.high:g}"


def table(verdicts: dict[str, list[dict]]) -> pd.DataFrame:
    """One row a gate, one column a model: "0.95 [0.86, 0.98]", MISSED behind it where it is not
    met, OPEN where too few requests were asked; `exact` is what the exact predictor of the same
    grammar has."""
    found = {name: {row["figure"]: row for row in rows} for name, rows in verdicts.items()}
    exact = first_step.ceiling() if found else {}
    return pd.DataFrame([
        {"gate": gate.name, "figure": gate.figure, "wanted": wanted(gate)}
        | {name: _said(rows[gate.figure]) if gate.figure in rows else "–"
           for name, rows in found.items()}
        | {"exact": f"{exact[gate.figure]:.2f}" if gate.figure in exact else "–"}
        for gate in GATES if any(gate.figure in rows for rows in found.values())])


def missed(verdicts: list[dict]) -> str:
    """The gates that are not met, each with its figure and what was wanted; "none", or "undecided"
    where too few requests were asked for any of them (gates.verdicts)."""
    if all(row["passed"] is None for row in verdicts):
        return "undecided, too few requests"
    of = {gate.figure: gate for gate in GATES}
    return "; ".join(f"{row['figure']} {row['value']:.2f} (wanted: {wanted(of[row['figure']])})"
                     for row in verdicts if row["passed"] is False) or "none"


def _said(row):
    if row["value"] is None:
        return "–" + MISSED
    limits = "" if row["low"] is None else f" [{row['low']:.2f}, {row['high']:.2f}]"
    return f"{row['value']:.2f}{limits}{ {True: '', False: MISSED, None: OPEN}[row['passed']]}"


def _frozen():
    tried = json.loads(need("models/tried.json").read_text("utf-8"))
    return [entry for entry in tried
            if "weights" in entry and entry["weights"] == _weights(entry["model"])]


def _weights(model):
    sums = json.loads(need(f"models/{model}/checksums.json").read_text("utf-8"))
    return sums["model.safetensors"]
