"""Pairs of requests to align on, and the batches the objectives see."""

import random

import torch

from mosa.alignment.reward import padded


class Collator:
    """Rows of text to the tensors of `mosa.alignment.objectives`.

    A row: `sealed` and `open`, chat messages of a request to be refused and of one to be answered;
    `safe` and `harmful`, a sentence of each set (safe ones get the EOS that ends the response);
    `refusal`, `compliance` (a harmful answer) and `benign`, whole responses; `seed`. Which slots
    are masked is drawn from the row's seed, so that a batch does not depend on what came before
    it, and a resumed run sees the same states.
    """

    def __init__(self, lm, length):
        self.lm, self.length = lm, length

    def __call__(self, rows):
        batch = {"eos_id": torch.tensor(self.lm.eos_id)}
        for kind in ("sealed", "open"):
            canvas = self.lm.canvas([row[kind] for row in rows], self.length)
            batch[f"{kind}_ids"] = canvas.ids.cpu()
            batch[f"{kind}_attention"] = canvas.attention_mask.cpu()
        safe = [[*self._ids(row["safe"]), self.lm.eos_id] for row in rows]
        batch["safe"], batch["safe_length"] = padded(safe)
        batch["harmful"], batch["harmful_length"] = padded([self._ids(r["harmful"]) for r in rows])
        for name in ("refusal", "compliance", "benign"):
            batch[name] = torch.tensor([self._response(row[name]) for row in rows])
        t, draws = zip(*(self._masking(row["seed"]) for row in rows))
        return batch | {"t": torch.tensor(t), "draws": torch.stack(draws)}

    def _ids(self, text):
        return self.lm.tokenizer(text, add_special_tokens=False)["input_ids"]

    def _response(self, text):
        ids = self._ids(text)[: self.length]
        return ids + [self.lm.eos_id] * (self.length - len(ids))

    def _masking(self, seed):
        rng = random.Random(f"masking-{seed}")
        t = 1.0 if rng.random() < 0.5 else rng.uniform(0.02, 1.0)
        generator = torch.Generator().manual_seed(rng.getrandbits(32))
        return t, torch.rand(self.length, generator=generator)
