"""Refusal tuning: cross-entropy of the refusal at its own masked slots."""

from mosa.alignment.terms import Batch, Losses, Model, Recipe, relabelled


def loss(policy: Model, reference: Model, batch: Batch, args: Recipe) -> Losses:
    """-log p of the refusal; numbers for the log: label_loss and, if asked for, benign_kl."""
    return relabelled(policy, reference, batch, args, batch["refusal"])
