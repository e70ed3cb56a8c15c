"""Log-probabilities and KL of every response slot, within memory at a large vocabulary."""

import torch
from torch import Tensor

# More logits than this take `Slots`: any batch at LLaDA's vocabulary, none at the embedded
# model's, where autograd does as well.
AT_ONCE = 2**24


def tokens_and_kl(logits: Tensor, frozen: Tensor, spans: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities (B, L, S) of the spans' tokens at every slot, and KL(policy || frozen)
    summed over slots, (B,), in nats.

    logits, frozen (B, L, V); spans (B, S) token ids. `frozen` is overwritten at a large vocabulary.
    """
    if logits.numel() > AT_ONCE:
        tokens, kl = Slots.apply(logits, frozen, spans, True)
        return tokens, kl.sum(1)
    policy, frozen = logits.float().log_softmax(-1), frozen.float().log_softmax(-1)
    tokens = policy.gather(2, spans[:, None].expand(-1, policy.shape[1], -1))
    return tokens, (policy.exp() * (policy - frozen)).sum((1, 2))


def kl_to_frozen(logits: Tensor, frozen: Tensor) -> Tensor:
    """KL(frozen || policy) of every slot, (B, L), in nats; `frozen` may be overwritten."""
    if logits.numel() > AT_ONCE:
        no_spans = torch.empty(len(logits), 0, dtype=torch.long, device=logits.device)
        return Slots.apply(logits, frozen, no_spans, False)[1]
    policy, frozen = logits.float().log_softmax(-1), frozen.float().log_softmax(-1)
    return (frozen.exp() * (frozen - policy)).sum(-1)


class Slots(torch.autograd.Function):
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
