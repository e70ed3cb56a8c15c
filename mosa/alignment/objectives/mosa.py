"""Algorithm 1: raise a refusal in the window of the response, and lower a procedure there."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mosa.alignment.reward import places, score
from mosa.alignment.slots import tokens_and_kl
from mosa.alignment.terms import Batch, Losses, Model, Recipe, keep, noised

# Which sentences are lowered at each of reward.places' windows
LOWERED = {"window": ["harmful"], "start": ["affirmative"],
           "everywhere": ["affirmative", "harmful"]}


def loss(policy: Model, reference: Model, batch: Batch, args: Recipe) -> Losses:
    """Algorithm 1 and the objective of arXiv 2508.12398: -(reward - beta * KL).

    As printed: the response is fully masked, reward R = score(safe) - score(harmful), and
    KL(policy || reference) is summed over the response's slots, which the first step predicts
    independently. Each default of Recipe is the printed form; the options change one thing:
    `refuse_at` and `suppress_at` give the two sentences places of their own (reward.places), and
    what is lowered at slot 0 is an affirmative sentence, for a response begins with no procedural
    one: `initial` in its natural reading has both at "start", in the literal one the window (0, 0);
    `contrast` weighs the harmful score, 0 suppresses nothing; `bound` b > 0 replaces R, which has
    no upper bound, by -b * softplus(-R / b); `revealed` is the share of rows that show part of a
    harmful answer (`contaminated`; KL is summed over shown slots, too); `benign_kl` adds `keep`.
    """
    ids = contaminated(batch, args) if args.revealed else batch["sealed_ids"]
    logits = policy(ids, batch["sealed_attention"])
    with torch.no_grad():
        frozen = reference(ids, batch["sealed_attention"])
    names = ["safe", *LOWERED[args.suppress_at]]
    spans = [batch[name] for name in names]
    tokens, kl = tokens_and_kl(logits, frozen, torch.cat(spans, dim=1))  # (B, L, S+ + S- ...)
    sentences = [(part, batch[f"{name}_length"]) for name, part in zip(
        names, tokens.split([span.shape[1] for span in spans], dim=2))]
    room = tokens.shape[1]
    masked = ids[:, -room:] == batch["sealed_ids"][:, -room:] if args.revealed else None
    refuse_at, suppress_at = (places(where, (args.k_start, args.k_end), room)
                              for where in (args.refuse_at, args.suppress_at))
    safe, safe_start = score(sentences[:1] * len(refuse_at), refuse_at, args.bounds, masked)
    harmful, harmful_start = score(sentences[1:], suppress_at, args.bounds, masked)
    reward = safe - args.contrast * harmful
    gain = -args.bound * F.softplus(-reward / args.bound) if args.bound else reward
    loss = -(gain - args.beta * kl)
    log = {"reward": reward, "safe": safe, "harmful": harmful, "kl": kl,
           "safe_start": safe_start, "harmful_start": harmful_start}
    if args.benign_kl:
        log["benign_kl"] = keep(policy, reference, batch, args)
        loss = loss + args.benign_kl * log["benign_kl"]
    return loss, log


def contaminated(batch: Batch, args: Recipe) -> Tensor:
    """Canvases (B, T) that show, in a share `args.revealed` of the rows, part of the harmful
    answer, but nothing where a sentence may stand at the start or in the window: the same slots
    wherever the recipe seeks its sentences, so that its states are the same, too. A window up to
    the last slot leaves the start alone free; its sentences are sought where slots are masked."""
    length = batch["compliance"].shape[1]
    longest = max(batch[name].shape[1] for name in ("safe", "affirmative", "harmful"))
    slots = torch.arange(length, device=batch["draws"].device)
    free = slots < longest
    if args.k_end < length - 1:
        free |= (slots >= args.k_start) & (slots < args.k_end + longest)
    ids, *_ = noised(batch, "sealed", batch["compliance"], 1 - args.revealed)
    ids[:, -length:] = torch.where(free, batch["sealed_ids"][:, -length:], ids[:, -length:])
    return ids
