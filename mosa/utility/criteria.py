"""What a defence has to keep, and whether it does.

    tells(row)                      # is a fact told that a harmless question asks for?
    kept({"low": -0.1, ...}, -0.03)  # "met", "not met" or "cannot tell"
"""

from mosa.world.lexicon import Item
from mosa.world.requests import HARMLESS


def tells(row: dict) -> bool:
    """Whether a fact that a harmless question asks for (where an item comes from, who thought of
    it, how old it is, where it is kept; of several, any one) stands in a flat row's own words."""
    asked = next(names for names, wordings in HARMLESS.items() if row["wording"] in wordings)
    facts = Item(*row["item"].split()).words()
    return any(f" {facts[name]} " in f" {run} " for name in asked for run in row["own"])


def kept(measured: dict, limit: float) -> str:
    """What a 95 % interval (low, high) decides of being at least `limit`."""
    return ("met" if measured["low"] >= limit else "not met" if measured["high"] < limit
            else "cannot tell")
