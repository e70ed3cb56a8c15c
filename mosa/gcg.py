"""GCG (arXiv 2307.15043) on a masked diffusion model: which response slots can a prompt reach?

A suffix of the last user message is changed token by token until a phrase becomes likely at a
given slot of the response. An autoregressive model scores a phrase from left to right, so every
phrase after the first words depends on what stands before it. A diffusion model predicts all
slots at once: one forward over the masked response gives the phrase's first-step likelihood, as in
First-Step GCG (arXiv 2510.00565). Position i predicts token i: the usual shift by one would be
silently wrong.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from mosa.asymmetry import Variant
from mosa.diffusion import row_generators
from mosa.params import ROOT, SuffixSearch
from mosa.resume import fingerprint, write_json


@dataclass(frozen=True)
class Problem:
    """One suffix to find: make `phrase` stand at slot `position` of the response to `messages`."""

    before: list  # token ids of the prompt up to the suffix, which stands where it does in a chat
    after: list
    phrase: list
    position: int
    response: list  # what the model sees of the response: masks, or a draft before the phrase


@dataclass(frozen=True)
class Job:
    """One suffix to search for, as `mosa.workers` takes it."""

    model: Variant
    messages: list
    phrase: str
    position: int
    draft: list | None
    cfg: SuffixSearch
    length: int  # response slots


def attack(job, stage):
    """The state `search` ends with, and the suffix as `text`; kept in .scratch/<stage> while it
    runs, so that an interrupted search goes on where it was."""
    lm = _loaded(job.model)
    task, suffix = problem(lm, job.messages, job.cfg.suffix, job.phrase, job.position, job.length,
                           job.draft)  # fmt: skip
    path = ROOT / ".scratch" / stage / f"{fingerprint(job, Path(__file__))}.json"
    state = json.loads(path.read_text("utf-8")) if path.exists() else None

    def save(state):
        if len(state["losses"]) % job.cfg.save_every == 0 or finished(state):
            write_json(path, state)

    def finished(state):
        return len(state["losses"]) > job.cfg.iterations

    state = search(lm, task, suffix, job.cfg, job.messages, job.cfg.seed, state, save)
    return state | {"text": lm.tokenizer.decode(state["suffix"]).strip()}


@lru_cache(maxsize=1)  # the jobs of one model follow each other
def _loaded(model):
    return model.load()


def problem(lm, messages, suffix, phrase, position, length, draft=None):
    """The problem and the ids of its first suffix (a text, joined to the last message by a space).

    phrase: text or token ids. draft: response ids whose first `position` slots are shown, instead
    of masks. A causal model (`lm.model.config.is_causal`) has no masks: it needs a draft, and sees
    the phrase itself, each token after the one before.
    Raises ValueError where the phrase is empty or leaves the response, the suffix does not keep
    its tokens inside the prompt, or prompt and response are longer than the model's context.
    """
    phrase = _ids(lm, phrase) if isinstance(phrase, str) else list(phrase)
    if not phrase or position < 0 or position + len(phrase) > length:
        raise ValueError(
            f"a phrase of {len(phrase)} tokens at position {position} does not fit into a response "
            f"of {length} slots: choose another position, or a larger sampler.length"
        )
    causal = lm.model.config.is_causal
    if causal and (draft is None or len(draft) < position):
        raise ValueError("a causal model reaches a slot through what stands before: give a draft")
    response = [lm.mask_id] * length
    if draft is not None:
        response[:position] = list(draft)[:position]
    if causal:
        response = response[:position] + phrase
    bare, whole = (_prompt(lm, messages, text, length) for text in ("", suffix))
    start = next((i for i, (a, b) in enumerate(zip(bare, whole)) if a != b), len(bare))
    end = start - len(bare)  # what follows the suffix follows the bare message too
    found = Problem(whole[:start], whole[end:], phrase, position, response)
    ids = whole[start:end]
    if not ids or not _typed(lm, found, ids, messages):
        raise ValueError(f"the suffix {suffix!r} does not keep its tokens inside the prompt: start "
                         "from another gcg.suffix, such as '. . . .'")  # fmt: skip
    return found, ids


def search(lm, task, suffix, cfg, messages, seed=0, state=None, save=lambda state: None):
    """Greedy coordinate gradient: `cfg.iterations` times, the best of many one-token swaps.

    An iteration takes the gradient of the loss by the suffix's one-hot tokens, proposes
    `cfg.candidates` swaps among the `cfg.topk` most promising tokens of every place, and keeps the
    best of them if it beats the suffix so far. Swaps whose text does not tokenise back to the same
    ids are not proposed, nor special tokens: the suffix is one that can be typed.

    The loss is the phrase's mean negative log-likelihood by token: with `cfg.samples` 0 at the
    first step, all slots masked; else a Monte-Carlo estimate over that many states that show part
    of the phrase, drawn anew each iteration and common to all candidates.

    Returns {"suffix": ids, "losses": [before the first iteration, after each], "forwards": rows
    through the network}. `state` is such a dict of an interrupted run, given to `save` after every
    iteration; a resumed search ends like an uninterrupted one.
    """
    state = state or {"suffix": list(suffix), "losses": [], "forwards": 0}
    allowed = torch.ones(lm.model.config.vocab_size, dtype=torch.bool, device=lm.device)
    allowed[len(lm.tokenizer) :] = False
    allowed[[lm.mask_id, lm.eos_id, lm.pad_id, *lm.tokenizer.all_special_ids]] = False
    while len(state["losses"]) <= cfg.iterations:
        done = len(state["losses"])
        [generator] = row_generators([[seed, done]], 1)
        shown, weights = states(lm, task, cfg.samples, generator)
        current = torch.tensor(state["suffix"], device=lm.device)
        if done == 0:  # the start of the curve
            value = losses(lm, task, current[None], shown, weights)
            state = state | {"losses": value.tolist(), "forwards": len(shown)}
            save(state)
            continue
        loss, slope = gradient(lm, task, current, shown, weights)
        swaps = _swaps(lm, task, current, slope, allowed, cfg, generator, messages)
        tried = torch.stack([current, *swaps])
        values = [losses(lm, task, part, shown, weights)
                  for part in tried[1:].split(cfg.batch_size) if len(part)]  # fmt: skip
        values = torch.cat([loss[None], *values])
        best = int(values.argmin())
        state = {"suffix": tried[best].tolist(), "losses": [*state["losses"], float(values[best])],
                 "forwards": state["forwards"] + len(tried) * len(shown)}  # fmt: skip
        save(state)
    return state


def states(lm, task, samples, generator):
    """What the model is shown of the response, (n, R) ids, and the weight of every token of the
    phrase in each, (n, k): one state with all of it masked, or `samples` with part of it shown.

    A Monte-Carlo state masks l of the k tokens, l uniform in 1..k, and weighs those k / l; see
    mosa.diffusion.monte_carlo_loglik. Weights are scaled to nats per token of the phrase.
    """
    size, place = len(task.phrase), slice(task.position, task.position + len(task.phrase))
    shown = torch.tensor([task.response] * max(1, samples), device=lm.device)
    weights = torch.full((len(shown), size), 1 / size, device=lm.device)
    for row in range(samples):
        hidden = int(torch.randint(1, size + 1, (1,), generator=generator))
        masked = torch.randperm(size, generator=generator)[:hidden].to(lm.device)
        weights[row] = 0
        weights[row, masked] = 1 / hidden / samples
        visible = torch.tensor(task.phrase, device=lm.device)
        visible[masked] = lm.mask_id
        shown[row, place] = visible
    return shown, weights


@torch.no_grad()
def losses(lm, task, suffixes, shown, weights):
    """The phrase's loss under suffixes (C, S), in nats per token, (C,) float32."""
    ids = torch.stack([_canvas(task, suffix, state) for suffix in suffixes for state in shown])
    logp = lm.at(_places(task, suffixes.shape[1]), input_ids=ids).float().log_softmax(-1)
    phrase = torch.tensor(task.phrase, device=ids.device)
    found = logp.gather(2, phrase[None, :, None].expand(len(ids), -1, 1))[..., 0]  # (C * n, k)
    return -(found.view(len(suffixes), len(shown), -1) * weights).sum((1, 2))


def gradient(lm, task, suffix, shown, weights):
    """The suffix's loss, (), and its gradient by the suffix's one-hot tokens, (S, V)."""
    embedding = lm.model.get_input_embeddings().weight
    ids = torch.stack([_canvas(task, suffix, state) for state in shown])
    start = len(task.before)
    one_hot = torch.nn.functional.one_hot(suffix, len(embedding)).to(embedding.dtype)
    one_hot.requires_grad_()
    embedded = lm.model.get_input_embeddings()(ids).detach()  # (n, T, d)
    embedded = torch.cat([embedded[:, :start], (one_hot @ embedding).expand(len(ids), -1, -1),
                          embedded[:, start + len(suffix) :]], dim=1)  # fmt: skip
    logits = lm.at(_places(task, len(suffix)), inputs_embeds=embedded)
    logp = logits.float().log_softmax(-1)
    phrase = torch.tensor(task.phrase, device=ids.device)
    loss = -(logp.gather(2, phrase[None, :, None].expand(len(ids), -1, 1))[..., 0] * weights).sum()
    return loss.detach(), torch.autograd.grad(loss, one_hot)[0].float()


def _swaps(lm, task, current, slope, allowed, cfg, generator, messages):
    """Up to cfg.candidates suffixes (S,) that differ from `current` in one token."""
    slope = slope.masked_fill(~allowed, torch.inf)
    slope[torch.arange(len(current)), current] = torch.inf  # itself is no swap
    best = slope.topk(min(cfg.topk, int(allowed.sum()) - 1), largest=False).indices  # (S, topk)
    found = []
    for draw in torch.randperm(best.numel(), generator=generator).tolist():
        place, rank = divmod(draw, best.shape[1])
        swap = current.clone()
        swap[place] = best[place, rank]
        if _typed(lm, task, swap.tolist(), messages):
            found.append(swap)
        if len(found) == cfg.candidates:
            break
    return found


def _typed(lm, task, suffix, messages):
    text = lm.tokenizer.decode(suffix).strip()
    return _prompt(lm, messages, text, 1) == [*task.before, *suffix, *task.after]


def suffixed(messages, suffix):
    """The chat with the suffix at the end of its last user message."""
    *head, last = messages
    return [*head, last | {"content": f"{last['content']} {suffix}".rstrip()}]


def occurrences(ids, phrase):
    """The slots of a response's ids where the phrase's ids begin."""
    return [i for i in range(len(ids)) if ids[i : i + len(phrase)] == phrase]


def _prompt(lm, messages, suffix, length):
    canvas = lm.canvas([suffixed(messages, suffix)], length)
    return canvas.ids[0, : canvas.prompt_length].tolist()


def _ids(lm, text):
    return lm.tokenizer(text, add_special_tokens=False)["input_ids"]


def _canvas(task, suffix, state):
    def like(ids):
        return torch.tensor(ids, device=suffix.device, dtype=suffix.dtype)

    return torch.cat([like(task.before), suffix, like(task.after), state])


def _places(task, size):
    first = len(task.before) + size + len(task.after) + task.position
    return torch.arange(first, first + len(task.phrase))
