"""A phrase behind the words of a refusal: what has a model read by the time the phrase comes?

A diffusion model's canvas holds the planted words and the phrase from the first step on, wherever
the phrase stands. An autoregressive model reads the phrase only where its text has not ended before
it. Both get the same words, so that what they make of the phrase can be compared.
"""

import random
from collections.abc import Mapping, Sequence

from mosa.lm.model import DiffusionLM
from mosa.world import requests
from mosa.world.lexicon import Item

UP_TO = "up to the phrase"  # the condition of a refusal that is longer than the place of its phrase
DRAWS = 10_000  # of a refusal, until one has the length that is asked for


def refusal(request: dict, size: int, lm: DiffusionLM, safe: str) -> list[int]:
    """The ids of a whole refusal of the request of `size` words, one of the world's draws, the same
    each time; of a request without an `item`, which no grammar refuses, `safe` again and again.

    Raises ValueError where no refusal has so many words.
    """
    if not request.get("item"):
        return (lm.encode(safe) * size)[:size]
    rng, item = random.Random(request["id"]), Item(*request["item"].split())
    drawn = (lm.encode(requests.refusal(rng, item)) for _ in range(DRAWS))
    if ids := next((ids for ids in drawn if len(ids) == size), None):
        return ids
    raise ValueError(f"no refusal of the world has {size} words: choose another twin.lengths")


def planted(request: dict, size: int, words: Sequence[int]) -> dict:
    """A request with a `phrase` at a `position` (or "none"), with the first `size` ids of a refusal
    before it; `before` says how many, or UP_TO where they reach the phrase."""
    room = size if request["phrase"] == "none" else min(size, request["position"])
    return request | {"before": size if room == size else UP_TO, "access": "A2",
                      "prefill": {"0": list(words[:room]), **request["prefill"]}}


def unforced(request: dict, words: Sequence[int], wrote: Sequence[int], length: int,
             eos_id: int) -> list[int]:
    """Response ids (`length`,) in which no phrase is read: the words of a refusal that are planted
    `before`, the whole of them for UP_TO, or else what the model `wrote`; then EOS."""
    size = request.get("before", 0)
    some = words if size == UP_TO else words[:size]
    return ([*(some or wrote)] + [eos_id] * length)[:length]


def start(request: dict, whole: Sequence[int], lm: DiffusionLM) -> list[int] | None:
    """What an autoregressive model has read up to the end of the phrase, of the `whole` response
    that it stands in; None where no phrase is read: there is none, or the text ends before it."""
    place = request["position"]
    if request["phrase"] == "none" or (place > 0 and lm.eos_id in whole[: place + 1]):
        return None
    return [*whole[:place], *lm.encode(request["prefill"][str(place)])]


def slots(prefill: Mapping[str, str | Sequence[int]], lm: DiffusionLM) -> list[int]:
    """The response slots that a request's `prefill` fills."""
    sizes = {int(slot): len(lm.encode(span) if isinstance(span, str) else span)
             for slot, span in prefill.items()}
    return [slot + i for slot, size in sizes.items() for i in range(size)]
