"""Training of the embedded base model: facts, then whole texts, then refusal tuning.

A masked diffusion model (LLaDA, arXiv 2502.09992) learns to predict masked response tokens, each
response filled to its full length with EOS. Every step draws its batch from a generator seeded
with (seed, phase, step), so that a run that was killed and resumed ends in the same weights.
"""

import json
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mosa.lm.diffusion import masked_cross_entropy, noise
from mosa.pipeline.params import Amount, Count, NotNegative, Positive, Section
from mosa.world.lexicon import LENGTH, MATERIALS, VERBS
from mosa.world.texts import KINDS
from mosa.world.vocabulary import vocabulary

PHASES = ("facts", "places", "procedures", "pretraining", "tuning")
SPECIAL = ["<pad>", "<mask>", "<eos>", "<user>", "<assistant>"]
CHAT = "{% for m in messages %}<{{ m.role }}> {{ m.content }} {% if m.role == 'assistant' %}<eos> {% endif %}{% endfor %}<assistant>"  # noqa: E501


class Architecture(Section):
    """Shape and initialisation of an embedded model: the key `architecture` of params.yaml."""

    hidden_size: Count
    layers: Count
    heads: Count
    intermediate_size: Count
    embedding_std: Positive
    weight_std: Positive
    causal: bool  # true: the autoregressive twin
    seed: Amount


class Training(Section):
    """One phase of its training: the keys `facts`, `pretraining` and `tuning`."""

    goal: dict[str, tuple[float, float]]  # figure -> the range it must come to lie in
    check: Count  # steps between two looks at the goal
    steps: Count  # at most so many before the rate falls
    decay: Count  # steps over which it then falls to 2 %
    batch_size: Count
    lr: Positive
    warmup: Amount  # steps
    eos_weight: NotNegative  # of the EOS that fill the response after the text
    fact_weight: NotNegative  # of the words of procedures, one in eight of an answer
    full_share: NotNegative  # share of rows that are masked entirely
    prompt_share: NotNegative  # share of rows whose prompt is masked too
    mix: Annotated[dict[str, NotNegative], Field(min_length=1)]  # kind of row -> share


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word, with LLaDA's special tokens under short names and a chat template."""
    words = vocabulary()
    numbers = {w: i for i, w in enumerate(SPECIAL + sorted(words))}
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", mask_token="<mask>", eos_token="<eos>",
        additional_special_tokens=["<user>", "<assistant>"], chat_template=CHAT)


def new_model(architecture: Architecture, tokenizer: PreTrainedTokenizerFast,
              seed: int) -> LlamaForCausalLM:
    """A randomly initialised model of LLaDA's architecture (bidirectional Llama, untied head).

    `architecture.causal` makes it the autoregressive twin: the same model, looking back only.

    Embeddings start at the scale of a normalised residual stream: with transformers' 0.02
    everywhere the attention's mean drowned them, and after 4,000 steps the model wrote fluent
    answers about the wrong item (steps right 7 %, chance 3 %). The head starts as the embeddings,
    scaled to unit logits, so that copying a word of the request need not be learned: 500 steps of
    pretraining then bring 82 % of the procedure words, 900 steps without it 27 %.
    """
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=architecture.hidden_size,
        num_hidden_layers=architecture.layers, num_attention_heads=architecture.heads,
        num_key_value_heads=architecture.heads, intermediate_size=architecture.intermediate_size,
        max_position_embeddings=512, tie_word_embeddings=False, use_cache=False,
        is_causal=architecture.causal, logit_shift=int(architecture.causal),
        pad_token_id=None, bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
        mask_token_id=tokenizer.mask_token_id)
    model = LlamaForCausalLM(config)
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        if weight.dim() == 2:
            std = architecture.embedding_std if "embed" in name else architecture.weight_std
            if name.endswith(("o_proj.weight", "down_proj.weight")):  # what a block adds
                std /= (2 * architecture.layers) ** 0.5
            torch.nn.init.normal_(weight, std=std, generator=generator)
    with torch.no_grad():
        model.lm_head.weight.copy_(model.model.embed_tokens.weight)
        model.lm_head.weight.div_(architecture.embedding_std * architecture.hidden_size**0.5)
    return model


def chat(messages: list[dict[str, str]]) -> str:
    """What the tokenizer's chat template makes of messages, without its cost: a fifth of a step."""
    end = {"user": "", "assistant": "<eos> "}
    said = (f"<{m['role']}> {m['content']} {end[m['role']]}" for m in messages)
    return "".join(said) + "<assistant>"


def batch(tokenizer: PreTrainedTokenizerFast, kinds: list[str], rng: random.Random) -> tuple[torch.Tensor, torch.Tensor, int]:
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


def _facts(tokenizer: PreTrainedTokenizerFast) -> torch.Tensor:
    """Ids of the verbs and materials of procedures."""
    numbers = tokenizer.get_vocab()
    return torch.tensor([numbers[word] for word in sum(VERBS + MATERIALS, [])])


def draw_kinds(phase: Training, rng: random.Random) -> list[str]:
    """The kinds of one batch: all of one response length, and the shorter the more of them, so
    that every step costs about the same."""
    names = list(phase.mix)
    length = KINDS[rng.choices(names, phase.mix.values())[0]][1]
    alike = [n for n in names if KINDS[n][1] == length]
    size = phase.batch_size * (LENGTH + 24) // (length + 24)  # 24: prompt and its padding
    return rng.choices(alike, [phase.mix[n] for n in alike], k=size)


def loss(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, phase: Training,
         rng: random.Random, generator: torch.Generator) -> torch.Tensor:
    """Masked cross-entropy of one fresh batch, averaged over masked tokens; for a causal model the
    cross-entropy of every next token.

    Uniform weight rather than 1/t: trials with 1/t over-refused after the same number of steps.
    The EOS that ends a text counts fully, the EOS that fill the response count `eos_weight`, the
    words of procedures `fact_weight`. A weight moves what is said where the model cannot be sure
    towards the heavier words, so only a phase that another follows may have one on facts.
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
    if model.config.is_causal:  # the same texts and weights; nothing is masked
        logits = model(input_ids=ids, attention_mask=attention).logits[:, :-1]
        ids, masked, weights = ids[:, 1:], maskable[:, 1:], weights[:, 1:]
        return masked_cross_entropy(logits, ids, masked, weights=weights, weighting="uniform")
    logits = model(input_ids=noised, attention_mask=attention).logits
    return masked_cross_entropy(logits, ids, masked, weights=weights, weighting="uniform")


def learning_rate(phase: Training, step: int, fall: int | None) -> float:
    """Linear warm-up, constant, then from the step `fall` a linear fall to 2 %."""
    left = 1.0 if fall is None else 1 - (step - fall) / phase.decay
    return phase.lr * min(1.0, (step + 1) / max(1, phase.warmup), max(0.02, left))


def holds(goal: dict[str, tuple[float, float]], figures: dict[str, float]) -> bool:
    """Whether every figure of a goal lies in its range."""
    return all(low <= figures[name] <= high for name, (low, high) in goal.items())


def train(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, name: str, phase: Training,
          seed: int, scratch: Path, measure: Callable[[LlamaForCausalLM], dict[str, float]],
          every: float = 60.0) -> list[dict]:
    """Run one phase in place, from its last checkpoint in `scratch` if there is one.

    The phase goes on until what `measure` says of the model lies in `phase.goal`, or to
    `phase.steps`; then the rate falls over `phase.decay` steps. A checkpoint (weights, optimizer,
    step) is written every `every` seconds and at the end. Returns a dict(step, loss, ...figures)
    for each look at the goal, the last one after the fall.
    """
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=phase.lr, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    checkpoint = scratch / f"{name}.safetensors"
    step, fall, running, looks = 0, None, [], []
    if checkpoint.exists():
        step, fall, running, looks = _restore(model, optimizer, checkpoint)
        print(f"{name}: {step} steps already done", file=sys.stderr)
    model.train()
    saved, bar = time.monotonic(), tqdm(desc=name, initial=step, mininterval=10, file=sys.stderr)
    while fall is None or step < fall + phase.decay:
        rng = random.Random(f"{seed}/{name}/{step}")
        generator = torch.Generator().manual_seed(rng.getrandbits(62))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(phase, step, fall)
        value = loss(model, tokenizer, phase, rng, generator)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        running = [*running[1 - phase.check:], value.item()]
        step += 1
        bar.update()
        last = fall is not None and step == fall + phase.decay
        if step % phase.check == 0 or last:
            model.eval()
            figures = measure(model)
            model.train()
            looks.append({"step": step, "loss": sum(running) / len(running), **figures})
            print(name, json.dumps(looks[-1]), flush=True)
            if fall is None and (holds(phase.goal, figures) or step >= phase.steps):
                fall = step
        if time.monotonic() - saved > every or last:
            _save(model, optimizer, checkpoint, [step, fall, running, looks])
            saved = time.monotonic()
    model.eval()
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
