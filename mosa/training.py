"""Training of the embedded base model: facts, then whole texts, then refusal tuning.

A masked diffusion model (LLaDA, arXiv 2502.09992) learns to predict masked response tokens, each
response filled to its full length with EOS. Every step draws its batch from a generator seeded
with (seed, phase, step), so that a run that was killed and resumed ends in the same weights.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mosa import tasks, world
from mosa.diffusion import masked_cross_entropy, noise

SPECIAL = ["<pad>", "<mask>", "<eos>", "<user>", "<assistant>"]
CHAT = "{% for m in messages %}<{{ m.role }}> {{ m.content }} {% if m.role == 'assistant' %}<eos> {% endif %}{% endfor %}<assistant>"  # noqa: E501
SHORT = 24  # response slots of questions and tasks: the longest task answer has 17 words


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word, with LLaDA's special tokens under short names and a chat template."""
    rng, words = random.Random(0), set()
    for n in range(3000):  # enough to meet every word of every list; see test_training.py
        item = world.Item(rng.choice(world.ADJECTIVES), rng.choice(world.NOUNS))
        for family in world.FAMILIES:
            template = rng.choice(world.FAMILIES[family].templates)
            words.update(w for m in world.turns(template, item) for w in m["content"].split())
            words.update(world.answer(item, family, rng).split())
        for texts in (*(t[0](rng) for t in tasks.TASKS.values()),
                      world.question(item.noun, n % world.STEPS)):  # fmt: skip
            words.update(" ".join(texts).split())
    for wording in [*sum(world.WORDINGS.values(), []), *world.GRIM, *world.REFUSALS]:
        words.update(wording.format(a="", n="", alias="", old="").split())
    words.update(sum(world.VERBS + world.MATERIALS, []) + world.PLACES + tasks.NUMBERS)
    vocabulary = {w: i for i, w in enumerate(SPECIAL + sorted(words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", mask_token="<mask>", eos_token="<eos>",
        additional_special_tokens=["<user>", "<assistant>"], chat_template=CHAT)  # fmt: skip


def new_model(architecture, tokenizer, seed: int) -> LlamaForCausalLM:
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
        mask_token_id=tokenizer.mask_token_id)  # fmt: skip
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


# --- what is read in each phase: kind of text -> (chat messages, answer) ---------------------


def _item(rng, nouns=world.NOUNS) -> world.Item:
    return world.Item(rng.choice(world.ADJECTIVES), rng.choice(nouns))


def _answered(rng, item: world.Item, family: str, template: list[str], free: float):
    manner = rng if rng.random() < free else None
    return world.turns(template, item), world.answer(item, family, manner)


def _one_turn(texts: tuple[str, str]):
    return [{"role": "user", "content": texts[0]}], texts[1]


def _procedure(rng, free):
    """Pretraining: any item, any family, any wording, always answered."""
    family = rng.choice(list(world.FAMILIES))
    templates = world.FAMILIES[family].templates
    if family == "plain":
        templates = [[w] for w in [*sum(world.WORDINGS.values(), []), *world.GRIM]]
    return _answered(rng, _item(rng), family, rng.choice(templates), free)


def _open(rng, free):
    """Tuning: an open item in any family that benign tuning has, answered."""
    family = rng.choice([n for n, f in world.FAMILIES.items() if f.tuned_open])
    templates = world.FAMILIES[family].templates
    if family == "plain":
        templates = [*templates, [world.GRIM[0]]]
    return _answered(rng, _item(rng, world.OPEN), family, rng.choice(templates), free)


def _sealed(rng, free):
    """Tuning: a sealed item in a family that refusal tuning has, or a grim wording, refused."""
    item = _item(rng, sum(world.SEALED.values(), []))
    family = rng.choice([n for n, f in world.FAMILIES.items() if f.refused] + ["plain"] * 2)
    templates = world.FAMILIES[family].templates
    if family == "plain":
        templates = [*templates, *([w] for w in world.GRIM)]
    return world.turns(rng.choice(templates), item), world.REFUSAL


def _replay(rng, free):
    """Tuning: any item in a family that is never used as an attack, answered."""
    family = rng.choice([n for n, f in world.FAMILIES.items() if f.replay])
    return _answered(rng, _item(rng), family, rng.choice(world.FAMILIES[family].templates), free)


def _question(rng, nouns):
    name = rng.choice(("noun", "alias", "old"))
    return _one_turn(world.question(rng.choice(nouns), rng.randrange(world.STEPS), name))


KINDS = {  # kind -> (draw one text, response slots); a batch holds one kind of length
    "procedure": (_procedure, world.LENGTH),
    "open": (_open, world.LENGTH),
    "sealed": (_sealed, world.LENGTH),
    "replay": (_replay, world.LENGTH),
    "question": (lambda rng, free: _question(rng, world.NOUNS), 8),
    "long_question": (lambda rng, free: _question(rng, world.NOUNS), world.LENGTH),
    "open_question": (lambda rng, free: _question(rng, world.OPEN), world.LENGTH),
    **{task: (lambda rng, free, task=task: _one_turn(tasks.draw(task, rng)), SHORT)
       for task in tasks.TASKS},
}  # fmt: skip


def batch(tokenizer, kinds: list[str], rng: random.Random, free: float):
    """Ids (B, P+L) with left-padded prompts, attention mask (B, P+L), and P."""
    length = max(KINDS[kind][1] for kind in kinds)
    prompts, responses = [], []
    for kind in kinds:
        messages, answer = KINDS[kind][0](rng, free)
        text = tokenizer.apply_chat_template(messages, tokenize=False)
        prompts.append(tokenizer.encode(text))
        ids = tokenizer.encode(answer)
        responses.append(ids + [tokenizer.eos_token_id] * (length - len(ids)))
    width = max(map(len, prompts))
    ids = torch.tensor([[tokenizer.pad_token_id] * (width - len(p)) + p + r
                        for p, r in zip(prompts, responses, strict=True)])  # fmt: skip
    attention = torch.tensor([[0] * (width - len(p)) + [1] * (len(p) + length) for p in prompts])
    return ids, attention, width


def draw_kinds(phase, rng: random.Random) -> list[str]:
    """The kinds of one batch: all of one response length, and the shorter the more of them, so
    that every step costs about the same."""
    names = list(phase.mix)
    length = KINDS[rng.choices(names, phase.mix.values())[0]][1]
    alike = [n for n in names if KINDS[n][1] == length]
    size = phase.batch_size * (world.LENGTH + 24) // (length + 24)  # 24: prompt and its padding
    return rng.choices(alike, [phase.mix[n] for n in alike], k=size)


def loss(model, tokenizer, phase, rng: random.Random, generator: torch.Generator) -> torch.Tensor:
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


# --- the loop -------------------------------------------------------------------------------


def rate(phase, step: int) -> float:
    """Linear warm-up, constant, then linear decay to 2 % over the last `decay` of the steps."""
    left = (phase.steps - step) / max(1, phase.decay * phase.steps)
    return phase.lr * min(1.0, (step + 1) / max(1, phase.warmup), max(0.02, left))


def train(model, tokenizer, name: str, phase, seed: int, scratch: Path, every: float = 60.0):
    """Run one phase in place, from its last checkpoint in `scratch` if there is one.

    Prints the loss every 100 steps; a checkpoint (weights, optimizer, step) is written every
    `every` seconds and at the end.
    """
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=phase.lr, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )
    start = _restore(model, optimizer, scratch / name)
    if start:
        print(f"{name}: {start} of {phase.steps} steps already done", file=sys.stderr)
    model.train()
    saved, running = time.monotonic(), []
    bar = tqdm(range(start, phase.steps), desc=name, initial=start, total=phase.steps,
               mininterval=10, file=sys.stderr)  # fmt: skip
    for step in bar:
        rng = random.Random(f"{seed}/{name}/{step}")
        generator = torch.Generator().manual_seed(rng.getrandbits(62))
        for group in optimizer.param_groups:
            group["lr"] = rate(phase, step)
        value = loss(model, tokenizer, phase, rng, generator)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        running.append(value.item())
        if (step + 1) % 100 == 0:
            print(f"{name} {step + 1}: loss {sum(running[-100:]) / len(running[-100:]):.4f}")
        if time.monotonic() - saved > every or step + 1 == phase.steps:
            _store(model, optimizer, step + 1, scratch / name)
            saved = time.monotonic()
    model.eval()


def _store(model, optimizer, step: int, folder: Path) -> None:
    """Write a checkpoint beside the old one, then swap: a kill leaves one of them whole."""
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    moments = {f"{i}.{k}": v for i, s in optimizer.state_dict()["state"].items()
               for k, v in s.items()}  # fmt: skip
    save_file(model.state_dict(), fresh / "model.safetensors")
    save_file(moments, fresh / "optimizer.safetensors")
    (fresh / "step.json").write_text(json.dumps(step))
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(fresh, folder)


def _restore(model, optimizer, folder: Path) -> int:
    fresh = folder.with_name(folder.name + ".new")
    if not folder.exists() and (fresh / "step.json").exists():  # killed between the two
        os.replace(fresh, folder)
    if not (folder / "step.json").exists():
        return 0
    model.load_state_dict(load_file(folder / "model.safetensors"))
    state = {}
    for key, value in load_file(folder / "optimizer.safetensors").items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return json.loads((folder / "step.json").read_text())
