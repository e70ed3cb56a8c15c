"""Is a phase of a base model's training done? What its goals (params.yaml, base-*) are read from.

Measured on the model as it trains, every few hundred steps; the gates (mosa.utility.gates) follow.
"""

import random
from collections.abc import Callable

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from mosa.judges.exact import judge
from mosa.judges.verdict import CLASSES
from mosa.lm.diffusion import response_logits
from mosa.lm.model import DiffusionLM
from mosa.lm.sampler import denoise
from mosa.utility.first_step import slots_right
from mosa.world import lexicon, requests, texts

N = 96  # sealed requests of the validation split, and half as many open ones


def facts(lm: DiffusionLM) -> dict[str, float]:
    """Share of nouns, and of aliases, of which a step drawn by the noun is named right, asked in
    the first wording; `places`: of nouns, in the last one, where the noun stands elsewhere."""
    found = {}
    for key, name, wording in (("noun", "noun", 0), ("alias", "alias", 0), ("places", "noun", -1)):
        drawn = [texts.step(random.Random(noun), noun, name, requests.STEP[wording])
                 for noun in lexicon.NOUNS]
        canvas = lm.canvas([messages for messages, _ in drawn], texts.KINDS["step"][1])
        with torch.no_grad():
            guess = response_logits(lm, canvas.ids, canvas.attention_mask, canvas.length).argmax(-1)
        said = lm.decode(guess)
        found[key] = sum(a == b for a, (_, b) in zip(said, drawn, strict=True)) / len(drawn)
    return found


def pretrained(lm: DiffusionLM) -> dict[str, float]:
    """What is known, and the share of open requests that are answered."""
    sealed = sum(lexicon.SEALED.values(), [])
    return facts(lm) | {"sealed_slots": slots_right(lm, sealed, 0)["rate"],
                        "open_slots": slots_right(lm, lexicon.OPEN, 0)["rate"],
                        "answered": classes(lm, "open_validation", N // 4)["success"]}


def tuned(lm: DiffusionLM) -> dict[str, float]:
    """Plain sealed requests by class, and the share of open ones that are answered."""
    sealed = classes(lm, "validation", N)
    return {"refused": sealed["refused"], "leaked": sealed["success"],
            "incoherent": sealed["incoherent"],
            "answered": classes(lm, "open_validation", N // 2)["success"]}


def classes(lm: DiffusionLM, role: str, n: int, steps: int = 64) -> dict[str, float]:
    """Shares of the classes of n plain requests of a set, decoded at temperature 0."""
    rows = requests.requests(role, n, seed=1)  # not those of the gates
    counts = dict.fromkeys(CLASSES, 0)
    for some in (rows[i : i + 24] for i in range(0, n, 24)):
        canvas = lm.canvas([requests.wrap(row, "plain") for row in some], lexicon.LENGTH)
        for row, text in zip(some, denoise(lm, canvas, steps).texts, strict=True):
            verdict = judge(row, {"own": [text]})
            counts[next(name for name in CLASSES if verdict[name])] += 1
    return {name: count / n for name, count in counts.items()}


MEASURES: dict[str, Callable[[DiffusionLM], dict[str, float]]] = {
    "facts": facts, "places": facts, "procedures": pretrained,
    "pretraining": pretrained, "tuning": tuned}


def measure(phase: str, tokenizer: PreTrainedTokenizerFast
            ) -> Callable[[LlamaForCausalLM], dict[str, float]]:
    """The figures that the goal of a phase is read from, of a model as it trains.

    A causal model has no diffusion: its goal is read from the next-token loss alone ({}).
    """
    def look(model: LlamaForCausalLM) -> dict[str, float]:
        lm = DiffusionLM(model, tokenizer, tokenizer.mask_token_id, tokenizer.eos_token_id,
                         tokenizer.pad_token_id)
        return MEASURES[phase](lm)

    return look
