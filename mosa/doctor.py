"""Is params.yaml right? All of it, used or not, before hours are spent.

    python -m mosa.doctor     prints OK, or one line for each problem, each with its cure
"""

import sys
from collections import Counter
from collections.abc import Iterator
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from itertools import product
from pathlib import Path

from mosa.alignment.method import Align, Method, Search
from mosa.alignment.objectives import objective
from mosa.attacks import gcg
from mosa.data import sets
from mosa.data.registry import DATASETS
from mosa.pipeline import params, trial
from mosa.pipeline.params import LISTS, ParamsError, choice
from mosa.pipeline.sections import SCHEMAS
from mosa.world.training import Architecture, Training

PROFILE = SCHEMAS | {"align": Align, "methods": dict[str, Method], "search": Search,
                     "gcg": gcg.Experiment, "gcg_choices": gcg.Choices}
BASE = {"architecture": Architecture, "facts": Training, "pretraining": Training,
        "tuning": Training}  # of the blocks base-<name>


def problems() -> list[str]:
    """What is wrong with params.yaml and its fit to dvc.yaml, one line each; empty if nothing."""
    try:
        if wrong := [*_unknown()]:
            return wrong
        lists = params.lists()
        blocks = params.names("the blocks", [key for key in params.read() if key not in lists])
        seen: set = set()
        wrong = [line for block in blocks for line in _block(block, lists["attacks"], seen)]
        wrong = wrong or [*_names(lists), *_stages()]
        if not wrong:
            trials = {name: {**lists, **trial.lists(name)} for name in _tried()}
            runs = trials | {name: lists for name in lists["profiles"]}
            wrong = [line for name, used in runs.items() for line in _fits(name, used)]
        return list(dict.fromkeys(wrong))
    except ParamsError as error:  # without the lists, what follows would only confuse
        return [str(error)]


def _unknown() -> Iterator[str]:
    """What stands at the top and is neither a list nor a block."""
    for key, value in params.read().items():
        if key not in LISTS and not isinstance(value, dict):
            yield (f"params.yaml: {key}: is neither a list that is known nor a block of sections"
                   f"{choice(key, LISTS)}")


def _block(block: str, attacks: list[str], seen: set) -> Iterator[str]:
    """Every section by its schema; what a block inherits (`seen`) was told of already."""
    sections = params.read()[block]
    try:
        schemas = BASE if block.startswith("base-") else PROFILE | {
            name: import_module(f"mosa.attacks.{name}").Config for name in {*attacks, *sections}
            if name not in PROFILE and (name in attacks or _notebook(name).is_file())
            and find_spec(f"mosa.attacks.{name}")}
    except (SyntaxError, ImportError, AttributeError) as error:
        yield f"mosa/attacks: {_reason(error)}"
        return
    unknown = [name for name in sections if name not in {*schemas, "lists"}]
    for name in unknown:
        yield f"params.yaml: {block}.{name}: unknown section{choice(name, schemas)}"
    for name in schemas:
        fault = (name, id(sections.get(name)))
        misspelt = name not in sections and get_close_matches(name, unknown)
        if not misspelt and fault not in seen:
            seen.add(fault)
            try:
                params.section(block, name, schemas[name])
            except ParamsError as error:
                yield str(error)
    if "lists" in sections:
        try:
            trial.lists(block)
        except ParamsError as error:
            yield str(error)


def _reason(error: Exception) -> str:
    """One line: where, and what."""
    place = f"{error.filename}, line {error.lineno}: " if isinstance(error, SyntaxError) else ""
    return f"{place}{type(error).__name__}: {error.msg if place else error}"


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
    for name in _tried():
        yield from _named({**lists, **trial.lists(name)}, [name], f"{name}.lists.")


def _tried() -> list[str]:
    """The profiles that a trial runs with lists of their own."""
    return [name for name in params.profiles() if params.read()[name].get("lists")]


def _named(lists: dict[str, list[str]], profiles: list[str], where: str) -> Iterator[str]:
    """The models, attacks, methods and benchmarks of lists, which stand at `where`."""
    if "original" in lists["methods"]:
        yield (f"params.yaml: {where}methods: 'original' is the model before alignment: choose "
               "another name")
    for name in lists["models"]:
        trained = ["original", *lists["methods"]]
        if name not in trained and not (params.ROOT / "models" / name).is_dir():
            yield (f"params.yaml: {where}models: {name!r} is neither a folder models/{name} nor "
                   f"one of {', '.join(trained)}: add it to methods, or the folder")
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
                yield f"mosa/alignment/objectives/{used}.py: {_reason(error)}"


def _fits(profile: str, lists: dict[str, list[str]]) -> Iterator[str]:
    """What one section or list needs of another, and a stage would miss hours later."""
    block = params.read()[profile]
    sampler, prefill, search, data = (block[k] for k in ("sampler", "prefill", "gcg", "data"))
    length, blocks = sampler["length"], sampler["length"] // sampler["block_length"]
    forced = {"affirmative": prefill["affirmative"], "procedural": prefill["positions"]}
    unforced = [f"{goal['phrase']}@{goal['position']}" for goal in search["goals"]
                if goal["position"] not in forced[goal["phrase"]]]
    untold = [name for name in block["order"]["tasks"] if name not in data["tasks"]]
    unfed = [name for name in lists["searches"] if name not in lists["profiles"]]
    behind = {f"{stage}.{key}": [slot for slot in block[stage][key] if slot >= length]
              for stage, key in (("prefill", "affirmative"), ("prefill", "positions"),
                                 ("steps", "positions"), ("steps", "pad_positions"))}
    for name in lists["methods"]:
        k_end = params.section(profile, f"methods.{name}", Method).k_end
        behind[f"methods.{name}.k_end"] = [k_end] * (k_end >= length)
    both = min(data["n_benchmark"], data["n_benign"])
    few = {"prefill": data["n_benchmark"], "steps": data["n_benchmark"],
           "baseline": both, "control": both, "likelihood": both}
    unordered = [order["order"] for order in block["control"]["orders"]
                 if "{phrase}" not in order["order"]]
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
        (length % sampler["block_length"],
         f"{profile}.sampler.block_length: must divide length, {length}"),
        (blocks and sampler["steps"] % blocks,
         f"{profile}.sampler.steps: must be a multiple of the {blocks} blocks"),
        (unordered, f"{profile}.control.orders: {unordered} must hold {{phrase}}"),
        (unforced, f"{profile}.gcg.goals: {unforced} must be forced in {profile}.prefill: the twin "
                   "has both"),
        (search["n"] > prefill["n"], f"{profile}.gcg.n: must not exceed {profile}.prefill.n"),
        (0 not in prefill["affirmative"], f"{profile}.prefill.affirmative: must hold 0"),
        (length not in block["order"]["block_lengths"],
         f"{profile}.order.block_lengths: must hold {profile}.sampler.length"),
        *((found, f"{profile}.{key}: {found} lies behind the response's last slot, {length - 1}")
          for key, found in behind.items()),
        *((block[stage]["n"] > n,
           f"{profile}.{stage}.n: must not exceed the {n} requests that {profile}.data draws")
          for stage, n in few.items()),
    ):
        if wrong:
            yield f"params.yaml: {line}"
    yield from _folders(profile, block)
    yield from _sets(profile, bool(lists["searches"]))


def _folders(profile: str, block: dict) -> Iterator[str]:
    """Models that are named by a folder are there, or are made by the profile's own stages."""
    named = [(f"{stage}.model", block[stage]["model"]) for stage in ("target", "twin")]
    for key, name in [*named, *(("order.also", f"models/{n}") for n in block["order"]["also"])]:
        if name.startswith("models/") and not (params.ROOT / name).is_dir():
            yield (f"params.yaml: {profile}.{key}: {name} is missing: run `git checkout models` (a "
                   "shipped one), or mend the name")


def _sets(profile: str, searched: bool) -> Iterator[str]:
    """Every set and family of requests exists; those of the world, with as many rows as asked."""
    data = params.section(profile, "data", SCHEMAS["data"])
    pairs = {name: params.section(profile, name, PROFILE[name])
             for name in ("align", *["search"] * searched)}
    if data.source == "files":  # not fetched here
        named = {key: [cfg.sealed, cfg.benign] for key, cfg in pairs.items()}
        for key, names in {"data": sets.roles(data), **named}.items():
            yield from (f"params.yaml: {profile}.{key}: no data set {name!r}"
                        f"{choice(name, DATASETS)}" for name in names if name not in DATASETS)
        known = sets.families(data)
        for key, cfg in pairs.items():
            yield from (f"params.yaml: {profile}.{key}.families: no family {name!r}"
                        f"{choice(name, known)}" for name in cfg.families if name not in known)
        return
    tries = {"data": lambda: (sets.behaviours(data), sets.questions(data)),
             **{key: partial(sets.pair_source, data, cfg) for key, cfg in pairs.items()}}
    for key, attempt in tries.items():
        try:
            attempt()
        except (ValueError, KeyError) as error:
            yield f"params.yaml: {profile}.{key}: {error}"


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
