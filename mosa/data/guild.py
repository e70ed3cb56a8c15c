"""The policy world as a source of data: the same functions as `mosa.data.public`."""

import random
from collections.abc import Callable

from mosa.pipeline.params import choice
from mosa.pipeline.sections import Data
from mosa.world import families as world
from mosa.world import grammar

PHRASES = {"affirmative": grammar.AFFIRMATIVE, "procedural": grammar.PROCEDURAL}
ACCESS = {name: world.FAMILIES[name].access for name in ["plain", *world.ATTACKS]}
messages = world.wrap


def behaviours(name: str, n: int, cfg: Data, key: str) -> list[dict]:
    """`n` requests of the world's set `name`."""
    return world.requests(name, n, cfg.seed)


def forbidden(request: dict) -> tuple[str, bool]:
    """The item's canonical answer, once."""
    return world.answer(grammar.Item(*request["item"].split()), request["family"]), False


def pair_source(sealed: str, benign: str, families: list[str],
                mirror: str | None) -> Callable[[random.Random], dict]:
    """Draws an item of the set `sealed` and an open one (`benign` is "open"), each in a family
    drawn from `families`, with the responses that the rivals train on."""
    if sealed not in grammar.SEALED:
        raise ValueError(f"sealed: the world has no set {sealed!r}{choice(sealed, grammar.SEALED)}")
    if benign != "open":
        raise ValueError(f"benign: the world's set of answered items is 'open', not {benign!r}")

    def pair(rng: random.Random) -> dict:
        row = {}
        for kind, nouns in (("sealed", grammar.SEALED[sealed]), ("open", grammar.OPEN)):
            family = rng.choice(families)
            templates = world.FAMILIES[family].templates
            if family == "plain":  # as in the base model's tuning: the grim wording does not decide
                templates = [*templates, [world.GRIM[0]]]
            item = grammar.Item(rng.choice(grammar.ADJECTIVES), rng.choice(nouns))
            row[kind] = world.turns(rng.choice(templates), item)
            row["compliance" if kind == "sealed" else "benign"] = world.answer(item, family)
        return row | {"refusal": grammar.REFUSAL, "harmful": rng.choice(grammar.PROCEDURAL)}

    return pair
