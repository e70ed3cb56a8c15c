"""Is params.yaml right? All of it, used or not, before hours are spent.

    python -m mosa.doctor     prints OK, or one line for each problem, each with its cure
"""

import sys
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from itertools import product
from pathlib import Path

from mosa.alignment.method import Align, Method, Search
from mosa.attacks import gcg
from mosa.pipeline import params, trial
from mosa.pipeline.params import ParamsError, choice
from mosa.pipeline.sections import SCHEMAS
from mosa.world.training import Architecture, Training

PROFILE = SCHEMAS | {"align": Align, "methods": dict[str, Method], "search": Search,
                     "gcg": gcg.Experiment, "gcg_choices": gcg.Choices}
BASE = {"architecture": Architecture, "facts": Training, "pretraining": Training,
        "tuning": Training}  # of the blocks base-<name>


def problems() -> list[str]:
    """What is wrong with params.yaml and its fit to dvc.yaml, one line each; empty if nothing."""
    try:
        lists = params.lists()
        blocks = params.names("the blocks", [key for key in params.read() if key not in lists])
        wrong = [line for block in blocks for line in _block(block, lists["attacks"])]
        wrong = wrong or [*_names(lists), *_stages()]
        return wrong or [line for name in lists["profiles"] for line in _fits(name, lists)]
    except ParamsError as error:  # without the lists, what follows would only confuse
        return [str(error)]


def _block(block: str, attacks: list[str]) -> Iterator[str]:
    """Every section by its schema."""
    sections = params.read()[block]
    if not isinstance(sections, dict):
        yield f"params.yaml: {block}: must be a mapping; it is {sections!r:.60}"
        return
    schemas = BASE if block.startswith("base-") else PROFILE | {
        name: import_module(f"mosa.attacks.{name}").Config for name in {*attacks, *sections}
        if name not in PROFILE and (name in attacks or _notebook(name).is_file())
        and find_spec(f"mosa.attacks.{name}")}
    for name in {**schemas, **sections}:
        try:
            if name == "lists":
                trial.lists(block)
            elif name not in schemas:
                yield f"params.yaml: {block}.{name}: unknown section{choice(name, schemas)}"
            else:
                params.section(block, name, schemas[name])
        except ParamsError as error:
            yield str(error)


def _notebook(attack: str) -> Path:
    return params.ROOT / "notebooks/4_attacks" / f"{attack}.ipynb"


def _names(lists: dict[str, list[str]]) -> Iterator[str]:
    """Every name in a list stands for something that is there."""
    profiles = params.profiles()
    for key in ("profiles", "searches"):
        for name in lists[key]:
            if name not in profiles:
                yield f"params.yaml: {key}: no profile {name!r}{choice(name, profiles)}"
    if "original" in lists["methods"]:
        yield "params.yaml: methods: 'original' is the model before alignment: choose another name"
    for name in lists["models"]:
        trained = ["original", *lists["methods"]]
        if name not in trained and not (params.ROOT / "models" / name).is_dir():
            yield (f"params.yaml: models: {name!r} is neither a folder models/{name} nor one of "
                   f"{', '.join(trained)}: add it to methods, or the folder")
    for name in lists["attacks"]:
        if not (path := _notebook(name)).is_file():
            yield (f"params.yaml: attacks: {name!r} has no {path.relative_to(params.ROOT)}: write "
                   "it, or mend the name")
    for profile in [name for name in lists["profiles"] if name in profiles]:
        block = params.read()[profile]
        for key, where, known in (
            ("methods", f"{profile}.methods", block["methods"]),
            ("benchmarks", f"{profile}.data.tasks", block["data"]["tasks"]),
            ("attacks", profile, block),
        ):
            for name in lists[key]:
                if name not in known:
                    yield f"params.yaml: {key}: {name!r} is not in {where}{choice(name, known)}"


def _fits(profile: str, lists: dict[str, list[str]]) -> Iterator[str]:
    """What one section or list needs of another, and a stage would miss hours later."""
    block = params.read()[profile]
    prefill, search, data = block["prefill"], block["gcg"], block["data"]
    forced = {"affirmative": prefill["affirmative"], "procedural": prefill["positions"]}
    unforced = [f"{goal['phrase']}@{goal['position']}" for goal in search["goals"]
                if goal["position"] not in forced[goal["phrase"]]]
    untold = [name for name in block["order"]["tasks"] if name not in data["tasks"]]
    unfed = [name for name in lists["searches"] if name not in lists["profiles"]]
    for wrong, line in (
        ("original" not in lists["models"] or len(lists["models"]) < 2,
         "models: must hold original and one more, which is compared with it"),
        (not lists["methods"], "methods: must hold one, of which Figures 6 and 7 are drawn"),
        (unfed, f"searches: {unfed} must be in profiles too: a search needs their data"),
        (block["models"]["seed"] not in block["align"]["seeds"],
         f"{profile}.models.seed: must be one of {profile}.align.seeds"),
        (block["judge"]["name"] == "world" and data["source"] != "world",
         f"{profile}.judge.name: world judges the policy world alone; use keywords"),
        (untold, f"{profile}.order.tasks: {untold} must be in {profile}.data.tasks"),
        (unforced, f"{profile}.gcg.goals: {unforced} must be forced in {profile}.prefill: the twin "
                   "has both"),
        (search["n"] > prefill["n"], f"{profile}.gcg.n: must not exceed {profile}.prefill.n"),
        (0 not in prefill["affirmative"], f"{profile}.prefill.affirmative: must hold 0"),
        (block["sampler"]["length"] not in block["order"]["block_lengths"],
         f"{profile}.order.block_lengths: must hold {profile}.sampler.length"),
    ):
        if wrong:
            yield f"params.yaml: {line}"


def _stages() -> Iterator[str]:
    """No two combinations of a stage's axes have one name: DVC would run the last alone."""
    for stage in params.stages():
        keys = Counter(map("-".join, product(*params.axes(stage).values())))
        for key in [key for key, n in keys.items() if n > 1]:
            yield f"params.yaml: two stages are called {stage}@{key}: rename one of its parts"


if __name__ == "__main__":
    if lines := problems():
        sys.exit("\n".join(lines))
    print("OK")
