"""Is params.yaml right? All of it, used or not, before hours are spent.

    python -m mosa.doctor     prints OK, or one line for each problem, each with its cure
"""

import sys
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from itertools import product

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
        return wrong or [*_names(lists), *_stages()]
    except ParamsError as error:  # without the lists, what follows would only confuse
        return [str(error)]


def _block(block: str, attacks: list[str]) -> Iterator[str]:
    """Every section by its schema."""
    sections = params.read()[block]
    if not isinstance(sections, dict):
        yield f"params.yaml: {block}: must be a mapping; it is {sections!r:.60}"
        return
    schemas = BASE if block.startswith("base-") else PROFILE | {
        name: import_module(f"mosa.attacks.{name}").Config for name in attacks
        if name not in PROFILE and find_spec(f"mosa.attacks.{name}")}
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
        path = f"notebooks/4_attacks/{name}.ipynb"
        if not (params.ROOT / path).is_file():
            yield f"params.yaml: attacks: {name!r} has no {path}: write it, or mend the name"
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
