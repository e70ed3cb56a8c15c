"""What is optimised: MOSA, Initial Alignment and their rivals, one function each.

An objective is `loss(policy, reference, batch, args)`. `policy(ids, attention)` and
`reference(ids, attention)` give logits (B, L, V) of the response slots. `batch` comes from
`mosa.alignment.data.Collator`; `args` is a MOSAConfig. Returned: one loss per row, (B,), and a dict
of per-row numbers (B,) for the log.
"""

import torch
import torch.nn.functional as F

from mosa.alignment.reward import best_start

# More logits than this take `_Slots`: any batch at LLaDA's vocabulary, none at the embedded
# model's, where autograd does as well.
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
    kl = _kl_to_frozen(logits, frozen)  # (B, L)
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


def _tokens_and_kl(logits, frozen, spans):
    """Log-probabilities (B, L, S) of the spans' tokens at every slot, and KL(policy || frozen)
    summed over slots, (B,)."""
    if logits.numel() > AT_ONCE:
        tokens, kl = _Slots.apply(logits, frozen, spans, True)
        return tokens, kl.sum(1)
    policy, frozen = logits.float().log_softmax(-1), frozen.float().log_softmax(-1)
    tokens = policy.gather(2, spans[:, None].expand(-1, policy.shape[1], -1))
    return tokens, (policy.exp() * (policy - frozen)).sum((1, 2))


def _kl_to_frozen(logits, frozen):
    """KL(frozen || policy) of every slot, (B, L)."""
    if logits.numel() > AT_ONCE:
        no_spans = torch.empty(len(logits), 0, dtype=torch.long, device=logits.device)
        return _Slots.apply(logits, frozen, no_spans, False)[1]
    policy, frozen = logits.float().log_softmax(-1), frozen.float().log_softmax(-1)
    return (frozen.exp() * (frozen - policy)).sum(-1)


class _Slots(torch.autograd.Function):
    """Both of the above for large vocabularies, some slots at a time, with gradients by hand.

    logits, frozen (B, L, V), spans (B, S) -> log p of the spans' tokens (B, L, S) and the KL of
    every slot (B, L); `own`: KL(policy || frozen), else KL(frozen || policy). Autograd would keep
    or repeat several fp32 tensors of (B, L, V). This keeps one, the slope of the KL, in the place
    of `frozen`, which is overwritten; and only the best starts' slots have a gradient by tokens.
    """

    @staticmethod
    def forward(ctx, logits, frozen, spans, own):
        tokens = torch.empty(*logits.shape[:2], spans.shape[1], device=logits.device)
        kl = torch.empty(logits.shape[:2], device=logits.device)
        at_once = AT_ONCE // 32 if logits.device.type == "cpu" else AT_ONCE  # 2 MB: a CPU's cache
        some = max(1, at_once // logits.shape[2])  # slots
        for row, span in enumerate(spans):
            for first in range(0, logits.shape[1], some):
                part = row, slice(first, first + some)
                p = logits[part].float().log_softmax(-1)  # (n, V)
                q = frozen[part].float().log_softmax(-1)
                tokens[part] = p[:, span]
                if own:  # d KL / d logits = p * (log p - log q - KL)
                    ratio = q.neg_().add_(p)
                    p.exp_()
                    kl[part] = torch.linalg.vecdot(p, ratio)
                    slope = ratio.sub_(kl[part][:, None]).mul_(p)
                else:  # p - q
                    log_p, log_q, q, p = p, q, q.exp(), p.exp()
                    kl[part] = torch.linalg.vecdot(q, log_q.sub_(log_p))
                    slope = p.sub_(q)
                frozen[part] = slope
        ctx.save_for_backward(logits, frozen, spans)
        return tokens, kl

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, by_tokens, by_kl):
        logits, slope, spans = ctx.saved_tensors
        gradient = slope * by_kl[..., None].to(slope.dtype)
        for row, slot in by_tokens.any(-1).nonzero().tolist():
            d = by_tokens[row, slot]  # (S,)
            more = logits[row, slot].float().softmax(-1) * -d.sum()
            gradient[row, slot] += more.index_add_(0, spans[row], d).to(gradient.dtype)
        return gradient, None, None, None
