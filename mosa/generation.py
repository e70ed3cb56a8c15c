"""Stored generations: every response is decoded once and kept as a row that judges read later."""

from __future__ import annotations

import hashlib
import json
import platform
from pathlib import Path

import torch
import transformers

from mosa import resume
from mosa.models import DiffusionLM
from mosa.sampler import denoise


def environment() -> str:
    """A short hash of what a generation depends on beside its inputs."""
    facts = [platform.machine(), platform.python_version(), torch.__version__,
             transformers.__version__,
             torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"]  # fmt: skip
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]


def generate(lm: DiffusionLM, requests: list[dict], sampler, stage: str, model: str,
             seed: int = 0) -> list[dict]:  # fmt: skip
    """Decode every request and return the requests with their responses, in the given order.

    A request is a dict with `messages` (chat turns) and, if the attacker holds the canvas,
    `prefill` ({position: phrase}); whatever else it carries (id, set, family, item, access, ...)
    goes into the row. Added: ids (all response tokens), text (up to the first EOS), ended (an EOS
    was reached), reveal_step, forwards, model, sampler (its flags), seed, environment. `model`
    names the weights (name and hash); `sampler` is the profile's sampler section.

    Requests of similar length share a batch. On a CPU every thread decodes batches of its own: a
    third faster for a small model than all threads on one batch, with the same rows. Finished
    batches of an interrupted stage are kept under .scratch/ and not decoded again.
    """
    flags = sampler.model_dump()
    settings = {k: v for k, v in flags.items() if k not in ("length", "batch_size")}
    order = sorted(range(len(requests)), key=lambda i: -len(str(requests[i]["messages"])))
    chunks = [order[i : i + sampler.batch_size] for i in range(0, len(order), sampler.batch_size)]

    workers = 1 if lm.device.type == "cuda" else torch.get_num_threads()
    where = environment()

    def decode(chunk: list[int]) -> list[dict]:
        if workers > 1:
            torch.set_num_threads(1)  # of this thread
        rows = [requests[i] for i in chunk]
        prefill = [{int(k): v for k, v in row.get("prefill", {}).items()} for row in rows]
        canvas = lm.canvas([row["messages"] for row in rows], sampler.length, prefill)
        out = denoise(lm, canvas, seed=[seed + i for i in chunk], **settings)
        return [row | {
            "ids": ids, "text": text, "ended": lm.eos_id in ids, "reveal_step": steps,
            "forwards": forwards, "model": model, "sampler": flags, "seed": seed + i,
            "environment": where,
        } for i, row, ids, text, steps, forwards in zip(
            chunk, rows, out.ids.tolist(), out.texts, out.reveal_step.tolist(),
            out.forwards.tolist(), strict=True)]  # fmt: skip

    modules = ("generation", "sampler", "diffusion", "models", "checkpoints")
    code = [Path(__file__).with_name(f"{name}.py") for name in modules]
    key = resume.fingerprint(requests, flags, model, seed, where, *code)
    try:
        rows = resume.resumable_map(decode, chunks, stage, key, stage, workers)
    finally:
        torch.set_num_threads(workers)
    by_index = dict(zip(sum(chunks, []), rows, strict=True))
    return [by_index[i] for i in range(len(requests))]
