"""The denoising sampler: from a canvas of masks to text, LLaDA's generate.py for ragged batches.

Each step predicts every masked slot, keeps the most confident predictions of the current block
and leaves the rest masked ("low-confidence remasking", arXiv 2502.09992).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from mosa.lm.diffusion import response_logits, row_generators
from mosa.lm.fast import Fast
from mosa.lm.model import Canvas, DiffusionLM

REMASKING = ("low_confidence", "random", "annealed", "forward", "backward")
ANNEALED = 0.3  # share of chance at the first step (alpha_0 of DiffuGuard's code, for LLaDA)


@dataclass
class Denoised:
    """What denoise() returns, for B rows of L response slots."""

    ids: torch.Tensor  # (B, L) long
    texts: list[str]  # each cut at its first EOS; empty for a model without tokenizer
    reveal_step: torch.Tensor  # (B, L) long, the step a slot was filled at; -1: prefilled
    forwards: torch.Tensor  # (B,) long, network forwards spent on the row


@torch.no_grad()  # not inference_mode: its tensors may not enter a later loss
def denoise(lm: DiffusionLM, canvas: Canvas, steps: int = 32, block_length: int | None = None,
            temperature: float = 0.0, remasking: str = "low_confidence", cfg_scale: float = 0.0,
            seed: int | Sequence[int] = 0, stop_at_eos: bool = True,
            on_step: Callable[[torch.Tensor], None] | None = None) -> Denoised:
    """Fill the masked response slots of a canvas; prompt and prefilled slots never change.

    steps: denoising steps of the whole response, shared equally by its blocks.
    block_length: the response is denoised in blocks of this length, left to right; None: one
        block. A block of n masked slots and s steps reveals n // s + (i < n % s) at its step i.
        The schedule is each row's own, since prefills differ; a step that reveals nothing in a
        row costs that row no forward.
    temperature: of the Gumbel-max draw of each token, in float64 (low precision costs quality,
        arXiv 2409.02908); 0 takes the most probable token.
    remasking: "low_confidence" reveals the slots whose drawn token has the highest softmax
        probability (float64, without the noise); "random" reveals random slots; "annealed" mixes
        the two, (1 - a) * confidence + a * chance, where a falls from ANNEALED to 0 over the steps,
        so that the first steps follow their confidence less (the remasking of DiffuGuard, arXiv
        2509.24296, without its audit and repair); "forward" and "backward" reveal the leftmost and
        the rightmost slots, whatever their confidence (decoding orders of WonjeJeung/A2D). Ties go
        to the lower position, ties of tokens to the lower id.
    cfg_scale: classifier-free guidance, un + (cfg_scale + 1) * (cond - un), where `un` sees
        masks in place of the prompt; a step then costs two forwards per row. 0: off.
    seed: one int, or one per row (mosa.lm.diffusion.row_generators). Per step a row draws first
        its Gumbel noise, then its random confidences, each for its masked slots of the block
        only, in order; with temperature 0 and low_confidence nothing is drawn.
    stop_at_eos: a row leaves the batch as soon as it has an EOS with no mask before it: its text
        is final. Its masked slots become EOS, with that step as their reveal step.
    on_step: called after every step that revealed something, with the draft (B, L); it must not
        write to it, and what it raises ends the denoising.

    Deliberate differences from LLaDA: the mask id, the pad id where it is not the EOS, and ids that
    no token of the tokenizer has (they would vanish from the text) are never predicted, their
    logits are -inf before confidence is computed; prefilled slots stay visible to the unconditional
    half of the guidance (LLaDA has no prefill); guidance is combined in float64, not in the model's
    precision. No EOS is ever suppressed.

    Raises TypeError for what is no canvas and steps that are no whole number, ValueError for an
    autoregressive model and for settings that do not fit the canvas.
    """
    if not isinstance(canvas, Canvas):
        raise TypeError(f"canvas must be what lm.canvas() gives, not {type(canvas).__name__}")
    for name, value in (("steps", steps), ("block_length", block_length)):
        if not (isinstance(value, int) or (name, value) == ("block_length", None)):
            raise TypeError(f"{name} must be a whole number, got {value!r}")
    if getattr(getattr(lm.model, "config", None), "is_causal", False):
        raise ValueError("an autoregressive model cannot fill a canvas: decode it with "
                         "mosa.lm.causal.complete")
    length, start = canvas.length, canvas.prompt_length
    block_length = length if block_length is None else block_length
    each = steps_per_block(length, block_length, steps)
    if remasking not in REMASKING:
        raise ValueError(f"unknown remasking {remasking!r}: use one of {', '.join(REMASKING)}")
    if not (0 <= temperature < math.inf and 0 <= cfg_scale < math.inf):  # NaN neither
        raise ValueError("temperature and cfg_scale must be finite and not negative, got "
                         f"{temperature} and {cfg_scale}")
    generators = row_generators(seed, len(canvas.ids), canvas.ids.device)
    never = [lm.mask_id, *([] if lm.pad_id == lm.eos_id else [lm.pad_id]), *lm.unknown_ids]

    unpadded = cfg_scale == 0 and bool(canvas.attention_mask.all())
    fast = Fast(lm.model) if unpadded and lm.logit_shift == 0 and Fast.serves(lm.model) else None

    ids = canvas.ids.clone()
    response = ids[:, start:]  # (B, L) a view: writing to it writes the canvas
    reveal_step = torch.full_like(response, -1)
    forwards = torch.zeros_like(ids[:, 0])
    if stop_at_eos:
        _fill_after_eos(response, reveal_step, 0, lm)
    for step in range(steps):
        block, i = divmod(step, each)
        share = ANNEALED * (1 - step / max(1, steps - 1))
        columns = slice(block * block_length, (block + 1) * block_length)
        masked = response[:, columns] == lm.mask_id  # (B, block_length)
        if i == 0:
            planned = masked.sum(1)  # n of every row
        count = planned // each + (i < planned % each)
        count = count.minimum(masked.sum(1))  # 0 in rows that stopped at an EOS
        rows = count.nonzero()[:, 0]
        if len(rows) == 0:
            continue
        if fast:
            wanted = torch.zeros_like(ids[rows], dtype=torch.bool)
            wanted[:, start:][:, columns] = masked[rows]
            parts = fast(ids[rows], wanted).split(masked[rows].sum(1).tolist())
        else:
            cond, uncond = _block_logits(lm, ids[rows], canvas, rows, columns, cfg_scale)
        for j, row in enumerate(rows.tolist()):  # a row at a time bounds float64 memory
            slots = masked[row].nonzero()[:, 0]  # ascending
            logits = (parts[j] if fast else cond[j, slots]).double()  # (n, V)
            if cfg_scale > 0:
                un = uncond[j, slots].double()
                logits = un + (cfg_scale + 1) * (logits - un)
            logits[:, never] = -torch.inf
            x0, confidence = _predict(logits, temperature, remasking, generators[row], share)
            best = confidence.sort(descending=True, stable=True).indices[: count[row]]
            chosen = columns.start + slots[best]
            response[row, chosen] = x0[best]
            reveal_step[row, chosen] = step
        forwards[rows] += 2 if cfg_scale > 0 else 1
        if stop_at_eos:
            _fill_after_eos(response, reveal_step, step, lm)
        if on_step:
            on_step(response)
    texts = [] if lm.tokenizer is None else lm.decode(response)
    return Denoised(response.clone(), texts, reveal_step, forwards)


def steps_per_block(length: int, block_length: int, steps: int) -> int:
    """The steps of each block; ValueError, with what would do, where they do not divide."""
    if block_length < 1 or length % block_length:
        fits = [n for n in range(1, length + 1) if length % n == 0]
        raise ValueError(
            f"block_length={block_length} does not divide the response length "
            f"{length}: use one of {', '.join(map(str, fits))}")
    blocks = length // block_length
    if steps < 1 or steps % blocks:
        near = max(steps // blocks, 1) * blocks
        raise ValueError(
            f"steps={steps} cannot be shared by {blocks} blocks of {block_length} "
            f"slots: use a multiple of {blocks}, such as {near} or {near + blocks}")
    return steps // blocks


def _block_logits(lm, ids, canvas, rows, columns, cfg_scale):
    """Logits (R, block_length, V) of the block for the given rows, and the unconditional ones."""
    attention_mask = canvas.attention_mask[rows]
    if cfg_scale == 0:
        return response_logits(lm, ids, attention_mask, canvas.length)[:, columns], None
    un = ids.clone()
    un[:, : canvas.prompt_length] = lm.mask_id  # padding stays unattended
    both = response_logits(lm, torch.cat([ids, un]), attention_mask.repeat(2, 1), canvas.length)
    return both[:, columns].chunk(2)


def _predict(logits, temperature, remasking, generator, share):
    """Token and confidence of one row's masked slots: logits (n, V) float64 -> (n,), (n,)."""
    like = {"generator": generator, "dtype": torch.float64, "device": logits.device}
    noisy = logits
    if temperature > 0:
        # the logarithm of LLaDA's exp(logits) / (-log u) ** temperature: the same argmax, and
        # guidance cannot overflow it
        noisy = logits - temperature * torch.log(-torch.log(torch.rand(logits.shape, **like)))
    x0 = noisy.argmax(-1)
    if remasking == "random":
        return x0, torch.rand(len(x0), **like)
    if remasking in ("forward", "backward"):
        place = torch.arange(len(x0), device=x0.device)
        return x0, -place if remasking == "forward" else place
    confidence = logits.softmax(-1).gather(-1, x0[:, None])[:, 0]
    if remasking == "annealed":
        confidence = (1 - share) * confidence + share * torch.rand(len(x0), **like)
    return x0, confidence


def _fill_after_eos(response, reveal_step, step, lm):
    """Fill the masked slots of rows whose first EOS comes before their first mask."""
    masked, eos = response == lm.mask_id, response == lm.eos_id
    final = eos & (masked.cumsum(1) == 0)  # an EOS with no mask before it
    fill = masked & final.any(1, keepdim=True)
    response[fill] = lm.eos_id
    reveal_step[fill] = step
