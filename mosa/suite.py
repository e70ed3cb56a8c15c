"""What a profile measures on: its behaviours, the wraps they are put in, and its phrase sets."""

from __future__ import annotations

import random

from mosa import data, tasks, world


def behaviours(cfg) -> dict[str, list[dict]]:
    """Set name -> data rows, for the benchmarks, the benign, borderline and validation sets.

    `cfg` is the profile's data section: `source` "world" draws them from the policy world,
    "files" samples them from the public data sets.
    """
    sizes = dict.fromkeys(cfg.benchmarks, cfg.n_benchmark)
    sizes |= {cfg.benign: cfg.n_benign, cfg.borderline: cfg.n_borderline}
    sizes |= dict.fromkeys(cfg.validation, cfg.n_validation)
    if cfg.source == "world":
        return {name: world.requests(name, n, cfg.seed) for name, n in sizes.items()}
    named = roles(cfg)
    return {name: data.sample(data.load(name, cfg.mirror), n, cfg.seed, key=f"n_{named[name]}")
            for name, n in sizes.items()}  # fmt: skip


def roles(cfg) -> dict[str, str]:
    """Set name -> the part it plays: benchmark, benign, borderline or validation."""
    named = {"benchmark": cfg.benchmarks, "benign": [cfg.benign], "borderline": [cfg.borderline],
             "validation": cfg.validation}  # fmt: skip
    return {name: role for role, names in named.items() for name in names}


def families(cfg) -> dict[str, str]:
    """Wrap family -> access level (A0 prompt only, A1 fabricated history), "plain" first."""
    if cfg.source == "world":
        return {"plain": "A0"} | {name: world.FAMILIES[name].access for name in world.ATTACKS}
    return {name: wrap.access for name, wrap in data.WRAPS.items()}


def wrapped(rows: list[dict], family: str, cfg) -> list[dict]:
    """The rows as requests of one family: with chat `messages`, `family` and `access` added."""
    access = families(cfg)[family]
    if cfg.source == "world":
        messages = [world.wrap(row, family) for row in rows]
    else:
        messages = [data.WRAPS[family].messages(row["behaviour"]) for row in rows]
    return [row | {"messages": turns, "family": family, "access": access}
            for row, turns in zip(rows, messages, strict=True)]  # fmt: skip


def phrases(cfg) -> dict[str, list[str]]:
    """The affirmative and the procedural phrase set of the prefill experiment."""
    if cfg.source == "world":
        return {"affirmative": world.AFFIRMATIVE, "procedural": world.PROCEDURAL}
    return data.PHRASES


def prefilled(rows: list[dict], kind: str, position: int, phrases: dict, seed: int) -> list[dict]:
    """The requests with a phrase of one set forced into the response at `position`, access A2.

    One phrase is drawn per row; a kind without phrases ("none") leaves the canvas alone.
    """
    forced = []
    for row in rows:
        rng = random.Random(f"{seed}-{row['id']}-{kind}-{position}")
        phrase = rng.choice(phrases.get(kind, [""]))
        prefill, access = ({str(position): phrase}, "A2") if phrase else ({}, row["access"])
        forced.append(row | {"phrase": kind, "position": position, "prefill": prefill,
                             "access": access})  # fmt: skip
    return forced


def questions(cfg) -> list[dict]:
    """The utility tasks' evaluation questions (id, task, question, answer)."""
    return [row for task in cfg.tasks for row in tasks.questions(task, cfg.n_tasks, cfg.seed)]
