"""MOSATrainer: transformers' Trainer, with an objective that sees policy and reference.

    lm = mosa.load(folder)
    trainer = align(lm, rows, MOSAConfig(output_dir="out"))   # the paper's values; rows: see pairs
    trainer.save_model("out/adapter")

MOSA's reward is a differentiable function of one forward, so nothing is rolled out and TRL's
policy-gradient trainers (whose log-probabilities are shifted by one token) have no part in it.
Policy and reference share one copy of the weights: the reference is the policy with its adapter
off, by TRL's switch.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, make_dataclass
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from tqdm import tqdm
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from trl.trainer.utils import disable_dropout_in_model, use_adapter

from mosa.alignment.method import Method, Recipe, checked
from mosa.alignment.objectives import objective
from mosa.alignment.pairs import Collator
from mosa.lm.model import DiffusionLM
from mosa.pipeline.rows import fingerprint, write_json

# The paper's adapter is on every linear map of a block; the head is left out.
LINEAR_MAPS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
# Trainer's options that reach nothing here: nothing is evaluated, and the losses are our own
WITHOUT_EFFECT = ("do_train", "do_eval", "do_predict", "eval_strategy", "eval_on_start",
                  "load_best_model_at_end", "label_smoothing_factor", "label_names",
                  "prediction_loss_only", "remove_unused_columns", "resume_from_checkpoint")
# Beginnings of the options that may change from a killed run to the one that goes on from it
BOOKKEEPING = ("output_dir", "log", "save", "disable_tqdm", "report_to", "run_name", "project",
               "trackio", "push", "hub", "dataloader", "ddp", "use_cpu", "local_rank")

RecipeFields = make_dataclass("RecipeFields", [
    (name, info.annotation, field(default=info.default, metadata={"help": info.description}))
    for name, info in Recipe.model_fields.items()])


@dataclass
class MOSAConfig(RecipeFields, TrainingArguments):
    """Training arguments: those of transformers, and the values of a Recipe under their own names.

    A value that a Recipe refuses, or an option without effect, is a ValueError of one line.
    """

    num_train_epochs: float = 1
    per_device_train_batch_size: int = Method.model_fields["batch_size"].default
    lr_scheduler_type: str = "constant"
    logging_steps: float = 1
    remove_unused_columns: bool = False
    report_to: str = "none"
    length: int = field(default=128, metadata={"help": "response slots"})

    def __post_init__(self):
        checked(Recipe, {name: getattr(self, name) for name in Recipe.model_fields})
        for option in fields(self):
            if option.name in WITHOUT_EFFECT and getattr(self, option.name) != option.default:
                raise ValueError(f"{option.name} has no effect on alignment: leave it out")
        super().__post_init__()

    @classmethod
    def of(cls, method: Method, **others) -> "MOSAConfig":
        """The arguments of a method, and `others`, which it does not hold."""
        values = method.model_dump(include=set(Recipe.model_fields))
        return cls(per_device_train_batch_size=method.batch_size, **values, **others)


def with_lora(lm: DiffusionLM, r: int = 32, alpha: int = 64, seed: int = 0) -> DiffusionLM:
    """Wrap lm.model in a fresh adapter on every linear map of a block, in place; returns lm.

    Raises ValueError if the model carries an adapter already, which would be lost, or if peft did
    not find the maps in every block: it skips names silently.
    """
    if any(isinstance(module, BaseTunerLayer) for module in lm.model.modules()):
        raise ValueError("this model carries an adapter, which a new one would replace: merge it "
                         "first (lm.model = lm.model.merge_and_unload()), or load the base model")
    config = LoraConfig(task_type="CAUSAL_LM", r=r, lora_alpha=alpha, lora_dropout=0.0,
                        target_modules=LINEAR_MAPS)
    with torch.random.fork_rng():  # peft draws A from torch's global generator
        torch.manual_seed(seed)
        lm.model = get_peft_model(lm.model, config)
    # peft keeps a set, and writes it in another order in every process
    lm.model.peft_config["default"].target_modules = list(LINEAR_MAPS)
    found = sum(isinstance(module, LoraLayer) for module in lm.model.modules())
    wanted = len(LINEAR_MAPS) * lm.model.config.num_hidden_layers
    if found != wanted:
        raise ValueError(f"LoRA reached {found} linear maps of {wanted}: names must be "
                         f"{', '.join(LINEAR_MAPS)}")
    return lm


class Progress(TrainerCallback):
    """A bar that moves every ten seconds: Trainer's own prints numbers at every step."""

    def __init__(self, label: str):
        self.label = label

    def on_train_begin(self, args, state, control, **_):
        self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc=self.label,
                        mininterval=10, file=sys.stderr)

    def on_step_end(self, args, state, control, **_):
        self.bar.update()

    def on_train_end(self, args, state, control, **_):
        self.bar.close()


def align(
    lm: DiffusionLM, rows: Sequence[dict], args: MOSAConfig, callbacks: Sequence = ()
) -> "MOSATrainer":
    """Give lm an adapter, train it on `rows` and return the trainer; lm is left in eval mode.

    A run that was killed goes on from its last whole checkpoint in args.output_dir. Raises
    ValueError if the checkpoints there are another run's, or lm carries an adapter already, and
    FloatingPointError at the first step whose loss or gradient is not finite.
    """
    checkpoint = _checkpoint_of(lm, rows, args)
    with_lora(lm, args.lora_r, args.lora_alpha, args.seed)
    trainer = MOSATrainer(lm, args, rows, callbacks=list(callbacks))
    trainer.train(resume_from_checkpoint=checkpoint)
    lm.model.eval()
    return trainer


def _checkpoint_of(lm, rows, args):
    """The last whole checkpoint in args.output_dir, or None; run.json beside it says whose it is.

    Trainer writes trainer_state.json last: a checkpoint without it was cut off by a kill. A run is
    its settings, its rows and its base model, told by a few numbers of every tensor.
    """
    weights = [(name, str(p.dtype), p.detach().flatten()[:4].tolist())
               for name, p in lm.model.named_parameters()]
    run = {name: value for name, value in args.to_dict().items()
           if not name.startswith(BOOKKEEPING)}
    run |= {"rows": fingerprint(list(rows)), "base model": fingerprint(str(weights)),
            "processes": args.world_size}
    run, path = json.loads(json.dumps(run)), Path(args.output_dir).resolve() / "run.json"
    whole = [found.parent for found in path.parent.glob("checkpoint-*/trainer_state.json")]
    if not whole:
        if args.process_index == 0:
            write_json(path, run)
        return None
    stored = json.loads(path.read_text("utf-8")) if path.exists() else {}
    if other := [name for name in run if name not in stored or stored[name] != run[name]]:
        raise ValueError(f"{args.output_dir} holds checkpoints of another run, with other "
                         f"{', '.join(other[:5])}: give another output_dir, or delete this one")
    return str(max(whole, key=lambda folder: int(folder.name.split("-")[1])))


class MOSATrainer(Trainer):
    """Trainer of `args.objective` on a DiffusionLM that carries an adapter.

    train_dataset: rows as `Collator` takes them. Logged at every step, averaged over its rows:
    the objective's own numbers (reward, its two parts, KL, best starts) and the gradient norm.
    """

    # compute_loss divides by the number of rows of the whole accumulated step: exact for every
    # split into micro-batches, the last and shorter ones included.
    loss_is_scaled_for_ga = True

    def __init__(self, lm: DiffusionLM, args: MOSAConfig, train_dataset: Sequence[dict], **kwargs):
        disable_dropout_in_model(lm.model)
        if lm.logit_shift:
            raise ValueError("MOSATrainer has no logit shift: train a LLaDA or MMaDA model")
        super().__init__(model=lm.model, args=args, train_dataset=train_dataset,
                         data_collator=Collator(lm, args.length, args.eos), **kwargs)
        self.remove_callback(PrinterCallback)
        self.loss, self.sums, self.rows = objective(args.objective), {}, 0

    def _get_num_items_in_batch(self, batch_samples, device):
        rows = torch.tensor(sum(len(batch["levels"]) for batch in batch_samples), device=device)
        return self.accelerator.gather(rows).sum() if self.args.world_size > 1 else rows

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        def policy(ids, attention):
            return model(input_ids=ids, attention_mask=attention,
                         logits_to_keep=self.args.length).logits

        def reference(ids, attention):
            with use_adapter(self.accelerator.unwrap_model(model), None):
                return policy(ids, attention)

        losses, log = self.loss(policy, reference, inputs, self.args)
        for name, value in log.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value.detach().float().sum())
        self.rows += len(losses)
        self._finite(losses.detach(), "loss")
        rows = len(losses) if num_items_in_batch is None else num_items_in_batch
        return losses.sum() * self.args.world_size / rows

    def _clip_grad_norm(self, model):
        norm = super()._clip_grad_norm(model)
        if not self.args.fp16:  # whose scaler skips such a step and lowers its scale
            self._finite(torch.as_tensor(norm), "gradient's norm")
        return norm

    def _finite(self, values, what):
        """Stop before the weights, or anything saved, can take up a number that is not finite."""
        if not torch.isfinite(values).all():
            raise FloatingPointError(
                f"step {self.state.global_step + 1}: the {what} is not finite, {values.tolist()}: "
                "lower the learning rate, or use float32; nothing of this step is saved")

    def log(self, logs, *args, **kwargs):
        if self.rows and "loss" in logs:
            totals = torch.tensor([self.rows, *self.sums.values()], device=self.args.device)
            rows, *sums = self.accelerator.reduce(totals.float(), "sum").tolist()
            logs |= {name: value / rows for name, value in zip(self.sums, sums)}
            self.sums, self.rows = {}, 0
        super().log(logs, *args, **kwargs)
