"""Rows to align on, made by hand, and the tiny model that is aligned."""

import random
from copy import deepcopy
from functools import cache

import tiny_model

from mosa.lm.model import DiffusionLM
from mosa.world import grammar, requests
from mosa.world.lexicon import ADJECTIVES, OPEN, SEALED, Item

LENGTH = 24


@cache
def _tiny(seed):  # its vocabulary takes a second
    return tiny_model.tiny(seed, weight_std=0.2)


def tiny(seed: int = 0) -> DiffusionLM:
    return deepcopy(_tiny(seed))


def pairs(n: int) -> list[dict]:
    rows = []
    for i in range(n):
        rng = random.Random(i)
        sealed = Item(ADJECTIVES[i % 10], SEALED["align"][i % 8])
        benign = Item(ADJECTIVES[i % 10], OPEN[i % 18])
        wording = requests.wordings()["tuning"][i % 6]
        rows.append({
            "sealed": requests.turns(["{request}"], wording, sealed),
            "open": requests.turns(["{request}"], wording, benign),
            "safe": grammar.REFUSAL_CORES[i % 3], "harmful": grammar.PROCEDURAL[i % 4],
            "affirmative": grammar.AFFIRMATIVE[i % 4],
            # an opener alone: unlike a whole refusal it leaves room for EOS in LENGTH slots
            "refusal": grammar.REFUSAL_OPENERS[i % 4], "compliance": requests.answer(rng, sealed),
            "benign": requests.answer(rng, benign), "seed": i})
    return rows
