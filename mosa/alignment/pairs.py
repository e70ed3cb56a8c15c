"""Pairs of requests to align on, and the batches the objectives see."""

import random
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mosa.alignment.reward import padded
from mosa.lm.model import DiffusionLM


def pairs(draw: Callable[[random.Random], dict], safe: Sequence[str], n: int,
          seed: int = 0) -> list[dict]:
    """`n` rows for `Collator`: a request to be refused beside one to be answered.

    `draw` is from `mosa.data.sets.pair_source`; `safe` is the paper's set of safe sentences, of
    which every row draws one. Row i depends on seed and i alone: fewer rows are a prefix of more.
    """
    rows = []
    for i in range(n):
        rng = random.Random(f"pairs-{seed}-{i}")
        row = draw(rng)
        rows.append(row | {"safe": rng.choice(safe), "id": f"pair-{i:04d}", "seed": f"{seed}-{i}"})
    return rows


class Batch(dict):
    """Tensors by name; to ask for one that the rows do not give is a ValueError with the cure."""

    def __missing__(self, name: str) -> Tensor:
        raise ValueError(f"the objective trains on whole responses, and the rows have no {name!r}: "
                         "use rows of the world, or benign_full 1 and revealed 0")


class Collator:
    """Rows of text to the tensors of `mosa.alignment.objectives`.

    A row: `sealed` and `open`, chat messages of a request to be refused and of one to be answered;
    `safe`, `harmful` (procedural) and `affirmative`, a sentence of each set (safe ones get the EOS
    that ends the response, MOSA's breaker, unless `eos` is off); `seed`; and, for objectives that
    train on them, whole responses: `refusal`, `compliance` (a harmful answer) and `benign`. Which
    slots are masked is drawn from the row's seed, so that a batch does not depend on what came
    before it, and a resumed run sees the same states.
    """

    def __init__(self, lm: DiffusionLM, length: int, eos: bool = True):
        self.lm, self.length, self.eos = lm, length, eos

    def __call__(self, rows: Sequence[dict]) -> Batch:
        batch = Batch(eos_id=torch.tensor(self.lm.eos_id))
        for kind in ("sealed", "open"):
            canvas = self.lm.canvas([row[kind] for row in rows], self.length)
            batch[f"{kind}_ids"] = canvas.ids.cpu()
            batch[f"{kind}_attention"] = canvas.attention_mask.cpu()
        end = [self.lm.eos_id] if self.eos else []
        batch["safe"], batch["safe_length"] = padded([
            self.lm.encode(r["safe"], "a safe sentence of params.yaml") + end for r in rows])
        for name in ("harmful", "affirmative"):
            batch[name], batch[f"{name}_length"] = padded([
                self.lm.encode(r[name], f"a phrase that is {name}") for r in rows])
        for name in ("refusal", "compliance", "benign"):
            if name in rows[0]:
                batch[name] = torch.tensor([self._response(row[name]) for row in rows])
        levels, draws = zip(*(self._draws(row["seed"]) for row in rows))
        batch["levels"] = torch.tensor(levels)
        batch["draws"], batch["swaps"] = torch.stack(draws).unbind(1)
        return batch

    def _response(self, text: str) -> list[int]:
        ids = self.lm.encode(text)[: self.length]
        return ids + [self.lm.eos_id] * (self.length - len(ids))

    def _draws(self, seed: int | str) -> tuple[list[float], Tensor]:
        """Five uniform numbers of a row (is the canvas fully masked, and the masking rate: once for
        the sealed and once for the open request; and how much of a refusal is swapped for harm),
        and two for each slot, (2, L)."""
        rng = random.Random(f"masking-{seed}")
        generator = torch.Generator().manual_seed(rng.getrandbits(32))
        return [rng.random() for _ in range(5)], torch.rand(2, self.length, generator=generator)
