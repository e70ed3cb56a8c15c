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


def mosa(policy, reference, batch, args):
    """Algorithm 1 and the objective of arXiv 2508.12398: -(reward - beta * KL), fully masked.

    KL(policy || reference) as printed; over the response's slots it is summed, since the first
    step predicts them independently. `args.bound` b > 0 replaces the reward R, which has no upper
    bound, by -b * softplus(-R / b); `args.benign_kl` adds `keep`. Both are off as printed.
    """
    logits = policy(batch["sealed_ids"], batch["sealed_attention"])
    with torch.no_grad():
        frozen = reference(batch["sealed_ids"], batch["sealed_attention"])
    spans = torch.cat([batch["safe"], batch["harmful"]], dim=1)  # (B, S+ + S-)
    tokens, kl = _tokens_and_kl(logits, frozen, spans)
    window, size = (args.k_start, args.k_end), batch["safe"].shape[1]
    safe, safe_start = best_start(tokens[..., :size], batch["safe_length"], window, args.bounds)
    harmful, harmful_start = best_start(
        tokens[..., size:], batch["harmful_length"], window, args.bounds
    )
    reward = safe - harmful
    gain = -args.bound * F.softplus(-reward / args.bound) if args.bound else reward
    loss = -(gain - args.beta * kl)
    log = {"reward": reward, "safe": safe, "harmful": harmful, "kl": kl,
           "safe_start": safe_start, "harmful_start": harmful_start}  # fmt: skip
    if args.benign_kl:
        log["benign_kl"] = keep(policy, reference, batch)
        loss = loss + args.benign_kl * log["benign_kl"]
    return loss, log


def refusal_sft(policy, reference, batch, args):
    """Refusal tuning: cross-entropy of the refusal at masked slots, and of benign answers."""
    loss = _cross_entropy(policy, batch, "sealed", noised=batch["refusal"], wanted=batch["refusal"])
    kept = _cross_entropy(policy, batch, "open", noised=batch["benign"], wanted=batch["benign"])
    return loss + kept, {"refusal": loss, "benign": kept}


def a2d(policy, reference, batch, args):
    """EOS wherever a harmful answer is masked, after A2D (ICLR 2026), and benign answers kept."""
    stop = torch.full_like(batch["compliance"], int(batch["eos_id"]))
    loss = _cross_entropy(policy, batch, "sealed", noised=batch["compliance"], wanted=stop)
    kept = _cross_entropy(policy, batch, "open", noised=batch["benign"], wanted=batch["benign"])
    return loss + kept, {"stop": loss, "benign": kept}


def recovery(policy, reference, batch, args):
    """Refuse from a state that already shows parts of a harmful answer, in the spirit of RA
    (arXiv 2510.00565), whose rollouts and reward model are replaced by the refusal as label."""
    loss = _cross_entropy(
        policy, batch, "sealed", noised=batch["compliance"], wanted=batch["refusal"]
    )
    kept = _cross_entropy(policy, batch, "open", noised=batch["benign"], wanted=batch["benign"])
    return loss + kept, {"recovery": loss, "benign": kept}


OBJECTIVES = {f.__name__: f for f in (mosa, refusal_sft, a2d, recovery)}


def keep(policy, reference, batch):
    """KL(reference || policy) on benign requests, mean over masked slots, (B,).

    Half of the rows are fully masked: that is the state in which MOSA's reward acts, and a KL on
    partially masked answers alone did not keep benign behaviour.
    """
    ids, masked = _noised(batch, "open", batch["benign"])
    logits = policy(ids, batch["open_attention"])
    with torch.no_grad():
        frozen = reference(ids, batch["open_attention"]).float().log_softmax(-1)
    kl = (frozen.exp() * (frozen - logits.float().log_softmax(-1))).sum(-1)  # (B, L)
    return (kl * masked).sum(1) / masked.sum(1).clamp_min(1)


def _noised(batch, kind, responses):
    """Canvases (B, T) whose responses are masked with the batch's own draws, and where, (B, L)."""
    ids, length = batch[f"{kind}_ids"].clone(), responses.shape[1]
    masked = batch["draws"] < batch["t"][:, None]  # (B, L)
    ids[:, -length:] = torch.where(masked, ids[:, -length:], responses)  # canvases are all masks
    return ids, masked


def _cross_entropy(policy, batch, kind, noised, wanted):
    """Mean cross-entropy over masked slots, (B,); EOS that only fill weigh a fifth, as in the
    base model's training."""
    ids, masked = _noised(batch, kind, noised)
    logits = policy(ids, batch[f"{kind}_attention"]).float()
    loss = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none")
    eos = wanted == int(batch["eos_id"])
    before = F.pad(eos, (1, 0))[:, :-1]
    weights = torch.where(eos & before, 0.2, 1.0) * masked
    return (loss.view_as(weights) * weights).sum(1) / weights.sum(1).clamp_min(1e-9)


def _tokens_and_kl(logits, frozen, spans):
    """Log-probabilities (B, L, S) of the spans' tokens at every slot, and KL(policy || frozen)
    summed over slots, (B,). Row by row and recomputed in the backward pass: the fp32 softmax of a
    whole batch over a vocabulary of 126,464 would be the largest tensors of the step."""

    def one(logits, frozen, span):  # (L, V), (L, V), (S,)
        policy, frozen = logits.float().log_softmax(-1), frozen.float().log_softmax(-1)
        return policy[:, span], (policy.exp() * (policy - frozen)).sum()

    rows = [checkpoint(one, *row, use_reentrant=False) for row in zip(logits, frozen, spans)]
    tokens, kl = zip(*rows)
    return torch.stack(tokens), torch.stack(kl)
