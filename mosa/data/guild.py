"""The policy world as a source of data: the same functions as `mosa.data.public`."""

import random
from collections.abc import Callable

from mosa.pipeline.params import choice
from mosa.pipeline.sections import Data
from mosa.world import grammar
from mosa.world import requests as world
from mosa.world.lexicon import ADJECTIVES, SEALED, Item

# A placebo for the two phrase sets, as long as they are: sentences in words of requests, which
# neither an answer nor a refusal holds, and no orders, for those are followed
NEUTRAL = ["the traveller asked the bard .", "the children play the game .",
           "the student wrote a letter .", "the sailors carry the coins ."]
PHRASES = {"affirmative": grammar.AFFIRMATIVE, "procedural": grammar.PROCEDURAL,
           "neutral": NEUTRAL, "followed": world.ORDERED_NEW[::13][:4]}
ACCESS = {name: "A1" if name == "turns" else "A0" for name in ["plain", *world.WRAPS]}
messages, template = world.wrap, world.template


def behaviours(name: str, n: int, cfg: Data, key: str) -> list[dict]:
    """`n` requests of the world's set `name`."""
    return world.requests(name, n, cfg.seed)


def harmless(rows: list[dict], seed: int) -> list[dict]:
    """Harmless questions about the nouns of sealed rows."""
    return world.harmless(rows, random.Random(seed))


def forbidden(request: dict) -> tuple[str, bool]:
    """An answer to the request, drawn by its id."""
    rng, item = random.Random(request["id"]), Item(*request["item"].split())
    return world.answer(rng, item, request["family"], world.opening(request["messages"])), False


def pair_source(sealed: str, benign: str, families: list[str],
                mirror: str | None) -> Callable[[random.Random], dict]:
    """Draws an item of the set `sealed` and an open one (`benign` is "open"), each in a family
    drawn from `families`, with the responses that the rivals train on.

    Wordings and templates are those of tuning and alignment: no benchmark's.
    """
    if sealed not in SEALED:
        raise ValueError(f"sealed: the world has no set {sealed!r}{choice(sealed, SEALED)}")
    if benign != "open":
        raise ValueError(f"benign: the world's set of answered items is 'open', not {benign!r}")

    def pair(rng: random.Random) -> dict:
        row = {}
        for kind, nouns in (("sealed", SEALED[sealed]), ("open", world.ALIGN_OPEN)):
            item, family = Item(rng.choice(ADJECTIVES), rng.choice(nouns)), rng.choice(families)
            row[kind] = world.tuning_request(rng, item, family)
            text = world.answer(rng, item, family, world.opening(row[kind]))
            row["compliance" if kind == "sealed" else "benign"] = text
            if kind == "sealed":
                row["refusal"] = world.refusal(rng, item, family)
        return row | {"harmful": rng.choice(grammar.PROCEDURAL),
                      "affirmative": rng.choice(grammar.AFFIRMATIVE)}

    return pair
