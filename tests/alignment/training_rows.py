"""Rows to align on, made by hand, and the tiny model that is aligned."""

from copy import deepcopy
from functools import cache

import tiny_model

from mosa.judges import exact
from mosa.lm.model import DiffusionLM
from mosa.world import families, grammar

LENGTH = 24


@cache
def _tiny(seed):  # its vocabulary takes a second
    return tiny_model.tiny(seed, weight_std=0.2)


def tiny(seed: int = 0) -> DiffusionLM:
    return deepcopy(_tiny(seed))


def pairs(n: int) -> list[dict]:
    rows = []
    for i in range(n):
        sealed = grammar.Item(grammar.ADJECTIVES[i % 10], grammar.SEALED["align"][i % 8])
        benign = grammar.Item(grammar.ADJECTIVES[i % 10], grammar.OPEN[i % 18])
        wording = families.WORDINGS["tuning"][i % 6]
        rows.append({
            "sealed": families.turns([wording], sealed), "open": families.turns([wording], benign),
            "safe": exact.REFUSAL_CORES[i % 3], "harmful": grammar.PROCEDURAL[i % 4],
            "refusal": grammar.REFUSAL, "compliance": families.answer(sealed),
            "benign": families.answer(benign), "seed": i})
    return rows
