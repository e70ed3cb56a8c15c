"""EOS wherever a harmful answer is masked, after A2D (ICLR 2026, arXiv 2509.23286)."""

import torch

from mosa.alignment.terms import Batch, Losses, Model, Recipe, relabelled


def loss(policy: Model, reference: Model, batch: Batch, args: Recipe) -> Losses:
    """-log p of the labels; numbers for the log: label_loss, benign_kl."""
    stop = torch.full_like(batch["compliance"], int(batch["eos_id"]))
    return relabelled(policy, reference, batch, args, "compliance", stop)
