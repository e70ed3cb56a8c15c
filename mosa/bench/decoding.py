"""Responses a second of the sampler beside the plain one, on the embedded base model.

    python -m mosa.bench.decoding [FILE]   runs both, each in a process of its own, by turns, and
                                           prints their ratio; FILE keeps it

Plain: LLaDA's loop as published. One padded batch, the model's own forward over the whole canvas,
logits of every slot at every step.
"""

import argparse
import json
import platform
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import torch

import mosa
from mosa.lm.fast import batches
from mosa.lm.model import DiffusionLM
from mosa.world import requests

ROWS, LENGTH, STEPS, BATCH, TURNS = 48, 128, 64, 16, 3


@torch.no_grad()
def plain(lm: DiffusionLM, chats: list[list[dict]]) -> list[list[int]]:
    """Response ids, low-confidence remasking in one block at temperature 0."""
    found = []
    for first in range(0, len(chats), BATCH):
        canvas = lm.canvas(chats[first : first + BATCH], LENGTH)
        ids, start = canvas.ids.clone(), canvas.prompt_length
        for _ in range(STEPS):
            logits = lm.model(input_ids=ids, attention_mask=canvas.attention_mask).logits.double()
            logits[..., [lm.mask_id, lm.pad_id, *lm.unknown_ids]] = -torch.inf
            p, token = logits[:, start:].softmax(-1).max(-1)
            p[ids[:, start:] != lm.mask_id] = -torch.inf
            best = p.topk(LENGTH // STEPS).indices + start
            ids.scatter_(1, best, token.gather(1, best - start))
        found += ids[:, start:].tolist()
    return found


@torch.no_grad()
def ours(lm: DiffusionLM, chats: list[list[dict]]) -> list[list[int]]:
    """The same by mosa.denoise, in the batches of every stage."""
    found = {}
    for some in batches(lm.model, [len(lm.prompt_ids(chat)) for chat in chats], BATCH):
        canvas = lm.canvas([chats[i] for i in some], LENGTH)
        done = mosa.denoise(lm, canvas, STEPS, LENGTH, stop_at_eos=False)
        found |= dict(zip(some, done.ids.tolist(), strict=True))
    return [found[i] for i in range(len(chats))]


def measure(version: str) -> dict:
    """Responses a second of "plain" or "ours" on one thread, and the ids."""
    torch.set_num_threads(1)
    lm = mosa.load("models/embedded-0")
    sealed, opened = (requests.requests(role, ROWS // 2, 0)
                      for role in ("validation", "open_validation"))
    chats = [requests.wrap(row, "plain") for row in sealed + opened]
    decode = {"plain": plain, "ours": ours}[version]
    decode(lm, chats[:2])  # warms up
    started = time.perf_counter()
    ids = decode(lm, chats)
    return {"responses_a_second": len(chats) / (time.perf_counter() - started), "ids": ids}


def compare() -> dict:
    """Both by turns; the median of the turns' ratios, and how many responses are the same."""
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        found = [tuple(pool.map(measure, ("plain", "ours"))) for _ in range(TURNS)]
    slow, fast = found[0]
    return {"times_faster": median(ours["responses_a_second"] / plain["responses_a_second"]
                                   for plain, ours in found),
            "same_responses": sum(a == b for a, b in zip(slow["ids"], fast["ids"], strict=True)),
            "responses": ROWS, **{name: median(turn[i]["responses_a_second"] for turn in found)
                                  for i, name in enumerate(("plain", "ours"))},
            "setting": f"{ROWS} requests, {LENGTH} slots, {STEPS} steps, one thread, median of "
                       f"{TURNS} turns, {platform.machine()}"}


if __name__ == "__main__":
    parser = argparse.ArgumentParser("python -m mosa.bench.decoding")
    parser.add_argument("file", nargs="?", type=Path, help="where the ratio is kept, as JSON")
    file, result = parser.parse_args().file, json.dumps(compare(), indent=2)
    print(result)  # first: a wrong path must not cost it
    if file:
        file.write_text(result + "\n", encoding="utf-8")
