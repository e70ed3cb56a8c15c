"""The autoregressive twin: how the same architecture, trained on the same texts, is decoded.

The paper's asymmetry is a comparison with autoregressive models, in which attacker and defender
both meet at the first tokens: whatever stands there decides what follows. On the twin a forced
phrase at slot p stands after the model's own first p tokens; nothing else can stand before it.
"""

import torch


@torch.no_grad()
def complete(lm, prompts, starts, length, eos=True, batch_size=128):
    """Greedy responses, one list of `length` ids per row, filled with EOS after the first EOS.

    prompts: chats, as in lm.canvas; starts: response ids per row that are given ([]: none);
    eos False: the model may not end, so that every slot holds a token of its own.
    Raises ValueError for a model that is not causal, and for a start longer than the response.
    """
    _check(lm)
    longest = max(map(len, starts), default=0)
    if longest > length:
        raise ValueError(f"a start of {longest} tokens is longer than the {length} response slots")
    rows = []
    for first in range(0, len(prompts), batch_size):
        part = slice(first, first + batch_size)
        whole = [_prompt(lm, prompt, length) + list(start)
                 for prompt, start in zip(prompts[part], starts[part], strict=True)]  # fmt: skip
        canvas = lm.canvas(whole, 1)  # left-padded
        ids, attention = canvas.ids[:, :-1], canvas.attention_mask[:, :-1]
        room = length - min(map(len, starts[part]))
        if room:
            ids = lm.model.generate(
                input_ids=ids, attention_mask=attention, max_new_tokens=room, do_sample=False,
                use_cache=True, eos_token_id=lm.eos_id, pad_token_id=lm.eos_id,
                suppress_tokens=None if eos else [lm.eos_id])  # fmt: skip
        for row, start in zip(ids[:, canvas.prompt_length :].tolist(), starts[part]):
            row = row[: row.index(lm.eos_id)] if lm.eos_id in row else row
            rows.append([*start, *row, *[lm.eos_id] * length][:length])
    return rows


@torch.no_grad()
def loglik(lm, prompts, starts, span, batch_size=128):
    """Log-likelihood of a span of ids after each row's start, nats per token, (B,) float32.

    prompts and starts as in `complete`. Teacher-forced: each token after the ones before it.
    Raises ValueError for a model that is not causal, and for an empty span.
    """
    _check(lm)
    if not len(span):
        raise ValueError("an empty span has no likelihood")
    found = []
    for first in range(0, len(prompts), batch_size):
        part = slice(first, first + batch_size)
        whole = [[*_prompt(lm, prompt, len(start) + len(span)), *start, *span]
                 for prompt, start in zip(prompts[part], starts[part], strict=True)]  # fmt: skip
        canvas = lm.canvas(whole, 1)  # left-padded; its one slot is not looked at
        ids, attention = canvas.ids[:, :-1], canvas.attention_mask[:, :-1]
        logp = lm(ids, attention)[:, -len(span) :].float().log_softmax(-1)
        found.append(logp.gather(2, ids[:, -len(span) :, None])[..., 0].mean(1))
    return torch.cat(found)


def _check(lm):
    if not lm.model.config.is_causal:
        raise ValueError("a masked diffusion model is decoded by mosa.denoise")


def _prompt(lm, messages, length):
    canvas = lm.canvas([messages], length)
    return canvas.ids[0, : canvas.prompt_length].tolist()
