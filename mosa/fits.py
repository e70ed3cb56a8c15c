"""What one section of a profile needs of another, and a stage would miss hours later."""

import json
from collections.abc import Iterator
from functools import partial
from math import gcd
from pathlib import Path
from string import Formatter

from mosa.alignment.method import Align, Method, Search
from mosa.data import sets
from mosa.data.registry import DATASETS
from mosa.pipeline import params
from mosa.pipeline.params import choice
from mosa.pipeline.sections import SCHEMAS
from mosa.world.grammar import refusal
from mosa.world.lexicon import ADJECTIVES
from mosa.world.vocabulary import vocabulary


def fits(profile: str, lists: dict[str, list[str]]) -> Iterator[str]:
    """What is wrong with one profile run with these lists, in a line each."""
    block = params.read()[profile]
    search, data = block["gcg"], block["data"]
    untold = [name for name in block["order"]["tasks"] if name not in data["tasks"]]
    unfed = [name for name in lists["searches"] if name not in lists["profiles"]]
    both = min(data["n_benchmark"], data["n_benign"])
    few = {"prefill.n": data["n_benchmark"], "steps.n": data["n_benchmark"],
           **dict.fromkeys(("baseline.n", "decoding.n", "control.n", "likelihood.n", "order.n"),
                           both)}
    if lists["benchmarks"]:
        few["tasks.n"] = data["n_tasks"]
    unordered = [order["order"] for order in block["control"]["orders"]
                 if _fields(order["order"]) != {"phrase"}]
    known = {block["target"]["model"].removeprefix("models/"), *block["target"]["seeds"],
             *lists["models"]}
    again = [name for name in block["order"]["also"] if name in known]
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
        (again, f"{profile}.order.also: {again} are measured already: name other families' models"),
        (unordered, f"{profile}.control.orders: {unordered} must hold {{phrase}}, and no other "
                    "braces"),
        (block["prefill"]["longer"]["length"] == block["sampler"]["length"],
         f"{profile}.prefill.longer.length: must differ from sampler.length, which "
         "prefill.positions are measured in"),
        (block["target"]["gates"] and not block["target"]["gate_tasks"],
         f"{profile}.target.gate_tasks: must be at least 1 where gates are measured"),
        (block["likelihood"]["n"] < 2,
         f"{profile}.likelihood.n: must be at least 2: a slot is chosen on the other requests"),
        (data["source"] == "world" and block["align"]["sealed"] in data["benchmarks"],
         f"{profile}.align.sealed: {block['align']['sealed']} is measured too, in "
         f"{profile}.data.benchmarks: train on another"),
        (search["n"] > block["prefill"]["n"],
         f"{profile}.gcg.n: must not exceed {profile}.prefill.n"),
        (block["measure"]["n"] > max(block["prefill"]["n"], *block["baseline"].values()),
         f"{profile}.measure.n: must not exceed the n of baseline and prefill, whose requests it "
         "takes"),
        (search["n_others"] > search["n"], f"{profile}.gcg.n_others: must not exceed its n"),
        (block["steps"]["n_aligned"] > block["steps"]["n"],
         f"{profile}.steps.n_aligned: must not exceed its n"),
        (block["order"]["compared"] > block["order"]["n"],
         f"{profile}.order.compared: must not exceed its n"),
        (profile in lists["searches"] and block["gcg_choices"]["n"] > search["n"],
         f"{profile}.gcg_choices.n: must not exceed {profile}.gcg.n"),
        *((block[key.split(".")[0]][key.split(".")[1]] > n,
           f"{profile}.{key}: must not exceed the {n} rows that {profile}.data draws")
          for key, n in few.items()),
    ):
        if wrong:
            yield f"params.yaml: {line}"
    yield from (f"params.yaml: {profile}.{line}" for line in
                (*_decodings(profile, lists["methods"]), *_compared(profile),
                 *_orders(block["control"])))
    yield from _folders(profile, block, lists["models"])
    yield from _words(profile, lists["methods"])
    yield from _refusals(profile, block)
    yield from _sets(profile, bool(lists["searches"]))


def _fields(text: str) -> set[str]:
    """The names in braces; "" for braces that are no names."""
    try:
        return {name for _, name, _, _ in Formatter().parse(text) if name is not None}
    except ValueError:
        return {""}


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
        ("align.safe", block["align"]["safe"]), ("search.safe", block["search"]["safe"]),
        *((f"methods.{name}.safe", block["methods"][name].get("safe") or []) for name in methods),
    ):
        words = dict.fromkeys(word for text in texts for word in text.split())
        if strange := [word for word in words if word not in known and word != "{phrase}"]:
            yield f"params.yaml: {profile}.{key}: {strange} are no words of the policy world"


def _orders(control: dict) -> Iterator[str]:
    """An order to a place is compared with orders of the same phrase to other places or to none."""
    slack, orders = control["slack"], control["orders"]
    late = [order for order in orders if (order["word"] or 0) > slack]
    if not late:
        yield f"control.orders: no word lies behind slack, {slack}: order a phrase to a later place"
    for order in late:
        others = [other for other in orders if other is not order and other["word"] != 0
                  and other["phrase"] == order["phrase"]]
        near = [other["word"] for other in others
                if other["word"] and abs(other["word"] - order["word"]) <= 2 * slack]
        if near:
            yield (f"control.orders: words {near} and {order['word']} lie within twice slack: a "
                   "phrase could stand at both places at once")
        if not others:
            yield (f"control.orders: {order['order']!r} has nothing to be compared with: add the "
                   "same phrase at another later word, or with word: null")


def _decodings(profile: str, methods: list[str]) -> Iterator[str]:
    """Every place and every schedule fits into a response; lines without the profile."""
    block = params.read()[profile]
    sampler, prefill, order, steps = (block[k] for k in ("sampler", "prefill", "order", "steps"))
    length, longer, last = sampler["length"], prefill["longer"], max(steps["steps"])

    def unfit(steps: int, slots: int) -> bool:
        return bool(length % slots or steps % (length // slots))

    blocks = length // sampler["block_length"]
    settings = [pair for pair in block["decoding"]["settings"] if unfit(*pair)]
    chosen = [sampler["steps"], sampler["block_length"]]
    lengths = [slots for slots in order["block_lengths"] if unfit(order["steps"], slots)]
    for wrong, line in (
        (length % sampler["block_length"], f"sampler.block_length: must divide length, {length}"),
        (blocks and sampler["steps"] % blocks,
         f"sampler.steps: must be a multiple of the {blocks} blocks"),
        (settings, f"decoding.settings: {settings}: blocks must divide sampler.length, {length}, "
                   "and their number the steps"),
        (chosen not in block["decoding"]["settings"],
         f"decoding.settings: must hold {chosen}, the sampler's own, which the others are compared "
         "with"),
        (lengths, f"order.block_lengths: {lengths} must divide sampler.length, {length}, into "
                  f"blocks whose number divides order.steps, {order['steps']}"),
        (length not in order["block_lengths"], "order.block_lengths: must hold sampler.length"),
        (sampler["steps"] * longer["length"] % length,
         f"prefill.longer.length: must be a multiple of {length // gcd(length, sampler['steps'])}, "
         "for as many tokens a step as in every other response"),
    ):
        if wrong:
            yield line
    for key in ("steps", "anchored"):
        if late := [step for step in steps[key] if step >= sampler["steps"]]:
            yield f"steps.{key}: {late} must be less than sampler.steps, {sampler['steps']}"
    free = length - last * (length // sampler["steps"]) - min(last, length % sampler["steps"])
    if 0 < free <= steps["width"]:
        yield (f"steps.steps: at step {last} {free} slots are free, no more than steps.width: end "
               "earlier")
    # in words, which are tokens in the world and fewer than tokens elsewhere
    phrases = sets.phrases(params.section(profile, "data", SCHEMAS["data"])).values()
    phrase = max(len(text.split()) for some in phrases for text in some)
    ends = {f"methods.{name}.k_end": params.section(profile, f"methods.{name}", Method).k_end
            for name in methods}
    for key, places, slots, size in (
        ("prefill.positions", prefill["positions"], phrase, length),
        ("prefill.longer.positions", longer["positions"], phrase, longer["length"]),
        ("decoding.position", [block["decoding"]["position"]], phrase, length),
        ("steps.positions", steps["positions"], steps["width"], length),
        ("steps.pad_positions", steps["pad_positions"], 1, length),
        *((key, [end], 1, length) for key, end in ends.items()),
    ):
        if behind := [place for place in places if place + slots > size]:
            yield f"{key}: {behind} must not exceed {size - slots}, to fit into {size} slots"


def _compared(profile: str) -> Iterator[str]:
    """The places that notebooks compare are measured; lines without the profile."""
    block, window = params.read()[profile], Method()  # the paper's
    forced, goals, length = (block["prefill"]["positions"], block["gcg"]["goals"],
                             block["sampler"]["length"])
    places = [goal["position"] for goal in goals]
    unforced = [f"{g['phrase']}@{g['position']}" for g in goals if g["position"] not in forced]
    placebo = block["prefill"]["placebo"]
    alone = [place for place in placebo if place not in forced]
    first, *planted = block["steps"]["positions"]
    for wrong, line in (
        (unforced, f"gcg.goals: {unforced} must be forced in prefill.positions: the twin has both"),
        (places[0] > 0 or max(places) == 0,
         "gcg.goals: the first must be at slot 0, and one further on is compared with it"),
        (0 not in forced or not any(window.k_start <= p <= window.k_end for p in forced),
         f"prefill.positions: must hold 0 and one of {window.k_start} to {window.k_end}, MOSA's "
         "window, which is compared with it"),
        (first > 0 or not any(window.k_start <= p <= window.k_end for p in planted),
         f"steps.positions: must begin with 0 and hold one of {window.k_start} to {window.k_end}, "
         "MOSA's window, which is compared with it"),
        (min(block["steps"]["steps"]) > 0,
         "steps.steps: must hold 0, where nothing is written yet and all places have equal room"),
        (alone, f"prefill.placebo: {alone} must be in prefill.positions, where the phrases are"),
        (0 not in placebo or not any(window.k_start <= p <= window.k_end for p in placebo),
         f"prefill.placebo: must hold 0 and one of {window.k_start} to {window.k_end}, the places "
         "at which each phrase is compared with a neutral one"),
        (not max(places) < max(block["twin"]["lengths"]) <= length,
         f"twin.lengths: the greatest must exceed {max(places)}, the last of gcg.goals, for a "
         f"phrase there to be read, and fit into {length} slots"),
    ):
        if wrong:
            yield line


def _folders(profile: str, block: dict, models: list[str]) -> Iterator[str]:
    """Models that are named by a folder are there, or are made by the profile's own stages; the
    twin alone looks back, and no model is measured twice."""
    twin = block["twin"]["model"]
    named = [("target.model", block["target"]["model"]),
             ("twin.model", twin if "/" in twin else f"models/{twin}")]
    named += [("target.seeds", f"models/{name}") for name in block["target"]["seeds"]]
    named += [("order.also", f"models/{name}") for name in block["order"]["also"]
              if "/" not in name]  # those of the hub have one
    listed = [("models", f"models/{name}") for name in models
              if (params.ROOT / "models" / name).is_dir()]
    for key, name in [*named, *listed]:
        where = f"params.yaml: {key}" if key == "models" else f"params.yaml: {profile}.{key}"
        if "/" not in name:
            yield (f"{where}: {name} is no folder of the project and no name on the hub: write "
                   f"models/{name}")
        elif name.startswith("models/"):
            if not (params.ROOT / name).is_dir():
                yield (f"{where}: {name} is missing: run `git checkout models` (a shipped one), or "
                       "mend the name")
            elif _looks_back(params.ROOT / name) == (key != "twin.model"):
                yield (f"{where}: {name} is "
                       + ("no autoregressive model, such as models/embedded-ar"
                          if key == "twin.model" else
                          "autoregressive: name a diffusion model; the twin stands in twin.model"))
    first = block["target"]["model"].removeprefix("models/")
    if first in block["target"]["seeds"]:
        yield (f"params.yaml: {profile}.target.seeds: {first} is target.model already: name others "
               "beside it")


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


def _looks_back(folder: Path) -> bool | None:
    """Whether a model is autoregressive; None where its files do not say: loading them will."""
    try:
        return bool(json.loads((folder / "config.json").read_text("utf-8")).get("is_causal"))
    except (OSError, ValueError):
        return None


def _sets(profile: str, searched: bool) -> Iterator[str]:
    """Every set and family of requests exists; those of the world, with as many rows as asked."""
    data = params.section(profile, "data", SCHEMAS["data"])
    pairs = {name: params.section(profile, name, schema)
             for name, schema in (("align", Align), *[("search", Search)] * searched)}
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
