"""What is optimised: MOSA, Initial Alignment and their rivals, one function each.

An objective is `loss(policy, reference, batch, args)`. `policy(ids, attention)` and
`reference(ids, attention)` give logits (B, L, V) of the response slots. `batch` comes from
`mosa.alignment.data.Collator`; `args` is a MOSAConfig. Returned: one loss per row, (B,), and a dict
of per-row numbers (B,) for the log.
"""

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from mosa.alignment.reward import best_start

# Logits that are turned to fp32 probabilities at a time: one row at LLaDA's vocabulary, a whole
# batch at the embedded model's.
AT_ONCE = 2**24


def mosa(policy, reference, batch, args):
    """Algorithm 1 and the objective of arXiv 2508.12398: -(reward - beta * KL).

    As printed: the response is fully masked, reward R = score(safe) - score(harmful), and
    KL(policy || reference) is summed over the response's slots, which the first step predicts
    independently. Each default of MOSAConfig is the printed form; the options change one thing:
    `contrast` weighs the harmful score; `bound` b > 0 replaces R, which has no upper bound, by
    -b * softplus(-R / b); `revealed` is the share of rows whose slots outside the window show part
    of a harmful answer; `benign_kl` adds `keep`.
    """
    ids = batch["sealed_ids"]
    if args.revealed:
        ids = _contaminated(batch, args)
    logits = policy(ids, batch["sealed_attention"])
    with torch.no_grad():
        frozen = reference(ids, batch["sealed_attention"])
    spans = torch.cat([batch["safe"], batch["harmful"]], dim=1)  # (B, S+ + S-)
    tokens, kl = _tokens_and_kl(logits, frozen, spans)
    window, size = (args.k_start, args.k_end), batch["safe"].shape[1]
    safe, safe_start = best_start(tokens[..., :size], batch["safe_length"], window, args.bounds)
    harmful, harmful_start = best_start(
        tokens[..., size:], batch["harmful_length"], window, args.bounds
    )
    reward = safe - args.contrast * harmful
    gain = -args.bound * F.softplus(-reward / args.bound) if args.bound else reward
    loss = -(gain - args.beta * kl)
    log = {"reward": reward, "safe": safe, "harmful": harmful, "kl": kl,
           "safe_start": safe_start, "harmful_start": harmful_start}  # fmt: skip
    if args.benign_kl:
        log["benign_kl"] = keep(policy, reference, batch, args)
        loss = loss + args.benign_kl * log["benign_kl"]
    return loss, log


def refusal_sft(policy, reference, batch, args):
    """Refusal tuning: cross-entropy of the refusal at its own masked slots."""
    return _relabelled(policy, reference, batch, args, "refusal", batch["refusal"])


def a2d(policy, reference, batch, args):
    """EOS wherever a harmful answer is masked, after A2D (ICLR 2026, arXiv 2509.23286)."""
    stop = torch.full_like(batch["compliance"], int(batch["eos_id"]))
    return _relabelled(policy, reference, batch, args, "compliance", stop)


def recovery(policy, reference, batch, args):
    """Refuse from a state that shows parts of a harmful answer, in the spirit of RA (ICLR 2026,
    arXiv 2510.00565), whose rollouts and reward model are replaced by the refusal as label."""
    return _relabelled(policy, reference, batch, args, "compliance", batch["refusal"])


OBJECTIVES = {f.__name__: f for f in (mosa, refusal_sft, a2d, recovery)}
RESPONSES = {"mosa": (), "refusal_sft": ("refusal",), "a2d": ("compliance",),
             "recovery": ("compliance", "refusal")}  # whole responses each trains on  # fmt: skip


def _relabelled(policy, reference, batch, args, shown, wanted):
    """Mean cross-entropy (B,) of the labels `wanted` at masked slots of the responses `shown`.

    Half of the rows are masked entirely, the others at a uniform rate. EOS that only fill a label
    weigh a fifth, as in the base model's training, except where EOS is all there is. Benign
    requests are kept by `keep`, as in every other objective: the same retain term for all.
    """
    ids, masked = _noised(batch, "sealed", batch[shown], 0.5)
    logits = policy(ids, batch["sealed_attention"]).float()
    loss = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none")
    eos = wanted == int(batch["eos_id"])
    filler = eos & F.pad(eos, (1, 0))[:, :-1] & ~eos.all(1, keepdim=True)
    weights = torch.where(filler, 0.2, 1.0) * masked
    loss = (loss.view_as(weights) * weights).sum(1) / weights.sum(1).clamp_min(1e-9)
    log = {"label_loss": loss}
    if args.benign_kl:
        log["benign_kl"] = keep(policy, reference, batch, args)
        loss = loss + args.benign_kl * log["benign_kl"]
    return loss, log


def keep(policy, reference, batch, args):
    """KL(reference || policy) on benign requests, mean over masked slots, (B,).

    A share `args.benign_full` of the rows is fully masked: the state in which MOSA's reward acts,
    and which a sampler sees first. The others show part of the benign answer.
    """
    ids, masked = batch["open_ids"], batch["draws"] < 2.0
    if args.benign_full < 1:
        ids, masked = _noised(batch, "open", batch["benign"], args.benign_full)
    logits = policy(ids, batch["open_attention"])
    with torch.no_grad():
        frozen = reference(ids, batch["open_attention"])
    kl = _by_rows(_kl_to_frozen, logits, frozen)  # (B, L)
    return (kl * masked).sum(1) / masked.sum(1).clamp_min(1)


def _noised(batch, kind, responses, full):
    """Canvases (B, T) whose responses are masked by the batch's own draws, and where, (B, L).

    A share `full` of the rows is masked entirely, the others at a rate uniform in [0.02, 1].
    """
    first = 0 if kind == "sealed" else 2  # each request has its own two draws
    whole, t = batch["levels"][:, first] < full, 0.02 + 0.98 * batch["levels"][:, first + 1]
    masked = (batch["draws"] < t[:, None]) | whole[:, None]
    ids, length = batch[f"{kind}_ids"].clone(), responses.shape[1]
    ids[:, -length:] = torch.where(masked, ids[:, -length:], responses)  # canvases are all masks
    return ids, masked


def _contaminated(batch, args):
    """Canvases (B, T) that show, in a share `args.revealed` of the rows, part of the harmful
    answer, but nothing in the slots that the window's sentences may take."""
    length = batch["compliance"].shape[1]
    longest = max(batch["safe"].shape[1], batch["harmful"].shape[1])
    slots = torch.arange(length, device=batch["draws"].device)
    free = (slots >= args.k_start) & (slots < args.k_end + longest)
    ids, _ = _noised(batch, "sealed", batch["compliance"], 1 - args.revealed)
    ids[:, -length:] = torch.where(free, batch["sealed_ids"][:, -length:], ids[:, -length:])
    return ids


def _by_rows(function, *tensors):
    """`function` of some rows at a time, recomputed in the backward pass: the fp32 softmax of a
    whole batch at a vocabulary of 126,464 would be the largest tensors of the step."""
    rows = max(1, AT_ONCE // tensors[0][0].numel())
    if rows >= len(tensors[0]):
        return function(*tensors)
    parts = [checkpoint(function, *part, use_reentrant=False)
             for part in zip(*(t.split(rows) for t in tensors))]  # fmt: skip
    if isinstance(parts[0], tuple):
        return tuple(torch.cat(part) for part in zip(*parts))
    return torch.cat(parts)


def _tokens_and_kl(logits, frozen, spans):
    """Log-probabilities (B, L, S) of the spans' tokens at every slot, and KL(policy || frozen)
    summed over slots, (B,)."""

    def some(logits, frozen, spans):
        policy, frozen = logits.float().log_softmax(-1), frozen.float().log_softmax(-1)
        tokens = policy.gather(2, spans[:, None].expand(-1, policy.shape[1], -1))
        return tokens, (policy.exp() * (policy - frozen)).sum((1, 2))

    return _by_rows(some, logits, frozen, spans)


def _kl_to_frozen(logits, frozen):
    """KL(frozen || policy) of every slot, (B, L)."""
    policy, frozen = logits.float().log_softmax(-1), frozen.float().log_softmax(-1)
    return (frozen.exp() * (frozen - policy)).sum(-1)
