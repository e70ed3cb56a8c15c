"""MOSATrainer: transformers' Trainer, with an objective that sees policy and reference.

MOSA's reward is a differentiable function of one forward, so nothing is rolled out and TRL's
policy-gradient trainers (whose log-probabilities are shifted by one token) have no part in it.
Policy and reference share one copy of the weights: the reference is the policy with its adapter
off, by TRL's switch.
"""

from dataclasses import dataclass, field

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from transformers import Trainer, TrainingArguments
from trl.trainer.utils import disable_dropout_in_model, use_adapter

from mosa.alignment.data import Collator
from mosa.alignment.objectives import OBJECTIVES

LINEAR_MAPS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclass
class MOSAConfig(TrainingArguments):
    """Training arguments with the paper's values, and what the objective needs beside them.

    The paper: AdamW 5e-5, gradient clip 0.01, beta 0.05, one epoch, window 20 to 60. Its batch
    size and schedule are not printed; 16 rows and a constant rate are this project's choice.
    """

    learning_rate: float = 5e-5
    max_grad_norm: float = 0.01
    num_train_epochs: float = 1
    per_device_train_batch_size: int = 16
    lr_scheduler_type: str = "constant"
    logging_steps: float = 1
    remove_unused_columns: bool = False
    report_to: str = "none"
    objective: str = field(default="mosa", metadata={"help": ", ".join(OBJECTIVES)})
    length: int = field(default=128, metadata={"help": "response slots"})
    k_start: int = field(default=20, metadata={"help": "first slot of the window"})
    k_end: int = field(default=60, metadata={"help": "last slot of the window, inclusive"})
    bounds: str = field(default="start", metadata={"help": "what the window bounds: start, whole"})
    beta: float = field(default=0.05, metadata={"help": "weight of KL(policy || reference)"})
    bound: float = field(default=0.0, metadata={"help": "nats; 0: the reward is not bounded"})
    benign_kl: float = field(default=0.0, metadata={"help": "weight of KL on benign requests"})

    def __post_init__(self):
        if self.objective not in OBJECTIVES:
            raise ValueError(f"unknown objective {self.objective!r}: use one of "
                             f"{', '.join(OBJECTIVES)}")  # fmt: skip
        super().__post_init__()


def with_lora(lm, r=32, alpha=64, seed=0):
    """Wrap lm.model in LoRA on all seven linear maps of every block, in place; returns lm.

    Raises ValueError if peft did not find exactly seven a block: it skips missing names silently.
    """
    config = LoraConfig(r=r, lora_alpha=alpha, target_modules=LINEAR_MAPS, bias="none")
    with torch.random.fork_rng():  # peft draws A from torch's global generator
        torch.manual_seed(seed)
        lm.model = get_peft_model(lm.model, config)
    found = sum(isinstance(module, LoraLayer) for module in lm.model.modules())
    wanted = len(LINEAR_MAPS) * lm.model.config.num_hidden_layers
    if found != wanted:
        raise ValueError(f"LoRA reached {found} linear maps of {wanted}: names must be "
                         f"{', '.join(LINEAR_MAPS)}")  # fmt: skip
    return lm


class MOSATrainer(Trainer):
    """Trainer of `args.objective` on a DiffusionLM that carries an adapter.

    train_dataset: rows as `Collator` takes them. Logged at every step, averaged over its rows:
    the objective's own numbers (reward, its two parts, KL, best starts) and the gradient norm.
    """

    # compute_loss divides by the number of rows of the whole accumulated step: exact for every
    # split into micro-batches, the last and shorter ones included.
    loss_is_scaled_for_ga = True

    def __init__(self, lm, args, train_dataset, **kwargs):
        disable_dropout_in_model(lm.model)
        if lm.logit_shift:
            raise ValueError("MOSATrainer has no logit shift: train a LLaDA or MMaDA model")
        super().__init__(model=lm.model, args=args, train_dataset=train_dataset,
                         data_collator=Collator(lm, args.length), **kwargs)  # fmt: skip
        self.sums, self.rows = {}, 0

    def _get_num_items_in_batch(self, batch_samples, device):
        rows = torch.tensor(sum(len(batch["t"]) for batch in batch_samples), device=device)
        return self.accelerator.gather(rows).sum() if self.args.world_size > 1 else rows

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        def policy(ids, attention):
            return model(input_ids=ids, attention_mask=attention,
                         logits_to_keep=self.args.length).logits  # fmt: skip

        def reference(ids, attention):
            with use_adapter(self.accelerator.unwrap_model(model), None):
                return policy(ids, attention)

        losses, log = OBJECTIVES[self.args.objective](policy, reference, inputs, self.args)
        for name, value in log.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value.detach().float().sum())
        self.rows += len(losses)
        rows = len(losses) if num_items_in_batch is None else num_items_in_batch
        return losses.sum() * self.args.world_size / rows

    def log(self, logs, *args, **kwargs):
        if self.rows and "loss" in logs:
            logs |= {name: value / self.rows for name, value in self.sums.items()}
            self.sums, self.rows = {}, 0
        super().log(logs, *args, **kwargs)
