"""Refuse from a state that shows parts of a harmful answer, in the spirit of RA (ICLR 2026, arXiv
2510.00565), whose rollouts and reward model are replaced by the refusal as label."""

from mosa.alignment.terms import Batch, Losses, Model, Recipe, relabelled


def loss(policy: Model, reference: Model, batch: Batch, args: Recipe) -> Losses:
    """-log p of the labels; numbers for the log: label_loss, benign_kl."""
    return relabelled(policy, reference, batch, args, "compliance", batch["refusal"])
