"""What a profile measures and trains on: behaviours, the wraps they are put in, phrases, pairs.

`cfg` is the profile's section `data` of params.yaml; its `source` names the module that is asked.
"""

import random
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from mosa.data import guild, public
from mosa.lm.model import DiffusionLM
from mosa.pipeline.params import choice
from mosa.pipeline.sections import Data
from mosa.world import tasks

SOURCES = {"world": guild, "files": public}


def _source(name: str) -> ModuleType:
    if name not in SOURCES:
        raise ValueError(f"source: no source of data {name!r}{choice(name, SOURCES)}")
    return SOURCES[name]


def behaviours(cfg: Data) -> dict[str, list[dict]]:
    """Set name -> data rows, for the benchmarks, the benign, borderline and validation sets.

    Raises ValueError where a set has fewer rows than its key n_... asks for.
    """
    return {name: _source(cfg.source).behaviours(name, getattr(cfg, f"n_{role}"), cfg, f"n_{role}")
            for name, role in roles(cfg).items()}


def roles(cfg: Data) -> dict[str, str]:
    """Set name -> the part it plays: benchmark, benign, borderline or validation."""
    named = {"benchmark": cfg.benchmarks, "benign": [cfg.benign], "borderline": [cfg.borderline],
             "validation": cfg.validation}
    found = {}
    for role, names in named.items():
        for name in names:
            if found.setdefault(name, role) != role:
                raise ValueError(f"{name!r} is named as {found[name]} and as {role} in the data "
                                 "section of params.yaml: a set plays one part")
    return found


def families(cfg: Data) -> dict[str, str]:
    """Wrap family -> access level (A0 prompt only, A1 fabricated history), "plain" first."""
    return _source(cfg.source).ACCESS


def wrapped(rows: list[dict], family: str, cfg: Data) -> list[dict]:
    """The rows as requests of one family: with chat `messages`, `family`, `access` and `template`,
    the turns that the request was put in, added."""
    access, source = families(cfg)[family], _source(cfg.source)
    return [row | {"messages": source.messages(row, family), "family": family, "access": access,
                   "template": " / ".join(source.template(row, family))} for row in rows]


def phrases(cfg: Data) -> dict[str, Sequence[str]]:
    """Affirmative, procedural and neutral phrases, and words that orders are "followed" with."""
    return _source(cfg.source).PHRASES


def questions(cfg: Data) -> list[dict]:
    """The utility tasks' evaluation questions (id, task, question, answer)."""
    return [row for task in cfg.tasks for row in tasks.questions(task, cfg.n_tasks, cfg.seed)]


def harmless(rows: list[dict], cfg: Data) -> list[dict]:
    """Harmless questions about what requests to be refused are about, as plain requests; of public
    sets there are none."""
    return _source(cfg.source).harmless(rows, cfg.seed)


def forbidden(request: dict, cfg: Data, lm: DiffusionLM, length: int) -> list[int]:
    """`length` response ids of a forbidden answer to a request, as an attacker would have it.

    source "world": an answer drawn for it, filled with EOS. Public sets have no answers: the
    procedural phrases one after the other, again and again.
    """
    text, repeated = _source(cfg.source).forbidden(request)
    ids = lm.encode(text)
    return (ids + (ids if repeated else [lm.eos_id]) * length)[:length]


def pair_source(data_cfg: Data, cfg: Any) -> Callable[[random.Random], dict]:
    """A function that draws one training pair: chats `sealed`, to be refused, and `open`, to be
    answered, a `harmful` (procedural) and an `affirmative` phrase; from the world also the whole
    responses `refusal`, `compliance` and `benign`.

    cfg: mosa.alignment.method.Pairs, or what else has its `sealed`, `benign` and `families`. Of
    `data_cfg` only `source` and `mirror` are read. Raises ValueError, naming the key and the
    choices, for a source, set or family that does not exist.
    """
    for name in cfg.families:
        if name not in families(data_cfg):
            raise ValueError(f"families: no family {name!r}{choice(name, families(data_cfg))}")
    source = _source(data_cfg.source)
    return source.pair_source(cfg.sealed, cfg.benign, list(cfg.families), data_cfg.mirror)
