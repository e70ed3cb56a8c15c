"""What one section of a profile needs of another, and a stage would miss hours later."""

from collections.abc import Iterator
from math import gcd
from string import Formatter

from mosa.alignment.method import Factorial, Method
from mosa.attacks.battery import BENIGN, HARMLESS
from mosa.data import sets
from mosa.named import named
from mosa.pipeline import params
from mosa.pipeline.sections import SCHEMAS
from mosa.threats import threats
from mosa.utility.factors import cells, fit


def fits(profile: str, lists: dict[str, list[str]]) -> Iterator[str]:
    """What is wrong with one profile run with these lists, in a line each."""
    block = params.read()[profile]
    search, data = block["gcg"], block["data"]
    untold = [name for name in block["order"]["tasks"] if name not in data["tasks"]]
    unfed = [name for name in lists["searches"] if name not in lists["profiles"]]
    both = min(data["n_benchmark"], data["n_benign"])
    few = {("prefill", "n"): data["n_benchmark"], ("steps", "n"): data["n_benchmark"],
           ("baseline", "n_wrapped"): both} | {(stage, "n"): both for stage in (
               "baseline", "decoding", "control", "likelihood", "order", "measure")}
    if lists["benchmarks"]:
        few["tasks", "n"] = data["n_tasks"]
    if profile in lists["searches"]:
        few["development", "n"] = data["n_validation"]
    trainings = ["align", *["search", "factorial"] * (profile in lists["searches"])]
    measured = [*data["benchmarks"], *data["validation"]] if data["source"] == "world" else []
    unordered = [order["order"] for order in block["control"]["orders"]
                 if _fields(order["order"]) != {"phrase"}]
    known = {block["target"]["model"].removeprefix("models/"), *block["target"]["seeds"],
             *lists["models"]}
    again = [name for name in block["order"]["also"] if name in known]
    for wrong, line in (
        ("original" not in lists["models"] or len(lists["models"]) < 2,
         "models: must hold original and one more, which is compared with it"),
        (not (lists["methods"] or aligned(profile)),
         "methods: must hold one, of which Figures 6 and 7 are drawn"),
        (unfed, f"searches: {unfed} must be in profiles too: a search needs their data"),
        (lost := [name for name in block["models"]["analysed"] if name not in lists["models"]],
         f"{profile}.models.analysed: {lost} must be in the list models"),
        (twice := [name for name in block["guards"] if name in (*lists["methods"], "original")],
         f"{profile}.guards: {twice} are models already: rename them"),
        (guarded := [name for name in block["models"]["analysed"] if name in block["guards"]],
         f"{profile}.models.analysed: {guarded} are guards: the asymmetry looks at models alone, "
         "measure at guards too"),
        (idle := [name for name, guard in block["guards"].items() if not any(guard.values())],
         f"{profile}.guards: {idle} change nothing: give them a reminder or a remasking"),
        (block["models"]["seed"] not in block["align"]["seeds"],
         f"{profile}.models.seed: must be one of {profile}.align.seeds"),
        (block["judge"]["name"] == "world" and data["source"] != "world",
         f"{profile}.judge.name: world judges the policy world alone; use keywords"),
        (untold, f"{profile}.order.tasks: {untold} must be in {profile}.data.tasks"),
        (again, f"{profile}.order.also: {again} are measured already: name other families' models"),
        (unordered, f"{profile}.control.orders: {unordered} must hold {{phrase}}, and no other "
                    "braces"),
        (block["prefill"]["longer"]["length"] == block["sampler"]["length"],
         f"{profile}.prefill.longer.length: must differ from sampler.length, that of positions"),
        (block["target"]["gates"] and not block["target"]["gate_tasks"],
         f"{profile}.target.gate_tasks: must be at least 1 where gates are measured"),
        (block["likelihood"]["n"] < 2,
         f"{profile}.likelihood.n: must be at least 2: a slot is chosen on the other requests"),
        *((block[key]["sealed"] in measured,
           f"{profile}.{key}.sealed: {block[key]['sealed']} is measured too, in {profile}.data: "
           "train on another") for key in trainings),
        (data["n_borderline"] and block["baseline"]["n"] > data["n_borderline"],
         f"{profile}.data.n_borderline: must be at least {profile}.baseline.n"),
        (search["n"] > block["prefill"]["n"],
         f"{profile}.gcg.n: must not exceed {profile}.prefill.n"),
        *((block[key]["bases"] > 1 + len(block["target"]["seeds"]),
           f"{profile}.{key}.bases: must not exceed target.model and the "
           f"{len(block['target']['seeds'])} of target.seeds")
          for key in trainings if "bases" in block[key]),
        (sorted(map(len, block["factorial"]["deciding"].values()), reverse=True)
         != [2, 2, *[1] * (len(block["factorial"]["deciding"]) - 2)],
         f"{profile}.factorial.deciding: must hold two levels of two factors, and one of the "
         "others"),
        *((block[stage][key] > block[stage]["n"], f"{profile}.{stage}.{key}: must not exceed its n")
          for stage, key in (("gcg", "n_others"), ("gcg", "n_aligned"), ("steps", "n_aligned"),
                             ("order", "compared"))),
        (profile in lists["searches"] and block["gcg_choices"]["n"] > search["n"],
         f"{profile}.gcg_choices.n: must not exceed {profile}.gcg.n"),
        *((block[stage][key] > n,
           f"{profile}.{stage}.{key}: must not exceed the {n} rows that {profile}.data draws")
          for (stage, key), n in few.items()),
    ):
        if wrong:
            yield f"params.yaml: {line}"
    yield from (f"params.yaml: {profile}.{line}" for line in
                (*_decodings(profile, lists["methods"]), *_compared(profile), *_groups(block),
                 *(_factorial(profile) if profile in lists["searches"] else ()),
                 *_orders(block["control"], block["sampler"]["length"])))
    yield from threats(profile, lists)
    yield from named(profile, lists)


def aligned(profile: str) -> bool:
    """Is there a place for what alignment leaves? A trial of single stages makes it, empty."""
    return (params.ROOT / "results" / profile / "align").is_dir()


def _groups(block: dict) -> Iterator[str]:
    """Groups of forced phrases are none of other requests, and `middle`, of which notebooks show a
    text, is among those of the searches."""
    taken = {"plain", "seen wraps", "unseen wraps", "PAD", "anchoring", "DIJA", *BENIGN, HARMLESS}
    for name in ("measure", "development"):
        if others := sorted(taken & block[name]["forced"].keys()):
            yield f"{name}.forced: {others} are groups of other requests: rename them"
    if "middle" not in block["development"]["forced"]:
        yield "development.forced: must hold the group 'middle', of which texts are shown"


def _factorial(profile: str) -> Iterator[str]:
    """The cells that are run tell all effects apart."""
    cfg = params.section(profile, "factorial", Factorial)
    factors = {name: list(levels) for name, levels in cfg.factors.items()}
    if thin := [name for name, levels in factors.items() if len(levels) < 2]:
        yield f"factorial.factors: {thin} need two levels or more, to compare"
    elif "suppression" not in factors:
        yield "factorial.factors: must hold 'suppression', within whose levels others are compared"
    else:
        rows = [cell | {"base": i, "run": f"{i}-{cell}", "noun": noun, "value": 0.0}
                for i in range(cfg.bases) for cell in cells(factors, cfg.odd, i % 2)
                for noun in range(2)]
        try:
            fit(rows, "value", factors, ["run", "noun"], "base")
        except ValueError as error:
            yield f"factorial: {error}: raise its bases, or mend odd"


def _fields(text: str) -> set[str]:
    """The names in braces; "" for braces that are no names."""
    try:
        return {name for _, name, _, _ in Formatter().parse(text) if name is not None}
    except ValueError:
        return {""}


def _orders(control: dict, length: int) -> Iterator[str]:
    """An order to a place is compared with orders of the same phrase to other places or to none."""
    slack, orders = control["slack"], control["orders"]
    late = [order for order in orders if (order["word"] or 0) > slack]
    if behind := [order["word"] for order in orders if (order["word"] or 0) >= length]:
        yield f"control.orders: words {behind} lie behind a response of {length} slots"
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
    batteries = {name: block[name] for name in ("measure", "development")}
    anchored = {f"{name}.anchored": [battery["anchored"]] for name, battery in batteries.items()}
    for key, some in (*((f"steps.{key}", steps[key]) for key in ("steps", "anchored")),
                      *anchored.items()):
        if late := [step for step in some if step >= sampler["steps"]]:
            yield f"{key}: {late} must be less than sampler.steps, {sampler['steps']}"
    free = length - last * (length // sampler["steps"]) - min(last, length % sampler["steps"])
    if 0 < free <= steps["width"]:
        yield (f"steps.steps: at step {last} {free} slots are free, no more than steps.width: end "
               "earlier")
    # PAD's first heading stands at slot 1, the others evenly from a position on
    head, *others = (len(anchor.split()) for anchor in steps["anchors"])
    ends = {place: place + (len(others) - 1) * ((length - place) // len(others)) + others[-1]
            for place in steps["pad_positions"]}
    if unfit_pads := [place for place, end in ends.items() if place < 1 + head or end > length]:
        yield (f"steps.pad_positions: {unfit_pads}: the first heading fills slots 1 to {head}, and "
               f"the last must end within {length}")
    # in words, which are tokens in the world and fewer than tokens elsewhere
    phrases = sets.phrases(params.section(profile, "data", SCHEMAS["data"]))
    phrase = max(len(text.split()) for some in phrases.values() for text in some)
    forced = {name: [one for some in battery["forced"].values() for one in some]
              for name, battery in batteries.items()}
    for name, some in forced.items():
        if unknown := [kind for kind, _ in some if kind not in phrases]:
            yield (f"{name}.forced: no phrase set {unknown[0]!r}"
                   f"{params.choice(unknown[0], phrases)}")
    ends = {f"methods.{name}.k_end": params.section(profile, f"methods.{name}", Method).k_end
            for name in methods}
    for key, places, slots, size in (
        ("prefill.positions", prefill["positions"], phrase, length),
        ("prefill.longer.positions", longer["positions"], phrase, longer["length"]),
        ("decoding.position", [block["decoding"]["position"]], phrase, length),
        ("steps.positions", steps["positions"], steps["width"], length),
        *((f"{name}.forced", [place for _, place in some], phrase, length)
          for name, some in forced.items()),
        *((f"{name}.second", [battery["second"]],
           max(len(heading.split()) for heading in battery["headings"]), length)
          for name, battery in batteries.items()),
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
