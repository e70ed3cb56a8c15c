"""A suffix that makes a phrase likely at a slot of the response: the problem, its loss, its slope.

    task = problem(lm, messages, ". . . .", "the next step is", position=30, length=128)
    shown, weights = states(lm, task)                                  # the response all masked
    loss, slope = gradient(lm, task, torch.tensor(task.suffix), shown, weights)

An autoregressive model scores a phrase from left to right, so every phrase after the first words
depends on what stands before it. A diffusion model predicts all slots at once: one forward over
the masked response gives the phrase's first-step likelihood, as in First-Step GCG
(arXiv 2510.00565). Position i predicts token i: the usual shift by one would be silently wrong.

How a suffix is changed is the business of an attack: mosa.attacks.gcg.
"""

from dataclasses import dataclass

import torch

from mosa.lm.fast import Fast
from mosa.lm.model import DiffusionLM


@dataclass(frozen=True)
class Problem:
    """One suffix to find: make `phrase` stand at slot `position` of the response to `messages`."""

    messages: list
    before: list  # token ids of the prompt up to the suffix, which stands where it does in a chat
    suffix: list  # token ids that the search starts from
    after: list
    phrase: list
    position: int
    response: list  # what the model sees of the response: masks, or a draft before the phrase


def problem(lm: DiffusionLM, messages: list[dict], suffix: str, phrase: str | list[int],
            position: int, length: int, draft: list[int] | None = None) -> Problem:
    """The problem of finding a suffix, the first one (a text) joined to the last message.

    phrase: text or token ids. length: response slots. draft: response ids whose first `position`
    slots are shown, instead of masks. A causal model (`lm.model.config.is_causal`) has no masks:
    it needs a draft, and sees the phrase itself, each token after the one before.
    Raises ValueError where the phrase is empty or leaves the response, the suffix does not keep
    its tokens inside the prompt, or prompt and response are longer than the model's context.
    """
    phrase = lm.encode(phrase) if isinstance(phrase, str) else list(phrase)
    if not phrase or position < 0 or position + len(phrase) > length:
        raise ValueError(
            f"a phrase of {len(phrase)} tokens at position {position} does not fit into a response "
            f"of {length} slots: choose another position, or a larger sampler.length")
    causal = lm.model.config.is_causal
    if causal and (draft is None or len(draft) < position):
        raise ValueError("a causal model reaches a slot through what stands before: give a draft")
    response = [lm.mask_id] * length
    if draft is not None:
        response[:position] = list(draft)[:position]
    if causal:
        response = response[:position] + phrase
    bare, whole = (lm.prompt_ids(suffixed(messages, text), length) for text in ("", suffix))
    start = next((i for i, (a, b) in enumerate(zip(bare, whole)) if a != b), len(bare))
    end = start - len(bare)  # what follows the suffix follows the bare message too
    found = Problem(messages, whole[:start], whole[start:end], whole[end:], phrase, position,
                    response)
    if not found.suffix or not can_be_typed(lm, found, found.suffix):
        raise ValueError(f"the suffix {suffix!r} does not keep its tokens inside the prompt: start "
                         "from another gcg.suffix, such as '. . . .'")
    return found


def states(lm: DiffusionLM, task: Problem, samples: int = 0,
           generator: torch.Generator | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """What the model is shown of the response, (n, R) ids, and the weight of every token of the
    phrase in each, (n, k): one state with all of it masked, or `samples` with part of it shown.

    A Monte-Carlo state masks l of the k tokens, l uniform in 1..k, and weighs those k / l; see
    mosa.lm.diffusion.monte_carlo_loglik. Weights are scaled to nats per token of the phrase.
    Raises ValueError for samples of a causal model, which has no masks.
    """
    if samples and lm.model.config.is_causal:
        raise ValueError("a causal model has no masks to show: samples must be 0")
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


def shortcut(lm: DiffusionLM) -> Fast | None:
    """A copy of a small model that computes `losses` in less time (mosa.lm.fast); None for any
    other model. It is of the weights as they are now."""
    return Fast(lm.model) if lm.logit_shift == 0 and Fast.serves(lm.model) else None


@torch.no_grad()
def losses(lm: DiffusionLM, task: Problem, suffixes: torch.Tensor, shown: torch.Tensor,
           weights: torch.Tensor, fast: Fast | None = None) -> torch.Tensor:
    """The phrase's loss under suffixes (C, S), in nats per token, (C,) float32.

    fast: the model's `shortcut`; the same losses but for rounding.
    """
    ids, slots = _canvases(task, suffixes, shown), _slots(task, suffixes.shape[1])
    if fast:
        wanted = torch.zeros_like(ids, dtype=torch.bool)
        wanted[:, slots] = True
        logits = fast(ids, wanted).view(len(ids), len(slots), -1)
    else:
        logits = lm.at(slots, input_ids=ids)
    found = _loglik(task, logits)  # (C * n, k)
    return -(found.view(len(suffixes), len(shown), -1) * weights).sum((1, 2))


def gradient(lm: DiffusionLM, task: Problem, suffix: torch.Tensor, shown: torch.Tensor,
             weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The suffix's loss, (), and its gradient by the suffix's one-hot tokens, (S, V)."""
    embedding = lm.model.get_input_embeddings().weight
    ids = _canvases(task, suffix[None], shown)
    start = len(task.before)
    one_hot = torch.nn.functional.one_hot(suffix, len(embedding)).to(embedding.dtype)
    one_hot.requires_grad_()
    embedded = lm.model.get_input_embeddings()(ids).detach()  # (n, T, d)
    embedded = torch.cat([embedded[:, :start], (one_hot @ embedding).expand(len(ids), -1, -1),
                          embedded[:, start + len(suffix) :]], dim=1)
    logits = lm.at(_slots(task, len(suffix)), inputs_embeds=embedded)
    loss = -(_loglik(task, logits) * weights).sum()
    return loss.detach(), torch.autograd.grad(loss, one_hot)[0].float()


def can_be_typed(lm: DiffusionLM, task: Problem, suffix: list[int]) -> bool:
    """Does the suffix, typed as text, come back as these ids in the prompt?"""
    text = lm.tokenizer.decode(suffix).strip()
    return lm.prompt_ids(suffixed(task.messages, text)) == [*task.before, *suffix, *task.after]


def suffixed(messages: list[dict], suffix: str) -> list[dict]:
    """The chat with the suffix at the end of its last user message."""
    *head, last = messages
    return [*head, last | {"content": f"{last['content']} {suffix}".rstrip()}]


def _canvases(task, suffixes, shown):
    """Prompt and response, (C * n, T) ids: every suffix (C, S) with every state (n, R)."""
    rows = len(suffixes) * len(shown)
    before, after = (torch.tensor(ids, dtype=torch.long, device=shown.device).expand(rows, -1)
                     for ids in (task.before, task.after))
    return torch.cat([before, suffixes.repeat_interleave(len(shown), 0), after,
                      shown.repeat(len(suffixes), 1)], dim=1)


def _slots(task, size):
    """Where the phrase stands behind a suffix of `size` tokens, (k,)."""
    first = len(task.before) + size + len(task.after) + task.position
    return torch.arange(first, first + len(task.phrase))


def _loglik(task, logits):
    """log p of the phrase's tokens, (N, k) float32, from the logits (N, k, V) at their slots."""
    phrase = torch.tensor(task.phrase, device=logits.device)
    logp = logits.float().log_softmax(-1)
    return logp.gather(2, phrase[None, :, None].expand(len(logp), -1, 1))[..., 0]
