"""Refuse from states that hold pieces of a harmful answer, in the spirit of RA (ICLR 2026, arXiv
2510.00565), whose rollouts and reward model are replaced by the refusal as label.

A rollout from a contaminated state writes its refusal around the planted tokens, so a state holds
both: of the slots that are shown, a share that is uniform by row has the harmful answer's token,
the others the refusal's. With the harmful answer's alone, a model learns to ignore what is shown,
and its own refusals fall to pieces.
"""

import torch

from mosa.alignment.terms import Batch, Losses, Model, Recipe, relabelled


def loss(policy: Model, reference: Model, batch: Batch, args: Recipe) -> Losses:
    """-log p of the refusal; numbers for the log: label_loss and, if asked for, benign_kl."""
    swapped = batch["swaps"] < batch["levels"][:, 4:5]
    shown = torch.where(swapped, batch["compliance"], batch["refusal"])
    return relabelled(policy, reference, batch, args, shown)
