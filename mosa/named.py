"""What a profile names is there: folders of models, words of the world, sets and families."""

import json
from collections.abc import Iterator
from functools import partial

from mosa.alignment.method import Align, Factorial, Search
from mosa.data import sets
from mosa.data.registry import DATASETS
from mosa.pipeline import params
from mosa.pipeline.params import choice
from mosa.pipeline.sections import SCHEMAS
from mosa.world.grammar import refusal
from mosa.world.lexicon import ADJECTIVES
from mosa.world.vocabulary import vocabulary

FILES = ("config.json", "tokenizer.json")  # of a model's folder, and weights
ADAPTER = ("adapter_config.json", "adapter_model.safetensors")


def named(profile: str, lists: dict[str, list[str]]) -> Iterator[str]:
    """What a profile names and is not there, or is of another kind, in a line each."""
    block = params.read()[profile]
    yield from _folders(profile, block, lists["models"])
    yield from _adapters(block, [name for name in lists["models"] if name not in lists["methods"]])
    yield from _words(profile, lists["methods"])
    yield from _refusals(profile, block)
    yield from _sets(profile, bool(lists["searches"]))


def _folders(profile: str, block: dict, models: list[str]) -> Iterator[str]:
    """Models that are named by a folder are there and whole, or are made by the profile's own
    stages; the twin alone looks back, and the target is not measured twice."""
    target, twin = block["target"]["model"], block["twin"]["model"]
    if "/" not in target:
        yield (f"params.yaml: {profile}.target.model: {target} is no folder of the project and no "
               f"name on the hub: write models/{target}")
    places = [("target.model", target), ("twin.model", twin if "/" in twin else f"models/{twin}"),
              *(("target.seeds", f"models/{name}") for name in block["target"]["seeds"]),
              *(("order.also", f"models/{name}") for name in block["order"]["also"]
                if "/" not in name)]  # those of the hub have one
    for key, place in places:
        if place.startswith("models/") and (fault := _fault(place, key == "twin.model")):
            yield f"params.yaml: {profile}.{key}: {place} {fault}"
    for name in models:
        place = f"models/{name}"
        if (params.ROOT / place).is_dir() and (fault := _fault(place, False)):
            yield f"params.yaml: models: {place} {fault}"
    first = target.removeprefix("models/")
    for key, names, called in ((f"{profile}.target.seeds", block["target"]["seeds"], ""),
                               ("models", models, ", as original")):
        if first in names:
            yield (f"params.yaml: {key}: {first} is target.model, and measured already{called}: "
                   "name others beside it")


def _adapters(block: dict, names: list[str]) -> Iterator[str]:
    """A shipped adapter that is measured has its two files for every base model and seed."""
    bases = [block["target"]["model"], *block["target"]["seeds"]][: block["align"]["bases"]]
    for name in names:
        folder = params.ROOT / "adapters" / name
        runs = [f"{base.rpartition('/')[2]}-{seed}" for base in bases
                for seed in block["align"]["seeds"]]
        lost = [run for run in runs if not all((folder / run / file).is_file() for file in ADAPTER)]
        if folder.is_dir() and lost:
            yield (f"params.yaml: models: adapters/{name} has no adapter {lost[0]}: add it, train "
                   f"{name} here (the list methods), or lower align.bases or align.seeds")


def _fault(place: str, twin: bool) -> str:
    """What is wrong with a model's folder, and the cure; "" if nothing. Loading it reads more."""
    folder = params.ROOT / place
    if not folder.is_dir():
        return "is missing: run `git checkout models` (a shipped one), or mend the name"
    missing = [name for name in FILES if not (folder / name).is_file()]
    missing += [] if any(folder.glob("*.safetensors")) else ["*.safetensors"]
    if missing:
        return f"lacks {', '.join(missing)}: copy the model's files there, or mend the name"
    try:
        looks_back = bool(json.loads((folder / "config.json").read_text("utf-8")).get("is_causal"))
    except ValueError:  # loading it says where
        return "has a config.json that is no JSON: copy the model's files there again"
    if looks_back and not twin:
        return "is autoregressive: name a diffusion model; the twin stands in twin.model"
    if twin and not looks_back:
        return "is no autoregressive model, such as models/embedded-ar"
    return ""


def _words(profile: str, methods: list[str]) -> Iterator[str]:
    """The world's models know its words alone."""
    block = params.read()[profile]
    if block["data"]["source"] != "world":
        return
    known = vocabulary()
    for key, texts in (
        ("control.orders", [order["order"] for order in block["control"]["orders"]]),
        ("gcg.search.suffix", [block["gcg"]["search"]["suffix"]]),
        *((f"gcg_choices.settings.{name}.suffix", [cfg["suffix"]])
          for name, cfg in block["gcg_choices"]["settings"].items()),
        ("steps.anchors", block["steps"]["anchors"]), ("steps.form", block["steps"]["form"]),
        *((f"{name}.safe", block[name]["safe"]) for name in ("align", "search", "factorial")),
        *((f"guards.{name}.reminder", [(guard.get("reminder") or "").replace("{request}", "")])
          for name, guard in block["guards"].items()),
        *((f"{name}.{key}", block[name][key]) for name in ("measure", "development")
          for key in ("headings", "form")),
        *((f"methods.{name}.safe", block["methods"][name].get("safe") or []) for name in methods),
    ):
        words = dict.fromkeys(word for text in texts for word in text.split())
        if strange := [word for word in words if word not in known and word != "{phrase}"]:
            yield f"params.yaml: {profile}.{key}: {strange} are no words of the policy world"


def _refusals(profile: str, block: dict) -> Iterator[str]:
    """The longest refusal of the twin is one that the world writes."""
    longest, possible = max(block["twin"]["lengths"]), set()
    for _, text in refusal(ADJECTIVES[0]):
        sums = {0}
        for segment in text:
            sums = {size + len(words.split()) for size in sums for _, words in segment}
        possible |= sums
    if block["data"]["source"] == "world" and longest not in possible:
        yield (f"params.yaml: {profile}.twin.lengths: no refusal has {longest} words, as the "
               f"longest; choose one of {', '.join(map(str, sorted(possible)))}")


def _sets(profile: str, searched: bool) -> Iterator[str]:
    """Every set and family of requests exists; those of the world, with as many rows as asked."""
    data = params.section(profile, "data", SCHEMAS["data"])
    pairs = {name: params.section(profile, name, schema)
             for name, schema in (("align", Align), *[
                 ("search", Search), ("factorial", Factorial)] * searched)}
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
