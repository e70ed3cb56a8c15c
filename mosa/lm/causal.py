"""The autoregressive twin: how the same architecture, trained on the same texts, is decoded.

The paper's asymmetry is a comparison with autoregressive models, in which attacker and defender
both meet at the first tokens: whatever stands there decides what follows. On the twin a forced
phrase at slot p stands after the model's own first p tokens; nothing else can stand before it.
"""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path

import torch

from mosa.lm.loading import save
from mosa.lm.model import DiffusionLM, Prompt


def saved_causal(lm: DiffusionLM, folder: str | Path) -> None:
    """Save a copy of these weights that looks back only, as a model folder for mosa.load.

    It is no trained twin: with random weights it exercises the twin's path. `lm` stays as it is.
    """
    twin = deepcopy(lm)
    twin.model.config.is_causal, twin.logit_shift = True, 1
    save(twin, folder)


@torch.no_grad()
def complete(lm: DiffusionLM, prompts: Sequence[Prompt], starts: Sequence[Sequence[int]],
             length: int, eos: bool = True, batch_size: int = 128) -> list[list[int]]:
    """Greedy responses, one list of `length` ids per row, filled with EOS after the first EOS.

    prompts: chats, as in lm.canvas; starts: response ids per row that are given ([]: none);
    eos False: the model may not end, so that every slot holds a token of its own.
    Ids that no token of the tokenizer has are never predicted.
    Raises ValueError for a model that is not causal, and for a start longer than the response.
    """
    longest = max(map(len, starts), default=0)
    if longest > length:
        raise ValueError(f"a start of {longest} tokens is longer than the {length} response slots")
    never = lm.unknown_ids + ([] if eos else [lm.eos_id])
    rows = []
    for part, ids, attention in _batches(lm, prompts, starts, length, batch_size):
        width, room = ids.shape[1], length - min(map(len, starts[part]))
        if room:
            ids = lm.model.generate(
                input_ids=ids, attention_mask=attention, max_new_tokens=room, do_sample=False,
                use_cache=True, eos_token_id=lm.eos_id, pad_token_id=lm.eos_id,
                suppress_tokens=never or None)
        for row, start in zip(ids[:, width:].tolist(), starts[part]):
            row = row[: row.index(lm.eos_id)] if lm.eos_id in row else row
            rows.append([*start, *row, *[lm.eos_id] * length][:length])
    return rows


@torch.no_grad()
def loglik(lm: DiffusionLM, prompts: Sequence[Prompt], starts: Sequence[Sequence[int]],
           span: Sequence[int], batch_size: int = 128) -> torch.Tensor:
    """Log-likelihood of a span of ids after each row's start, nats per token, (B,) float32.

    prompts and starts as in `complete`. Teacher-forced: each token after the ones before it.
    Raises ValueError for a model that is not causal, and for an empty span.
    """
    if not len(span):
        raise ValueError("an empty span has no likelihood")
    found, given = [], [[*start, *span] for start in starts]
    for _, ids, attention in _batches(lm, prompts, given, 0, batch_size):
        logp = lm(ids, attention)[:, -len(span) :].float().log_softmax(-1)
        found.append(logp.gather(2, ids[:, -len(span) :, None])[..., 0].mean(1))
    return torch.cat(found)


def _batches(lm: DiffusionLM, prompts: Sequence[Prompt], given: Sequence[Sequence[int]],
             length: int, size: int) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
    """Rows of a batch, ids of their prompts and given responses, left-padded, attention mask."""
    if not lm.model.config.is_causal:
        raise ValueError("a masked diffusion model is decoded by mosa.denoise")
    for first in range(0, len(prompts), size):
        part = slice(first, first + size)
        canvas = lm.canvas([[*lm.prompt_ids(prompt, length), *ids] for prompt, ids in
                            zip(prompts[part], given[part], strict=True)], 1)
        yield part, canvas.ids[:, :-1], canvas.attention_mask[:, :-1]  # without the canvas's slot
