"""The masked diffusion process: noising, its training losses, and likelihoods of given text.

LLaDA, arXiv 2502.09992: every token of the answer is replaced by the mask with probability t,
and the network predicts all masked tokens at once. Position i of the logits predicts token i.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from mosa.lm.model import Canvas, DiffusionLM


def row_generators(seed: int | Sequence[int], rows: int,
                   device: torch.device | str = "cpu") -> list[torch.Generator]:
    """One random generator per row, so that no row's numbers depend on the rest of its batch.

    An int seeds row r from (seed, r); a sequence gives every row its own seed and makes results
    independent of a row's index too. Seeds go through numpy's SeedSequence, because torch's CPU
    generator keeps only the lower 32 bits of what it is given.
    """
    entropy = [(seed, row) for row in range(rows)] if np.ndim(seed) == 0 else list(seed)
    if len(entropy) != rows:
        raise ValueError(
            f"seed has {len(entropy)} values for {rows} rows: give one int, or one int per row")
    if any(value < 0 for value in np.ravel(entropy)):
        raise ValueError(f"seed must not be negative, got {seed}")
    states = [np.random.SeedSequence(value).generate_state(1)[0] for value in entropy]
    return [torch.Generator(device).manual_seed(int(state)) for state in states]


def response_logits(lm: DiffusionLM, ids: torch.Tensor, attention_mask: torch.Tensor,
                    length: int) -> torch.Tensor:
    """Logits (B, length, V) of the last `length` positions of canvases (B, T), from one forward.

    Left padding common to all rows is cut first: positions are relative, so it only costs time.
    """
    start = int(attention_mask.argmax(1).min())  # argmax: the first attended column
    return lm(ids[:, start:], attention_mask[:, start:])[:, -length:]


def noise(ids: torch.Tensor, maskable: torch.Tensor, t: torch.Tensor, mask_id: int,
          generator: torch.Generator | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Replace every maskable token by the mask, independently with its row's probability t.

    ids (B, T) long; maskable (B, T) bool, False on prompt and padding; t (B,) in [0, 1], where
    0 masks nothing and 1 everything. Returns the noised ids and where they are masked, (B, T).
    """
    if t.shape != ids.shape[:1] or maskable.shape != ids.shape:
        raise ValueError(
            f"noise needs ids (B, T), maskable (B, T) and t (B,), got "
            f"{tuple(ids.shape)}, {tuple(maskable.shape)} and {tuple(t.shape)}")
    if not ((t >= 0) & (t <= 1)).all():
        raise ValueError(f"t is a probability: give values in [0, 1], got {t.tolist()}")
    draws = torch.rand(ids.shape, generator=generator, device=ids.device)  # in [0, 1)
    masked = (draws < t[:, None]) & maskable
    return ids.masked_fill(masked, mask_id), masked


def masked_cross_entropy(
        logits: torch.Tensor, ids: torch.Tensor, masked: torch.Tensor,
        t: torch.Tensor | None = None, weights: torch.Tensor | None = None,
        maskable: torch.Tensor | None = None, weighting: str = "1/t") -> torch.Tensor:
    """Cross-entropy of the masked tokens, a scalar in nats per token.

    weighting "1/t" is LLaDA's objective (arXiv 2502.09992 eq. 3 and the SFT loss of its
    GUIDELINES.md): per row sum over masked tokens of CE / t, divided by the maskable length,
    then the mean over rows; an unbiased estimate of a bound on -log p per token.
    weighting "uniform" is the plain mean over all masked tokens of the batch; it leaves t unused.

    logits (B, T, V); ids (B, T) the clean tokens; masked (B, T) bool; t (B,), the probabilities
    the rows were noised with; maskable (B, T) bool, everything if None. weights (B, T) scales
    tokens, for instance EOS padding by less than one; lengths become sums of weights, so that
    both forms stay weighted means. Nothing masked, or nothing of any weight, gives 0.
    """
    if weighting not in ("1/t", "uniform"):
        raise ValueError(f'unknown weighting {weighting!r}: use "1/t" or "uniform"')
    weights = torch.ones(ids.shape, device=logits.device) if weights is None else weights.float()
    rows = masked.nonzero()[:, 0]  # row of every masked token
    loss = F.cross_entropy(logits[masked].float(), ids[masked], reduction="none") * weights[masked]
    if weighting == "uniform":
        return loss.sum() / weights[masked].sum().clamp_min(1e-9)
    if t is None:
        raise ValueError('weighting "1/t" needs t, the (B,) masking probabilities given to noise()')
    if not (t[rows] > 0).all():
        raise ValueError("a row with t = 0 has masked tokens: give the t that noise() was given")
    lengths = (weights if maskable is None else weights * maskable).sum(1)  # (B,)
    return (loss / (t * lengths.clamp_min(1e-9))[rows]).sum() / len(ids)


@torch.no_grad()
def first_step_loglik(lm: DiffusionLM, canvas: Canvas, spans: Sequence[Sequence[int]],
                      positions: int | Sequence[int]) -> torch.Tensor:
    """Log-probability of a span of tokens at a response position, from ONE forward, (B,) float64.

    The sum of log p over the span's slots, all predicted at once from the canvas as it is (fully
    masked, unless it was made with a prefill): what the first denoising step sees. It is the
    objective of First-Step GCG, arXiv 2510.00565. spans: one sequence of token ids per row;
    positions: the slot a span starts at, one for all rows or one per row.
    Raises ValueError for an empty span, one that leaves the response, or one over filled slots.
    """
    rows, start = len(canvas.ids), canvas.prompt_length
    positions = [positions] * rows if np.ndim(positions) == 0 else list(positions)
    if not len(spans) == len(positions) == rows:
        raise ValueError(
            f"{rows} rows need {rows} spans and positions, got {len(spans)} and {len(positions)}")
    for row, (span, position) in enumerate(zip(spans, positions, strict=True)):
        end = position + len(span)
        if not 0 <= position < end <= canvas.length:
            raise ValueError(
                f"row {row}: a span of {len(span)} tokens at position {position} does "
                f"not fit into a response of {canvas.length} slots")
        if (canvas.ids[row, start + position : start + end] != lm.mask_id).any():
            raise ValueError(
                f"row {row}: slots {position} to {end - 1} are partly prefilled: only "
                "masked slots have a prediction, move the span or the prefill")
    logits = response_logits(lm, canvas.ids, canvas.attention_mask, canvas.length)
    result = torch.zeros(rows, dtype=torch.float64, device=logits.device)
    for row, (span, position) in enumerate(zip(spans, positions, strict=True)):
        span = torch.as_tensor(span, device=logits.device)
        logp = logits[row, position : position + len(span)].double().log_softmax(-1)  # (n, V)
        result[row] = logp.gather(-1, span[:, None]).sum()
    return result


@torch.no_grad()
def first_step_profile(lm: DiffusionLM, canvas: Canvas, span: Sequence[int]) -> torch.Tensor:
    """Log-likelihood of a span at every slot it can start at, one forward, (B, L - S + 1) float32.

    In nats per token: what the first denoising step thinks of these words at each place.
    Raises ValueError for a span that is empty or longer than the response.
    """
    starts = canvas.length - len(span) + 1
    if not len(span) or starts < 1:
        raise ValueError(f"a span of {len(span)} tokens does not fit into {canvas.length} slots")
    logp = response_logits(lm, canvas.ids, canvas.attention_mask, canvas.length)
    logp = logp.float().log_softmax(-1)  # (B, L, V)
    return sum(logp[:, j : j + starts, token] for j, token in enumerate(span)) / len(span)


@torch.no_grad()
def monte_carlo_loglik(
        lm: DiffusionLM, canvas: Canvas, responses: torch.Tensor | Sequence[Sequence[int]],
        n_samples: int = 128, seed: int | Sequence[int] = 0, batch: int = 32) -> torch.Tensor:
    """Monte-Carlo estimate of a lower bound on log p(response | prompt), (B,) float64 in nats.

    LLaDA's get_log_likelihood (arXiv 2502.09992, appendix on likelihood evaluation): each sample
    masks exactly l of the L response tokens, l uniform in 1..L, and scores
    (L / l) * sum of log p over the masked tokens; the estimate is the mean over samples. Its
    expectation is the log-likelihood of generating one token at a time averaged over all orders.
    The l of one row's samples are stratified: equally spaced from a random start, modulo L.

    canvas: the prompts; slots prefilled in it are given, never masked and not counted in L.
    responses (B, canvas.length) token ids. batch: canvases per forward, no effect on the result;
    a row costs n_samples forwards. seed: as in row_generators.
    """
    rows, length, start = len(canvas.ids), canvas.length, canvas.prompt_length
    device = canvas.ids.device
    responses = torch.as_tensor(responses, device=device)
    if responses.shape != (rows, length):
        raise ValueError(
            f"responses must be {(rows, length)} token ids to fill the canvas, got "
            f"{tuple(responses.shape)}")
    if n_samples < 1 or batch < 1:
        raise ValueError(f"n_samples and batch must be at least 1, got {n_samples} and {batch}")
    masked = torch.zeros(rows, n_samples, length, dtype=torch.bool)
    scale = torch.zeros(rows, n_samples, dtype=torch.float64)  # L / l
    for row, generator in enumerate(row_generators(seed, rows)):
        slots = (canvas.ids[row, start:] == lm.mask_id).nonzero()[:, 0].cpu()
        if len(slots) == 0:
            raise ValueError(f"row {row} has no masked slot: there is nothing to score")
        offset = int(torch.randint(len(slots), (1,), generator=generator))
        for sample in range(n_samples):
            count = 1 + (offset + sample * len(slots) // n_samples) % len(slots)
            order = torch.randperm(len(slots), generator=generator)
            masked[row, sample, slots[order[:count]]] = True
            scale[row, sample] = len(slots) / count
    source = torch.arange(rows).repeat_interleave(n_samples).to(device)  # row of every sample
    masked, scale = masked.flatten(0, 1).to(device), scale.flatten().to(device)
    scores = torch.zeros(masked.shape, dtype=torch.float64, device=device)  # (B * n_samples, L)
    for first in range(0, len(source), batch):
        part = slice(first, first + batch)
        row, hide = source[part], masked[part]
        ids = canvas.ids[row]  # a copy
        ids[:, start:] = responses[row].masked_fill(hide, lm.mask_id)
        logits = response_logits(lm, ids, canvas.attention_mask[row], length)
        logp = logits[hide].double().log_softmax(-1)
        scores[part][hide] = logp.gather(-1, responses[row][hide][:, None])[:, 0]
    return (scores.sum(1) * scale).view(rows, n_samples).mean(1)
