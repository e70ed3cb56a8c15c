"""Training of an embedded base model in phases: facts, whole texts, practice, refusal tuning.

A masked diffusion model (LLaDA, arXiv 2502.09992) learns to predict masked response tokens, each
response filled to its full length with EOS. Every step draws its batch from a generator seeded
with (seed, phase, step), so that a run that was killed and resumed ends in the same weights.
"""

import itertools
import json
import os
import random
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field, field_validator
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from mosa.lm.diffusion import masked_cross_entropy, noise
from mosa.pipeline.params import Amount, Count, NotNegative, Positive, Section, choice
from mosa.world.lexicon import LENGTH, MATERIALS, VERBS
from mosa.world.network import chat
from mosa.world.requests import ORDERED
from mosa.world.tasks import NUMBERS
from mosa.world.texts import KINDS
from mosa.world.vocabulary import written

PHASES = ("facts", "places", "procedures", "pretraining", "practice", "tuning")



Share = Annotated[float, Field(ge=0, le=1)]


class Training(Section):
    """One phase: the keys of PHASES in a block base-<seed> of params.yaml."""

    goal: dict[str, tuple[float, float]]  # figure -> the range it must come to lie in
    check: Count  # steps between two looks at the goal
    steps: Count  # at most so many before the rate falls
    decay: Count  # steps over which it then falls to 2 %
    batch_size: Count
    lr: Positive
    warmup: Amount  # steps
    eos_weight: NotNegative  # of the EOS that fill the response after the text
    fact_weight: NotNegative  # of the words of procedures, one in eight of an answer
    asked_weight: NotNegative  # of the numbers of sums and of the words that orders ask for
    full_share: Share  # of rows that are masked entirely
    prompt_share: Share  # of rows whose prompt is masked too
    frozen: bool  # the embeddings and the head stay as they are
    # kind of row -> share of the steps; a batch holds kinds of one response length, and the more
    # rows the shorter they are
    mix: Annotated[dict[str, NotNegative], Field(min_length=1)]

    @field_validator("mix")
    @classmethod
    def known(cls, mix: dict[str, float]) -> dict[str, float]:
        if unknown := [kind for kind in mix if kind not in KINDS]:
            raise ValueError(f"no text is of kind {unknown[0]!r}{choice(unknown[0], KINDS)}")
        return mix


def batch(tokenizer: PreTrainedTokenizerFast, kinds: list[str],
          rng: random.Random) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Ids (B, P+L) with left-padded prompts, attention mask (B, P+L), and P."""
    length = max(KINDS[kind][1] for kind in kinds)
    numbers, prompts, responses = tokenizer.get_vocab(), [], []
    for kind in kinds:
        messages, text = KINDS[kind][0](rng)
        prompts.append([numbers[word] for word in chat(messages).split()])
        ids = [numbers[word] for word in text.split()][:length]  # cropped: no EOS
        responses.append(ids + [tokenizer.eos_token_id] * (length - len(ids)))
    width = max(map(len, prompts))
    ids = torch.tensor([[tokenizer.pad_token_id] * (width - len(p)) + p + r
                        for p, r in zip(prompts, responses, strict=True)])
    attention = torch.tensor([[0] * (width - len(p)) + [1] * (len(p) + length) for p in prompts])
    return ids, attention, width


@cache  # of every step
def _facts(tokenizer: PreTrainedTokenizerFast) -> torch.Tensor:
    """Ids of the verbs and materials of procedures."""
    numbers = tokenizer.get_vocab()
    return torch.tensor([numbers[word] for word in sum(VERBS + MATERIALS, [])])


@cache
def _asked(tokenizer: PreTrainedTokenizerFast) -> torch.Tensor:
    """Ids of numbers and of words that orders ask for, but for those of answers and refusals:
    these would be said too often where a text's next words are uncertain."""
    numbers = tokenizer.get_vocab()
    words = {*NUMBERS, *" ".join(ORDERED).split()} - written()
    return torch.tensor([numbers[word] for word in sorted(words)])


def draw_kinds(phase: Training, rng: random.Random) -> list[str]:
    """The kinds of one batch: all of one response length, and the shorter the more of them, so
    that every step costs about the same."""
    names = list(phase.mix)
    length = KINDS[rng.choices(names, phase.mix.values())[0]][1]
    alike = [n for n in names if KINDS[n][1] == length]
    size = phase.batch_size * (LENGTH + 24) // (length + 24)  # 24: prompt and its padding
    return rng.choices(alike, [phase.mix[n] for n in alike], k=size)


def drawn(tokenizer: PreTrainedTokenizerFast, phase: Training, rng: random.Random,
          generator: torch.Generator, causal: bool = False) -> tuple[torch.Tensor, ...]:
    """A fresh batch as the network meets it, five tensors (B, P+L): what it sees, the clean ids,
    the attention mask, which tokens count (those masked; all of them, if `causal`), their weights.

    The EOS that ends a text counts fully, the EOS that fill the response count `eos_weight`, the
    words of procedures `fact_weight`, numbers and ordered words `asked_weight`. A weight moves what
    is said where the model cannot be sure towards the heavier words, so only a phase that another
    follows may have one on facts; words of `asked_weight` stand in no answer or refusal.
    A `prompt_share` of the rows is masked in the prompt too, as in LLaDA's pretraining.
    """
    ids, attention, width = batch(tokenizer, draw_kinds(phase, rng), rng)
    rows = len(ids)
    t = 0.02 + 0.98 * torch.rand(rows, generator=generator)
    t[torch.rand(rows, generator=generator) < phase.full_share] = 1.0
    maskable = attention.bool()
    prompt_too = torch.rand(rows, generator=generator) < phase.prompt_share
    maskable[:, :width] &= prompt_too[:, None]
    noised, masked = noise(ids, maskable, t, tokenizer.mask_token_id, generator)
    eos = tokenizer.eos_token_id
    filler = (ids == eos) & (ids.roll(1, dims=1) == eos)
    weights = torch.where(filler, phase.eos_weight, 1.0)
    weights[torch.isin(ids, _facts(tokenizer))] = phase.fact_weight
    weights[torch.isin(ids, _asked(tokenizer))] = phase.asked_weight
    if causal:  # the same texts and weights; nothing is masked
        return ids, ids, attention, maskable, weights
    return noised, ids, attention, masked, weights


class Batches(Dataset):
    """The batch of every step of a phase, drawn from (seed, phase, step) alone: a run that was
    killed goes on with the same ones, and workers may draw them while a GPU computes."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, name: str, phase: Training, seed: int,
                 causal: bool):
        self.tokenizer, self.name, self.phase = tokenizer, name, phase
        self.seed, self.causal = seed, causal

    def __getitem__(self, step: int) -> tuple[torch.Tensor, ...]:
        rng = random.Random(f"{self.seed}/{self.name}/{step}")
        generator = torch.Generator().manual_seed(rng.getrandbits(62))
        return drawn(self.tokenizer, self.phase, rng, generator, self.causal)


def loss(model: LlamaForCausalLM, seen: torch.Tensor, ids: torch.Tensor, attention: torch.Tensor,
         counted: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of a batch of `drawn`, averaged over the masked tokens; for a causal model over
    every next token.

    Uniform weight rather than 1/t: trials with 1/t over-refused after the same number of steps.
    """
    logits = model(input_ids=seen, attention_mask=attention).logits
    if model.config.is_causal:
        logits, ids, counted, weights = logits[:, :-1], ids[:, 1:], counted[:, 1:], weights[:, 1:]
    return masked_cross_entropy(logits, ids, counted, weights=weights, weighting="uniform")


def learning_rate(phase: Training, step: int, fall: int | None) -> float:
    """Linear warm-up, constant, then from the step `fall` a linear fall to 2 %."""
    left = 1.0 if fall is None else 1 - (step - fall) / phase.decay
    return phase.lr * min(1.0, (step + 1) / max(1, phase.warmup), max(0.02, left))


def holds(goal: dict[str, tuple[float, float]], figures: dict[str, float]) -> bool:
    """Whether every figure of a goal lies in its range; ValueError for one that is not measured."""
    if unknown := [name for name in goal if name not in figures]:
        raise ValueError(f"params.yaml: goal: nothing measures {unknown[0]!r}"
                         f"{choice(unknown[0], figures)}")
    return all(low <= figures[name] <= high for name, (low, high) in goal.items())


def train(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, name: str, phase: Training,
          seed: int, scratch: Path, measure: Callable[[LlamaForCausalLM], dict[str, float]],
          every: float = 60.0) -> list[dict]:
    """Run one phase in place, from its last checkpoint in `scratch` if there is one.

    The phase goes on until what `measure` says of the model lies in `phase.goal`, or to
    `phase.steps`; then the rate falls over `phase.decay` steps. A checkpoint (weights, optimizer,
    step) is written every `every` seconds and at the end. Returns a dict(step, device, loss,
    ...figures) for each look at the goal, the last one after the fall.
    """
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=phase.lr, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    checkpoint = scratch / f"{name}.safetensors"
    step, fall, running, looks = 0, None, [], []
    if checkpoint.exists():
        step, fall, running, looks = _restore(model, optimizer, checkpoint)
        print(f"{name}: {step} steps already done", file=sys.stderr)
    device = torch.cuda.get_device_name() if model.device.type == "cuda" else "cpu"
    model.model.embed_tokens.requires_grad_(not phase.frozen)
    model.lm_head.requires_grad_(not phase.frozen)
    model.train()
    saved, bar = time.monotonic(), tqdm(desc=name, initial=step, mininterval=10, file=sys.stderr)
    batches = iter(DataLoader(  # drawing one costs 10 to 20 ms, as much as a step on a GPU
        Batches(tokenizer, name, phase, seed, model.config.is_causal), batch_size=None,
        sampler=itertools.count(step), num_workers=0 if model.device.type == "cpu" else 2))
    while fall is None or step < fall + phase.decay:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(phase, step, fall)
        value = loss(model, *(t.to(model.device) for t in next(batches)))
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        running = [*running, value.detach()][-phase.check:]  # no item(): a GPU would wait
        step += 1
        bar.update()
        last = fall is not None and step == fall + phase.decay
        if step % phase.check == 0 or last:
            model.eval()
            figures = measure(model)
            model.train()
            looks.append({"step": step, "device": device, **figures,
                          "loss": sum(map(float, running)) / len(running)})
            print(name, json.dumps(looks[-1]), flush=True)
            if fall is None and (holds(phase.goal, figures) or step >= phase.steps):
                fall = step
        if time.monotonic() - saved > every or last:
            _save(model, optimizer, checkpoint, [step, fall, [*map(float, running)], looks])
            saved = time.monotonic()
    model.eval().requires_grad_()
    return looks


def _save(model, optimizer, checkpoint, state) -> None:
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    moments = {f"moment.{i}.{key}": value for i, values in
               optimizer.state_dict()["state"].items() for key, value in values.items()}
    fresh = checkpoint.with_suffix(".new")  # beside the old one: a kill leaves it whole
    save_file({**model.state_dict(), **moments}, fresh, {"state": json.dumps(state)})
    os.replace(fresh, checkpoint)


def _restore(model, optimizer, checkpoint) -> list:
    stored, moments = load_file(checkpoint), {}
    for key in [key for key in stored if key.startswith("moment.")]:
        _, index, name = key.split(".")
        moments.setdefault(int(index), {})[name] = stored.pop(key)
    model.load_state_dict(stored)
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    with safe_open(checkpoint, "pt") as file:
        return json.loads(file.metadata()["state"])
