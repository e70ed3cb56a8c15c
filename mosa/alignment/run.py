"""Alignment runs as a stage sees them: settings in, adapters and logs out, kept when killed."""

import json
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from mosa import models
from mosa.alignment import data, objectives, reward, trainer
from mosa.params import ROOT, Method
from mosa.resume import fingerprint, write_json
from mosa.workers import side_by_side

CODE = [Path(module.__file__) for module in (data, objectives, reward, trainer)]
# MOSAConfig calls this by another name, or has no place for it
RENAMED = {"batch_size": "per_device_train_batch_size"}
ELSEWHERE = {"rows", "safe", "lora_r", "lora_alpha"}


@dataclass(frozen=True)
class Job:
    """One run: the model of `card` (as 03_model.ipynb wrote it) aligned by `method` on `rows`."""

    label: str
    card: dict
    rows: list
    method: Method
    seed: int
    length: int


def run_all(jobs, stage, workers):
    """[(adapter folder, log)] of every job; a log has one dict of numbers a step.

    `workers` jobs run side by side (`mosa.workers`). Folders lie in .scratch/<stage> until
    `mosa.resume.done(stage)`: what is finished is not trained again, what was killed goes on from
    its last checkpoint.
    """
    return side_by_side(partial(_run, stage=stage), jobs, workers, stage)


def _run(job, stage):
    key = fingerprint(replace(job, label=""), *CODE)
    folder = ROOT / ".scratch" / stage / key
    if not (folder / "log.json").exists():
        settings = {RENAMED.get(name, name): value
                    for name, value in job.method.model_dump().items()
                    if name not in ELSEWHERE}  # fmt: skip
        args = trainer.MOSAConfig(
            output_dir=str(folder), seed=job.seed, length=job.length,
            bf16=torch.cuda.is_available(), save_strategy="steps", save_steps=100,
            save_total_limit=2, disable_tqdm=True,
            dataloader_pin_memory=torch.cuda.is_available(), **settings)  # fmt: skip
        lora = trainer.paper_lora()
        lora.lora_r, lora.lora_alpha = job.method.lora_r, job.method.lora_alpha
        lm = models.load(job.card["folder"], dtype=job.card["dtype"])
        progress = trainer.Progress(job.label)
        log = trainer.align(lm, job.rows, args, lora, callbacks=[progress]).steps()
        lm.model.save_pretrained(folder / "adapter")
        (folder / "adapter/README.md").unlink(missing_ok=True)  # peft's empty model card
        write_json(folder / "log.json", log)
    return folder / "adapter", json.loads((folder / "log.json").read_text("utf-8"))
