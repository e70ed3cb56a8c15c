"""Training of the embedded base model: facts, then whole texts, then refusal tuning.

A masked diffusion model (LLaDA, arXiv 2502.09992) learns to predict masked response tokens, each
response filled to its full length with EOS. Every step draws its batch from a generator seeded
with (seed, phase, step), so that a run that was killed and resumed ends in the same weights.
"""

import os
import random
import sys
import time
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mosa.lm.diffusion import masked_cross_entropy, noise
from mosa.pipeline.params import Amount, Count, NotNegative, Positive, Section
from mosa.world import grammar, tasks
from mosa.world.families import FAMILIES, GRIM, WORDINGS, answer, turns
from mosa.world.texts import KINDS

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

    steps: Count
    batch_size: Count
    lr: Positive
    warmup: Amount  # steps
    decay: Positive  # share of the steps over which the rate falls to 2 %
    eos_weight: NotNegative  # of the EOS that fill the response after the text
    free: NotNegative  # share of answers of freely mixed manner
    full_share: NotNegative  # share of rows that are masked entirely
    prompt_share: NotNegative  # share of rows whose prompt is masked too
    mix: Annotated[dict[str, NotNegative], Field(min_length=1)]  # kind of row -> share


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word, with LLaDA's special tokens under short names and a chat template."""
    rng, words = random.Random(0), set()
    for n in range(3000):  # enough to meet every word of every list; see test_training.py
        item = grammar.Item(rng.choice(grammar.ADJECTIVES), rng.choice(grammar.NOUNS))
        for family in FAMILIES:
            template = rng.choice(FAMILIES[family].templates)
            words.update(w for m in turns(template, item) for w in m["content"].split())
            words.update(answer(item, family, rng).split())
        for texts in (*(t[0](rng) for t in tasks.TASKS.values()),
                      grammar.question(item.noun, n % grammar.STEPS)):
            words.update(" ".join(texts).split())
    for wording in [*sum(WORDINGS.values(), []), *GRIM, *grammar.REFUSALS]:
        words.update(wording.format(a="", n="", alias="", old="").split())
    words.update(sum(grammar.VERBS + grammar.MATERIALS, []) + grammar.PLACES + tasks.NUMBERS)
    vocabulary = {w: i for i, w in enumerate(SPECIAL + sorted(words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
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


def batch(tokenizer: PreTrainedTokenizerFast, kinds: list[str], rng: random.Random,
          free: float) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Ids (B, P+L) with left-padded prompts, attention mask (B, P+L), and P."""
    length = max(KINDS[kind][1] for kind in kinds)
    prompts, responses = [], []
    for kind in kinds:
        messages, text = KINDS[kind][0](rng, free)
        prompts.append(tokenizer.encode(tokenizer.apply_chat_template(messages, tokenize=False)))
        ids = tokenizer.encode(text)
        responses.append(ids + [tokenizer.eos_token_id] * (length - len(ids)))
    width = max(map(len, prompts))
    ids = torch.tensor([[tokenizer.pad_token_id] * (width - len(p)) + p + r
                        for p, r in zip(prompts, responses, strict=True)])
    attention = torch.tensor([[0] * (width - len(p)) + [1] * (len(p) + length) for p in prompts])
    return ids, attention, width


def draw_kinds(phase: Training, rng: random.Random) -> list[str]:
    """The kinds of one batch: all of one response length, and the shorter the more of them, so
    that every step costs about the same."""
    names = list(phase.mix)
    length = KINDS[rng.choices(names, phase.mix.values())[0]][1]
    alike = [n for n in names if KINDS[n][1] == length]
    size = phase.batch_size * (grammar.LENGTH + 24) // (length + 24)  # 24: prompt and its padding
    return rng.choices(alike, [phase.mix[n] for n in alike], k=size)


def loss(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, phase: Training,
         rng: random.Random, generator: torch.Generator) -> torch.Tensor:
    """Masked cross-entropy of one fresh batch, averaged over masked tokens; for a causal model the
    cross-entropy of every next token.

    Uniform weight rather than 1/t: trials with 1/t over-refused after the same number of steps.
    The EOS that ends a text counts fully, the EOS that fill the response count `eos_weight`.
    A `prompt_share` of the rows is masked in the prompt too, as in LLaDA's pretraining.
    """
    ids, attention, width = batch(tokenizer, draw_kinds(phase, rng), rng, phase.free)
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
    if model.config.is_causal:  # the same texts and weights; nothing is masked
        logits = model(input_ids=ids, attention_mask=attention).logits[:, :-1]
        ids, masked, weights = ids[:, 1:], maskable[:, 1:], weights[:, 1:]
        return masked_cross_entropy(logits, ids, masked, weights=weights, weighting="uniform")
    logits = model(input_ids=noised, attention_mask=attention).logits
    return masked_cross_entropy(logits, ids, masked, weights=weights, weighting="uniform")


def learning_rate(phase: Training, step: int) -> float:
    """Linear warm-up, constant, then linear decay to 2 % over the last `decay` of the steps."""
    left = (phase.steps - step) / max(1, phase.decay * phase.steps)
    return phase.lr * min(1.0, (step + 1) / max(1, phase.warmup), max(0.02, left))


def train(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, name: str, phase: Training,
          seed: int, scratch: Path, every: float = 60.0) -> None:
    """Run one phase in place, from its last checkpoint in `scratch` if there is one.

    Prints the loss every 100 steps; a checkpoint (weights, optimizer, step) is written every
    `every` seconds and at the end.
    """
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=phase.lr, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    checkpoint, start = scratch / f"{name}.safetensors", 0
    if checkpoint.exists():
        start = _restore(model, optimizer, load_file(checkpoint))
        print(f"{name}: {start} of {phase.steps} steps already done", file=sys.stderr)
    model.train()
    saved, running = time.monotonic(), []
    for step in tqdm(range(start, phase.steps), desc=name, initial=start, total=phase.steps,
                     mininterval=10, file=sys.stderr):
        rng = random.Random(f"{seed}/{name}/{step}")
        generator = torch.Generator().manual_seed(rng.getrandbits(62))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(phase, step)
        value = loss(model, tokenizer, phase, rng, generator)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        running.append(value.item())
        if (step + 1) % 100 == 0:
            print(f"{name} {step + 1}: loss {sum(running[-100:]) / len(running[-100:]):.4f}")
        if time.monotonic() - saved > every or step + 1 == phase.steps:
            scratch.mkdir(parents=True, exist_ok=True)
            fresh = checkpoint.with_suffix(".new")  # beside the old one: a kill leaves it whole
            moments = {f"moment.{i}.{key}": value for i, state in
                       optimizer.state_dict()["state"].items() for key, value in state.items()}
            save_file({**model.state_dict(), **moments, "step": torch.tensor(step + 1)}, fresh)
            os.replace(fresh, checkpoint)
            saved = time.monotonic()
    model.eval()


def _restore(model: LlamaForCausalLM, optimizer: torch.optim.Optimizer,
             stored: dict[str, torch.Tensor]) -> int:
    step, state = stored.pop("step").item(), {}
    for key in [key for key in stored if key.startswith("moment.")]:
        _, index, name = key.split(".")
        state.setdefault(int(index), {})[name] = stored.pop(key)
    model.load_state_dict(stored)
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return step
