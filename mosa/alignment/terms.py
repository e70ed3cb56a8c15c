"""What the objectives share: masked canvases, cross-entropy of other labels, the retain term."""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from mosa.alignment.method import Recipe
from mosa.alignment.slots import kl_to_frozen

Model = Callable[[Tensor, Tensor], Tensor]
Batch = Mapping[str, Tensor]
Losses = tuple[Tensor, dict[str, Tensor]]


def relabelled(policy: Model, reference: Model, batch: Batch, args: Recipe,
               shown: Tensor) -> Losses:
    """Mean cross-entropy (B,) of the refusal at masked slots of the responses `shown`, (B, L).

    Half of the rows are masked entirely, the others at a uniform rate. EOS that only fill a label
    weigh a fifth, as in the base model's training. Benign requests are kept by `keep`, as in every
    other objective: the same retain term for all.
    """
    ids, masked, _ = noised(batch, "sealed", shown, 0.5)
    wanted = batch["refusal"]
    logits = policy(ids, batch["sealed_attention"]).float()
    loss = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none")
    eos = wanted == int(batch["eos_id"])
    filler = eos & F.pad(eos, (1, 0))[:, :-1]
    weights = torch.where(filler, 0.2, 1.0) * masked
    loss = (loss.view_as(weights) * weights).sum(1) / weights.sum(1).clamp_min(1e-9)
    log = {"label_loss": loss}
    if args.benign_kl:
        log["benign_kl"] = keep(policy, reference, batch, args)
        loss = loss + args.benign_kl * log["benign_kl"]
    return loss, log


def keep(policy: Model, reference: Model, batch: Batch, args: Recipe) -> Tensor:
    """KL(reference || policy) on benign requests, mean over masked slots, (B,).

    A share `args.benign_full` of the rows is fully masked: the state in which MOSA's reward acts,
    and which a sampler sees first. The others show part of the benign answer.
    """
    ids, masked = batch["open_ids"], batch["draws"] < 2.0
    if args.benign_full < 1:
        ids, masked, _ = noised(batch, "open", batch["benign"], args.benign_full)
    logits = policy(ids, batch["open_attention"])
    with torch.no_grad():
        frozen = reference(ids, batch["open_attention"])
    kl = kl_to_frozen(logits, frozen)  # (B, L)
    return (kl * masked).sum(1) / masked.sum(1).clamp_min(1)


def noised(batch: Batch, kind: str, responses: Tensor,
           full: float) -> tuple[Tensor, Tensor, Tensor]:
    """Canvases (B, T) whose responses are masked by the batch's own draws, where, (B, L), and at
    which rate, (B,).

    A share `full` of the rows is masked entirely, the others at a rate uniform in [0.02, 1].
    """
    first = 0 if kind == "sealed" else 2  # each request has its own two draws
    t = 0.02 + 0.98 * batch["levels"][:, first + 1]
    t = torch.where(batch["levels"][:, first] < full, 1.0, t)
    masked = batch["draws"] < t[:, None]
    ids, length = batch[f"{kind}_ids"].clone(), responses.shape[1]
    ids[:, -length:] = torch.where(masked, ids[:, -length:], responses)  # canvases are all masks
    return ids, masked, t
