"""A2D (ICLR 2026, arXiv 2509.23286): EOS wherever a harmful answer is masked.

By its released code (WonjeJeung/A2D 1523577): cross-entropy over p_mask and the answer's length, at
a masking rate uniform in (0, 1], here [0.02, 1] as for all, of harmful rows alone: a retain set
stands there commented out.
"""

import torch
import torch.nn.functional as F

from mosa.alignment.terms import Batch, Losses, Model, Recipe, keep, noised


def loss(policy: Model, reference: Model, batch: Batch, args: Recipe) -> Losses:
    """-log p(EOS), summed over the masked slots, by p_mask and the number of slots; numbers for the
    log: label_loss and, where `benign_kl` adds `keep`, benign_kl."""
    ids, masked, rate = noised(batch, "sealed", batch["compliance"], 0.0)
    logits = policy(ids, batch["sealed_attention"]).float()  # (B, L, V)
    stop = torch.full_like(batch["compliance"], int(batch["eos_id"]))
    each = F.cross_entropy(logits.flatten(0, 1), stop.flatten(), reduction="none").view_as(stop)
    loss = (each * masked).sum(1) / rate / masked.shape[1]
    log = {"label_loss": loss}
    if args.benign_kl:
        log["benign_kl"] = keep(policy, reference, batch, args)
        loss = loss + args.benign_kl * log["benign_kl"]
    return loss, log
