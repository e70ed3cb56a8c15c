"""Refusal tuning: cross-entropy of the refusal at its own masked slots."""

from typing import TYPE_CHECKING

from mosa.alignment.terms import Batch, Losses, Model, relabelled

if TYPE_CHECKING:
    from mosa.alignment.method import Recipe


def loss(policy: Model, reference: Model, batch: Batch, args: "Recipe") -> Losses:
    """-log p of the labels; numbers for the log: label_loss, benign_kl."""
    return relabelled(policy, reference, batch, args, "refusal", batch["refusal"])
