"""MOSA's reward: how likely is a sentence at its best place in a window of the response?

Algorithm 1 of arXiv 2508.12398. One forward over prompt and fully masked response predicts every
slot at once; a sentence s scores max over starts k of sum_j log p(s_j at slot k + j), and the
reward is score(safe sentence) - score(harmful sentence). Initial Alignment, the paper's baseline,
is the same with the window (0, 0).

Slots are counted from 0, as prefill positions are. The paper leaves open whether the window
bounds the start of a sentence (Algorithm 1 as printed) or the whole of it (the text around it);
`bounds` chooses, "start" or "whole". The paper has one window for both sentences; `places` lets
each have its own, to tell which of the two does the work.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

BOUNDS = ("start", "whole")
REFUSE_AT = ("window", "start", "both")
SUPPRESS_AT = ("window", "start", "everywhere")


def windowed_max_loglik(
    logprobs: Tensor, spans: Sequence[Sequence[int]], window: tuple[int, int], bounds: str = "start"
) -> tuple[Tensor, Tensor]:
    """Best log-likelihood of each row's span within a window, and the slot it starts at.

    logprobs (B, L, V); spans: one sequence of token ids per row; window (k_start, k_end), both
    inclusive. Returns (B,) scores, differentiable, and (B,) starts; ties go to the lower slot.
    Raises ValueError where a span is empty or fits nowhere.
    """
    ids, lengths = padded(spans, logprobs.device)
    tokens = logprobs.gather(2, ids[:, None].expand(-1, logprobs.shape[1], -1))  # (B, L, S)
    return best_start(tokens, lengths, window, bounds)


def places(where: str, window: tuple[int, int], room: int) -> list[tuple[int, int]]:
    """The windows of a place: "window" is the method's own, "start" slot 0 as in Initial Alignment,
    "both" these two, "everywhere" slot 0 and all `room` slots of the response."""
    start = (0, 0)
    return {"window": [window], "start": [start], "both": [start, window],
            "everywhere": [start, (0, room - 1)]}[where]


def score(sentences: Sequence[tuple[Tensor, Tensor]], windows: Sequence[tuple[int, int]],
          bounds: str = "start", masked: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mean over windows of the best log-likelihood in each, (B,), and the last one's start, (B,).

    sentences: of each window, the `tokens` and `lengths` of `best_start`, whose errors it raises. A
    mean, so that what is wanted at two places weighs as much as what is wanted at one.
    """
    found = [best_start(tokens, lengths, window, bounds, masked)
             for (tokens, lengths), window in zip(sentences, windows, strict=True)]
    return torch.stack([best for best, _ in found]).mean(0), found[-1][1]


def best_start(
    tokens: Tensor, lengths: Tensor, window: tuple[int, int], bounds: str = "start",
    masked: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The same from tokens (B, L, S), log p of the span's j-th token at each slot: the softmax over
    the vocabulary need not be kept. lengths (B,), of each span. masked (B, L) bool: a span takes
    masked slots alone, for of a slot that shows its token a model predicts nothing."""
    if bounds not in BOUNDS:
        raise ValueError(f"unknown bounds {bounds!r}: use one of {', '.join(BOUNDS)}")
    k_start, k_end = window
    room, size = tokens.shape[1:]
    if not 0 <= k_start <= k_end < room:
        raise ValueError(f"window {tuple(window)} does not lie in the slots 0 to {room - 1}")
    starts = torch.arange(k_start, k_end + 1, device=tokens.device)  # (W,)
    within = torch.arange(size, device=tokens.device)  # (S,)
    fits = starts + lengths[:, None] <= (room if bounds == "start" else k_end + 1)  # (B, W)
    slots = (starts[:, None] + within).clamp(max=room - 1)  # (W, S)
    beyond = within >= lengths[:, None]  # (B, S)
    if masked is not None:
        fits = fits & (masked[:, slots] | beyond[:, None]).all(-1)
    if not fits.any(1).all():
        row = int((~fits.any(1)).nonzero()[0])
        raise ValueError(f"row {row}: a span of {int(lengths[row])} tokens fits nowhere in window "
                         f"{tuple(window)}: widen it, or take a shorter sentence")
    scores = tokens[:, slots, within]  # (B, W, S)
    scores = scores.masked_fill(beyond[:, None], 0.0).sum(-1)  # (B, W)
    best, index = scores.masked_fill(~fits, -torch.inf).max(1)
    return best, starts[index]


def padded(
    spans: Sequence[Sequence[int]], device: torch.device | str | None = None
) -> tuple[Tensor, Tensor]:
    """Spans of token ids as one tensor (B, S), filled up with 0, and their lengths (B,)."""
    if not all(len(span) for span in spans):
        raise ValueError("a span is empty: every sentence needs at least one token")
    ids = [torch.as_tensor(span, device=device) for span in spans]
    return pad_sequence(ids, True), torch.tensor([len(span) for span in spans], device=device)
