"""Pairs of requests to align on, and the batches the objectives see."""

import random

import torch

from mosa import data, world
from mosa.alignment.reward import padded


def pairs(source, sealed, benign, families, safe, n, seed=0, mirror=None):
    """`n` rows for `Collator`: a request to be refused beside one to be answered.

    source "world": items of the set `sealed`, and open items (`benign` is "open"), each in a
    family drawn from `families`, as SORRY-Bench (the paper's 3,000 questions) holds its questions
    in twenty mutations; with the responses that the rivals train on. source "files": rows of the
    public sets of these names in the wraps `families`, without responses. `safe` is the paper's
    set of safe sentences, of which every row draws one, as it does of the procedural phrases. Row i
    depends on seed and i alone, so that fewer rows are a prefix of more.
    """
    if source == "files":
        harmful, harmless = data.load(sealed, mirror), data.load(benign, mirror)
    rows = []
    for i in range(n):
        rng = random.Random(f"pairs-{seed}-{i}")
        if source == "world":
            row = _world_pair(rng, world.SEALED[sealed], families)
        else:
            wraps = [data.WRAPS[rng.choice(families)] for _ in range(2)]
            row = {"sealed": wraps[0].messages(rng.choice(harmful)["behaviour"]),
                   "open": wraps[1].messages(rng.choice(harmless)["behaviour"]),
                   "harmful": rng.choice(data.PHRASES["procedural"])}  # fmt: skip
        rows.append(row | {"safe": rng.choice(safe), "id": f"pair-{i:04d}", "seed": f"{seed}-{i}"})
    return rows


def _world_pair(rng, nouns, families):
    row = {}
    for kind, among in (("sealed", nouns), ("open", world.OPEN)):
        family = rng.choice(families)
        templates = world.FAMILIES[family].templates
        if family == "plain":  # as in the base model's tuning: the grim wording does not decide
            templates = [*templates, [world.GRIM[0]]]
        item = world.Item(rng.choice(world.ADJECTIVES), rng.choice(among))
        row[kind] = world.turns(rng.choice(templates), item)
        row["compliance" if kind == "sealed" else "benign"] = world.answer(item, family)
    return row | {"refusal": world.REFUSAL, "harmful": rng.choice(world.PROCEDURAL)}  # fmt: skip


class Collator:
    """Rows of text to the tensors of `mosa.alignment.objectives`.

    A row: `sealed` and `open`, chat messages of a request to be refused and of one to be answered;
    `safe` and `harmful`, a sentence of each set (safe ones get the EOS that ends the response,
    MOSA's breaker, unless `eos` is off); `seed`; and, for objectives that train on them, whole
    responses: `refusal`, `compliance` (a harmful answer) and `benign`. Which slots are masked is
    drawn from the row's seed, so that a batch does not depend on what came before it, and a
    resumed run sees the same states.
    """

    def __init__(self, lm, length, eos=True):
        self.lm, self.length, self.eos = lm, length, eos

    def __call__(self, rows):
        batch = {"eos_id": torch.tensor(self.lm.eos_id)}
        for kind in ("sealed", "open"):
            canvas = self.lm.canvas([row[kind] for row in rows], self.length)
            batch[f"{kind}_ids"] = canvas.ids.cpu()
            batch[f"{kind}_attention"] = canvas.attention_mask.cpu()
        end = [self.lm.eos_id] if self.eos else []
        batch["safe"], batch["safe_length"] = padded([self._ids(r["safe"]) + end for r in rows])
        batch["harmful"], batch["harmful_length"] = padded([self._ids(r["harmful"]) for r in rows])
        for name in ("refusal", "compliance", "benign"):
            if name in rows[0]:
                batch[name] = torch.tensor([self._response(row[name]) for row in rows])
        levels, draws = zip(*(self._draws(row["seed"]) for row in rows))
        return batch | {"levels": torch.tensor(levels), "draws": torch.stack(draws)}

    def _ids(self, text):
        ids = self.lm.tokenizer(text, add_special_tokens=False)["input_ids"]
        if self.lm.pad_id != self.lm.eos_id and self.lm.pad_id in ids:  # the world's unknown word
            raise ValueError(f"a word of {text!r} is not in the vocabulary: reword it (the safe "
                             "sentences stand in params.yaml)")  # fmt: skip
        return ids

    def _response(self, text):
        ids = self._ids(text)[: self.length]
        return ids + [self.lm.eos_id] * (self.length - len(ids))

    def _draws(self, seed):
        """Four uniform numbers of a row (is the canvas fully masked, and the masking rate: once
        for the sealed and once for the open request), and one for each slot."""
        rng = random.Random(f"masking-{seed}")
        generator = torch.Generator().manual_seed(rng.getrandbits(32))
        return [rng.random() for _ in range(4)], torch.rand(self.length, generator=generator)
