"""Alignment runs as a stage sees them: settings in, adapters and logs out, kept when killed.

    cfg = stage.section("align", Align)
    bases = [base.weights.card for base in stage.bases[: cfg.bases]]
    runs = jobs(bases, {"mosa": Method()}, cfg, stage.section("data"), 128, cfg.seeds)
    for job, (adapter, log) in zip(runs, run_all(runs, stage.key, cfg.workers)):
        ...   # adapter: its folder; log: one dict of numbers a step
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import torch

from mosa.alignment import trainer
from mosa.alignment.method import Method, Pairs
from mosa.alignment.pairs import pairs
from mosa.data.sets import pair_source
from mosa.lm import loading
from mosa.pipeline.params import ROOT
from mosa.pipeline.rows import code, fingerprint, write_json
from mosa.pipeline.sections import Data
from mosa.pipeline.workers import side_by_side


@dataclass(frozen=True)
class Job:
    """One run: `method` with `rows` on the model of `card` (its folder, dtype and weights)."""

    label: str
    card: dict
    rows: list[dict]
    method: Method
    seed: int
    length: int  # response slots

    @property
    def run(self) -> str:
        """What tells the runs of one method apart: the base model's folder and the seed."""
        return f"{Path(self.card['folder']).name}-{self.seed}"


def jobs(bases: Sequence[dict], methods: Mapping[str, Method], cfg: Pairs, data: Data, length: int,
         seeds: Iterable[int]) -> list[Job]:
    """Every method on every base model (their cards) with every seed, labelled name-base-seed. A
    seed draws its own pairs, their order and the adapter's start. A method may take another number
    of pairs, or other safe sentences."""
    draw, found = pair_source(data, cfg), []

    @cache  # a second each
    def drawn(safe: tuple[str, ...], n: int, seed: int) -> list[dict]:
        return pairs(draw, safe, n, seed)

    for name, method in methods.items():
        for seed in seeds:
            rows = drawn(tuple(method.safe or cfg.safe), method.rows or cfg.rows, seed)
            some = [Job("", card, rows, method, seed, length) for card in bases]
            found += [replace(job, label=f"{name}-{job.run}") for job in some]
    return found


def run_all(jobs: Sequence[Job], key: str, workers: int) -> list[tuple[Path, list[dict]]]:
    """[(adapter folder, log)] of every job; a log has one dict of numbers a step.

    `workers` jobs run side by side (`mosa.pipeline.workers`). Folders lie in .scratch/<key> until
    `mosa.pipeline.rows.done(key)`: what is finished is not trained again, what was killed goes on
    from its last checkpoint.
    """
    return side_by_side(partial(_run, key=key), jobs, workers, key)


def _run(job, key):
    reached = code("mosa.alignment.run", f"mosa.alignment.objectives.{job.method.objective}")
    folder = ROOT / ".scratch" / key / fingerprint(replace(job, label=""), reached)
    if not (folder / "log.json").exists():
        gpu = torch.cuda.is_available()
        args = trainer.MOSAConfig.of(
            job.method, output_dir=str(folder), seed=job.seed, length=job.length, bf16=gpu,
            save_strategy="steps", save_steps=100, save_total_limit=2, disable_tqdm=True,
            dataloader_pin_memory=gpu)
        lm = loading.load(job.card["folder"], dtype=job.card["dtype"])
        state = trainer.align(lm, job.rows, args, [trainer.Progress(job.label)]).state
        lm.model.save_pretrained(folder / "adapter")
        loading.note_base(folder / "adapter", job.card["folder"])
        (folder / "adapter/README.md").unlink(missing_ok=True)  # peft's empty model card
        write_json(folder / "log.json", [e for e in state.log_history if "loss" in e])
    return folder / "adapter", json.loads((folder / "log.json").read_text("utf-8"))
