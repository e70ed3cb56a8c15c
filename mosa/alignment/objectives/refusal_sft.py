"""Refusal tuning: cross-entropy of the refusal at its own masked slots."""

from mosa.alignment.terms import Batch, Losses, Model, Recipe, relabelled


def loss(policy: Model, reference: Model, batch: Batch, args: Recipe) -> Losses:
    """-log p of the labels; numbers for the log: label_loss, benign_kl."""
    return relabelled(policy, reference, batch, args, "refusal", batch["refusal"])
