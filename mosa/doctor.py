"""Is params.yaml right? All of it, used or not, before hours are spent.

    python -m mosa.doctor     prints OK, or one line for each problem, each with its cure
"""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from importlib.util import find_spec
from itertools import product
from pathlib import Path

from mosa.alignment.method import Align, Factorial, Method, Search
from mosa.alignment.objectives import objective
from mosa.attacks import gcg
from mosa.attacks.battery import Battery
from mosa.attacks.campaign import Campaign
from mosa.fits import fits
from mosa.pipeline import params, trial
from mosa.pipeline.params import LISTS, ParamsError, choice
from mosa.pipeline.sections import SCHEMAS, Guard
from mosa.threats import attack, reason
from mosa.world.network import Architecture
from mosa.world.training import PHASES, Training

PROFILE = SCHEMAS | {"align": Align, "methods": dict[str, Method], "guards": dict[str, Guard],
                     "measure": Battery, "development": Battery, "search": Search,
                     "factorial": Factorial, "gcg": gcg.Experiment, "gcg_choices": gcg.Choices,
                     "attack": Campaign}
BASE = {"architecture": Architecture, **dict.fromkeys(PHASES, Training)}  # of blocks base-<name>


def problems() -> list[str]:
    """What is wrong with params.yaml and its fit to dvc.yaml, one line each; empty if nothing."""
    try:
        if wrong := [*_unknown()]:
            return wrong
        lists = params.lists()
        blocks = params.names("the blocks", [key for key in params.read() if key not in lists])
        configs, wrong = _configs(blocks, lists["attacks"])
        wrong += _once((block, line) for block in blocks
                       for line in _block(block, lists["attacks"], configs))
        wrong = wrong or [*_names(lists), *_stages()]
        return list(dict.fromkeys(wrong)) or _once(
            (profile, line) for profile in params.profiles() for line in _fits(profile, lists))
    except ParamsError as error:  # without the lists, what follows would only confuse
        return [str(error)]


def _unknown() -> Iterator[str]:
    """What stands at the top and is neither a list nor a block."""
    for key, value in params.read().items():
        if key not in LISTS and not isinstance(value, dict):
            yield (f"params.yaml: {key}: is neither a list that is known nor a block of sections"
                   f"{choice(key, LISTS)}")


def _configs(blocks: list[str], attacks: list[str]) -> tuple[dict[str, type | None], list[str]]:
    """The Config of every attack that is listed or has a section, None for those that cannot be
    had, and why, in a line each. One that is listed without notebook and module is _names' part."""
    configs, wrong = {}, []
    sections = {name for block in blocks for name in params.read()[block]}
    for name in sorted({*attacks, *filter(str.isidentifier, map(str, sections))} - {*PROFILE}):
        configs |= {name: None} if name in attacks else {}
        if _notebook(name).is_file() or (name in attacks and find_spec(f"mosa.attacks.{name}")):
            try:
                configs[name] = attack(name).Config
            except ParamsError as error:
                configs[name] = None
                wrong.append(str(error))
    return configs, wrong


def _once(told: Iterable[tuple[str, str]]) -> list[str]:
    """The lines of (block, line): a fault that others inherit, in the same words of the same value,
    is told of the first alone."""
    found: dict[tuple, str] = {}
    for block, line in told:
        value, here = params.read()[block], f"params.yaml: {block}."
        if line.startswith(here):
            for key in line.removeprefix(here).partition(": ")[0].split("."):
                value = value.get(key) if isinstance(value, dict) else value
        else:
            value = None
        found.setdefault((line.replace(f"{block}.", ""), repr(value)), line)
    return list(found.values())


def _fits(profile: str, lists: dict[str, list[str]]) -> Iterator[str]:
    """A profile as a part of `dvc repro`, or as a trial with lists of its own."""
    if profile in lists["profiles"]:
        yield from fits(profile, lists)
    elif params.read()[profile].get("lists"):
        yield from fits(profile, {**lists, **trial.lists(profile)})


def _block(block: str, attacks: list[str], configs: dict[str, type | None]) -> Iterator[str]:
    """Every section by its schema; those of attacks by their Config, if it can be had."""
    sections = params.read()[block]
    schemas = BASE if block.startswith("base-") else PROFILE | {
        name: config for name, config in configs.items()
        if config and (name in attacks or name in sections)}
    unknown = [name for name in sections if name not in {*schemas, *configs, "lists"}]
    for name in unknown:
        yield f"params.yaml: {block}.{name}: unknown section{choice(name, schemas)}"
    for name in schemas:
        if name in sections or not get_close_matches(name, unknown):  # which is misspelt then
            try:
                params.section(block, name, schemas[name])
            except ParamsError as error:
                yield str(error)
    if "lists" in sections:
        try:
            trial.lists(block)
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
    yield from _named(lists, [name for name in lists["profiles"] if name in profiles], "")
    for profile in profiles:  # what a trial of it would run
        if own := params.read()[profile].get("lists"):
            yield from _named({**lists, **own}, [profile], f"{profile}.lists.")


def _named(lists: dict[str, list[str]], profiles: list[str], where: str) -> Iterator[str]:
    """The models, attacks, methods and benchmarks of lists, which stand at `where`."""
    if "original" in lists["methods"]:
        yield (f"params.yaml: {where}methods: 'original' is the model before alignment: choose "
               "another name")
    for name in lists["models"]:
        known = ["original", *lists["methods"], *(
            guard for profile in profiles for guard in params.read()[profile].get("guards", {}))]
        folders = [params.ROOT / "models" / name, params.ROOT / "adapters" / name]
        if name not in known and not any(folder.is_dir() for folder in folders):
            yield (f"params.yaml: {where}models: {name!r} is neither a folder models/{name} or "
                   f"adapters/{name} nor one of {', '.join(known)}: add it to methods, or "
                   "the folder")
    for name in lists["attacks"]:
        if not (path := _notebook(name)).is_file():
            yield (f"params.yaml: {where}attacks: {name!r} has no {path.relative_to(params.ROOT)}: "
                   "write it, or mend the name")
    for profile in profiles:
        block = params.read()[profile]
        for key, place, known in (
            ("methods", f"{profile}.methods", block["methods"]),
            ("benchmarks", f"{profile}.data.tasks", block["data"]["tasks"]),
            ("attacks", profile, block),
        ):
            for name in lists[key]:
                if name not in known:
                    yield (f"params.yaml: {where}{key}: {name!r} is not in {place}"
                           f"{choice(name, known)}")
        for name in lists["methods"]:
            used = block["methods"].get(name, {}).get("objective", "mosa")  # Method's default
            try:
                objective(used)
            except (SyntaxError, ImportError, AttributeError) as error:
                yield f"mosa/alignment/objectives/{used}.py: {reason(error)}"


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
