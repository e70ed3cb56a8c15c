"""MOSATrainer: transformers' Trainer, with an objective that sees policy and reference.

MOSA's reward is a differentiable function of one forward, so nothing is rolled out and TRL's
policy-gradient trainers (whose log-probabilities are shifted by one token) have no part in it.
Policy and reference share one copy of the weights: the reference is the policy with its adapter
off, by TRL's switch.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

import torch
from peft import get_peft_model
from peft.tuners.lora import LoraLayer
from tqdm import tqdm
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from trl import ModelConfig, get_peft_config
from trl.trainer.utils import disable_dropout_in_model, use_adapter

from mosa.alignment.data import Collator
from mosa.alignment.objectives import OBJECTIVES, RESPONSES

# The paper's adapter: r = 32, alpha = 64 on every linear map of a block, head left out.
LINEAR_MAPS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclass
class MOSAConfig(TrainingArguments):
    """Training arguments with the paper's values, and what the objective needs beside them.

    The paper: AdamW 5e-5, gradient clip 0.01, beta 0.05, one epoch, window 20 to 60. It prints no
    batch size; its Figure 7 ends near step 750, which 3,000 questions reach in batches of 4. A
    constant rate is this project's choice. Each default of the objective is the printed form.
    """

    learning_rate: float = 5e-5
    max_grad_norm: float = 0.01
    num_train_epochs: float = 1
    per_device_train_batch_size: int = 4
    lr_scheduler_type: str = "constant"
    logging_steps: float = 1
    remove_unused_columns: bool = False
    report_to: str = "none"
    objective: str = field(default="mosa", metadata={"help": ", ".join(OBJECTIVES)})
    length: int = field(default=128, metadata={"help": "response slots"})
    k_start: int = field(default=20, metadata={"help": "first slot of the window"})
    k_end: int = field(default=60, metadata={"help": "last slot of the window, inclusive"})
    bounds: str = field(default="start", metadata={"help": "what the window bounds: start, whole"})
    eos: bool = field(default=True, metadata={"help": "safe sentences end in EOS, the breaker"})
    contrast: float = field(default=1.0, metadata={"help": "weight of the harmful score"})
    bound: float = field(default=0.0, metadata={"help": "nats; 0: the reward is not bounded"})
    revealed: float = field(default=0.0, metadata={"help": "share of rows not fully masked"})
    beta: float = field(default=0.05, metadata={"help": "weight of KL(policy || reference)"})
    benign_kl: float = field(default=0.0, metadata={"help": "weight of KL on benign requests"})
    benign_full: float = field(default=1.0, metadata={"help": "share of it fully masked"})

    def __post_init__(self):
        if self.objective not in OBJECTIVES:
            raise ValueError(f"unknown objective {self.objective!r}: use one of "
                             f"{', '.join(OBJECTIVES)}")  # fmt: skip
        super().__post_init__()

    def responses(self):
        """Which whole responses the training rows must hold."""
        needed = set(RESPONSES[self.objective])
        needed |= {"compliance"} if self.revealed else set()
        return needed | ({"benign"} if self.benign_kl and self.benign_full < 1 else set())


def paper_lora():
    """TRL's model configuration with the paper's adapter: r = 32, alpha = 64, all linear maps."""
    return ModelConfig(use_peft=True, lora_r=32, lora_alpha=64, lora_dropout=0.0,
                       lora_target_modules=LINEAR_MAPS)  # fmt: skip


def with_lora(lm, config=None, seed=0):
    """Wrap lm.model in the adapter of TRL's `config` (default `paper_lora`), in place; returns lm.

    Raises ValueError if peft did not find the named maps in every block: it skips names silently.
    """
    config = config or paper_lora()
    with torch.random.fork_rng():  # peft draws A from torch's global generator
        torch.manual_seed(seed)
        lm.model = get_peft_model(lm.model, get_peft_config(config))
    # peft keeps a set, and writes it in another order in every process
    lm.model.peft_config["default"].target_modules = list(config.lora_target_modules)
    found = sum(isinstance(module, LoraLayer) for module in lm.model.modules())
    wanted = len(config.lora_target_modules) * lm.model.config.num_hidden_layers
    if found != wanted:
        raise ValueError(f"LoRA reached {found} linear maps of {wanted}: names must be "
                         f"{', '.join(LINEAR_MAPS)}")  # fmt: skip
    return lm


class Progress(TrainerCallback):
    """A bar that moves every ten seconds: Trainer's own prints a line of numbers for every step."""

    def __init__(self, label):
        self.label = label

    def on_train_begin(self, args, state, control, **_):
        self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc=self.label,
                        mininterval=10, file=sys.stderr)  # fmt: skip

    def on_step_end(self, args, state, control, **_):
        self.bar.update()

    def on_train_end(self, args, state, control, **_):
        self.bar.close()


def align(lm, rows, args, lora=None, callbacks=()):
    """Give lm an adapter, train it on `rows` and return the trainer; lm is left in eval mode.

    A run that was killed goes on from its last whole checkpoint in args.output_dir.
    """
    with_lora(lm, lora, args.seed)
    trainer = MOSATrainer(lm, args, rows, callbacks=list(callbacks))
    trainer.train(resume_from_checkpoint=last_checkpoint(args.output_dir))
    lm.model.eval()
    return trainer


def last_checkpoint(folder):
    """The newest whole checkpoint below a folder as text, or None.

    Trainer writes trainer_state.json last, so a checkpoint without it was cut off by a kill.
    """
    whole = [path.parent for path in Path(folder).glob("checkpoint-*/trainer_state.json")]
    return str(max(whole, key=lambda path: int(path.name.split("-")[1]))) if whole else None


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
        if needed := args.responses() - set(train_dataset[0]):
            raise ValueError(f"objective {args.objective!r} needs whole responses, and the rows "
                             f"have no {', '.join(sorted(needed))}: use rows of the world, or "
                             "benign_full 1 and revealed 0")  # fmt: skip
        super().__init__(model=lm.model, args=args, train_dataset=train_dataset,
                         data_collator=Collator(lm, args.length, args.eos), **kwargs)  # fmt: skip
        self.remove_callback(PrinterCallback)
        self.sums, self.rows = {}, 0

    def steps(self):
        """The log so far: one dict of numbers for each training step."""
        return [entry for entry in self.state.log_history if "loss" in entry]

    def _get_num_items_in_batch(self, batch_samples, device):
        rows = torch.tensor(sum(len(batch["levels"]) for batch in batch_samples), device=device)
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
            totals = torch.tensor([self.rows, *self.sums.values()], device=self.args.device)
            rows, *sums = self.accelerator.reduce(totals.float(), "sum").tolist()
            logs |= {name: value / rows for name, value in zip(self.sums, sums)}
            self.sums, self.rows = {}, 0
        super().log(logs, *args, **kwargs)
