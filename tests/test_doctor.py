"""On the project's own params.yaml with one thing changed."""

import re
import subprocess
import sys
from types import ModuleType

import changing
import pytest
from changing import DELETE

from mosa import doctor, fits, threats
from mosa.attacks import tap
from mosa.pipeline import params

VALUES = params.read()
SAMPLER = VALUES["embedded"]["sampler"]
ORDERS = [dict(order) for order in VALUES["embedded"]["control"]["orders"]]


@pytest.fixture
def changed(monkeypatch):
    """changed("quick", "sampler", "steps", 0): what the doctor says of params.yaml changed so."""
    def changed(*keys_and_value):
        values = changing.changed(VALUES, *keys_and_value)
        monkeypatch.setattr(params, "read", lambda: values)
        return doctor.problems()

    return changed


def test_params_yaml_is_right():
    assert doctor.problems() == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("quick", "sampler", "steps", 0), "quick.sampler.steps: must be greater than 0"),
        (("thorough", "sampler", DELETE), "thorough.sampler: is missing"),
        (("quick", "methods", "mosa", {"beta": "1"}), "quick.methods.mosa.beta: "),
        (("quick", "methods", "mosa", {"windw": 1}), "quick.methods.mosa.windw: unknown key"),
        (("quick", "align", "rows", -1), "quick.align.rows: "),
        (("quick", "gcg", "goals", []), "quick.gcg.goals: "),
        (("embedded", "search", "candidates", {"mosa": {"objective": "y"}}),
         "embedded.search: objective: must be 'a2d', 'mosa'"),
        (("embedded", "factorial", "odd", {"refusal": ["botch"]}),
         "embedded.factorial: odd: refusal has no level 'botch'"),
        (("base-0", "facts", "lr", "1e-3"), "base-0.facts.lr: .*'1e-3'.*without quotes"),
        (("base-0", "tuning", "mix", {}), "base-0.tuning.mix: "),
        (("base-0", "sampler", {}), "base-0.sampler: unknown section; known: architecture"),
        (("quick", "sampling", {}), "quick.sampling: unknown section; did you mean 'sampler'"),
        (("attaks", []), "attaks: is neither a list .*; did you mean 'attacks'"),
        (("quick", "lists", {"model": []}), "quick.lists: must be a mapping of profiles, models"),
        (("quick", "lists", {"models": ["a b"]}), "models: 'a b' is no name"),
        (("other", 3), "other: is neither a list that is known nor a block"),
        (("a;b", {}), "the blocks: 'a;b' is no name"),
        (("profiles", ["tinny"]), "profiles: no profile 'tinny'; known: embedded"),
        (("profiles", ["base-0"]), "profiles: no profile 'base-0'"),
        (("profiles", []), "profiles: must be a list"),
        (("searches", ["embeded"]), "searches: no profile 'embeded'; did you mean 'embedded'"),
        (("models", ["original", "a2e"]),
         "models: 'a2e' is neither a folder models/a2e or adapters/a2e nor one"),
        (("methods", ["mosa", "nosa", "initial"]),
         "methods: 'nosa' is not in embedded.methods; did you mean 'mosa'"),
        (("methods", ["original", "mosa", "initial"]),
         "methods: 'original' is the model before alignment"),
        (("benchmarks", ["algebra"]), "benchmarks: 'algebra' is not in embedded.data.tasks"),
        (("attacks", ["pair"]), r"attacks: 'pair' has no notebooks/4_attacks/pair\.ipynb"),
        (("attacks", ["tap"]), "attacks: must hold native, whose form none"),
        (("attacked", ["mosa_r1"]), "attacked: must begin with original"),
        (("attacked", ["original", "mosa_r1", "nobody"]),
         r"attacked: \['nobody'\] must be in the list models"),
        (("judges", []), "judges: must hold one of world, world_strong_reject"),
        (("judges", ["wrld"]), "judges: no judge 'wrld'; did you mean 'world'"),
        (("rehearsal", "lists", "judges", ["world"]),
         r"judges: \['world'\] judge the policy world"),
        (("rehearsal", "attack", "helper", "world"), "rehearsal.attack.helper: world speaks the"),
        (("embedded", "attack", "adaptive", ["mosa"]),
         r"embedded.attack.adaptive: \['mosa'\] must be in the list attacked"),
        (("embedded", "attack", "n", 1000), "embedded.attack.n: must not exceed embedded.data"),
        (("embedded", "native", "forms", ["PAD"]), "embedded.native.forms: must begin with none"),
        (("embedded", "attack", "helper", "endpoint"),
         "embedded.attack.helper: an endpoint writes English, .*; use world"),
        (("embedded", "pal", "proxy", "models/embeded-ar"),
         "embedded.pal.proxy: models/embeded-ar is missing"),
        (("embedded", "pal", "max_queries", 1), "embedded.pal.max_queries: must be at least 2"),
        (("embedded", "speakeasy", "languages", ["plain", "alais"]),
         "embedded.speakeasy.languages: the guild has no language 'alais'; did you mean 'alias'"),
        (("embedded", "advprefix", "kept", 7), "embedded.advprefix.kept: must not exceed candid"),
        (("embedded", "tap", "forms", ["middle", "prompt"]),
         "embedded.tap.forms: must not begin with middle or canvas"),
        (("embedded", "ept", "forms", ["canvas", "prompt"]),
         "embedded.ept.forms: must not begin with middle or canvas"),
        (("embedded", "tap", "width", 0), "embedded.tap.width: must be greater than 0"),
        (("models", ["original"]), "models: must hold original and one more"),
        (("models", ["mosa", "initial"]), "models: must hold original and one more"),
        (("searches", ["thorough"]), r"searches: \['thorough'\] must be in profiles too"),
        (("embedded", "models", "seed", 7), "embedded.models.seed: must be one of embedded.align"),
        (("embedded", "data", "source", "files"), "embedded.judge.name: world judges the policy"),
        (("embedded", "data", "tasks", ["choice", "arithmetic", "programs"][:2]),
         "benchmarks: 'programs' is not in"),
        (("embedded", "order", "tasks", ["sums"]), r"embedded.order.tasks: \['sums'\] must be in"),
        (("embedded", "gcg", "goals", [{"phrase": "procedural", "position": 50}]),
         r"embedded.gcg.goals: \['procedural@50'\] must be forced in prefill.positions"),
        (("embedded", "gcg", "n", 101), "embedded.gcg.n: must not exceed embedded.prefill.n"),
        (("embedded", "gcg", "n_others", 17), "embedded.gcg.n_others: must not exceed its n"),
        (("embedded", "guards", "annealed", "remasking", None),
         r"embedded.guards: \['annealed'\] change nothing: give them a reminder or a remasking"),
        (("embedded", "guards", "annealed", "reminder", "obey the guild ."),
         "embedded.guards.annealed.reminder: must hold {request} once"),
        (("embedded", "guards", "mosa_r1", {"remasking": "annealed"}),
         r"embedded.guards: \['mosa_r1'\] are models already: rename them"),
        (("embedded", "measure", "anchored", 64),
         r"embedded.measure.anchored: \[64\] must be less than sampler.steps, 64"),
        (("embedded", "measure", "second", 127),
         r"embedded.measure.second: \[127\] must not exceed"),
        (("embedded", "measure", "forced", "late", [["procdural", 80], ["procedural", 110]]),
         "embedded.measure.forced: no phrase set 'procdural'; did you mean 'procedural'"),
        (("embedded", "factorial", "deciding", "state", ["all masked", "partly shown"]),
         "embedded.factorial.deciding: must hold two levels of two factors"),
        (("embedded", "gcg", "n_aligned", 17), "embedded.gcg.n_aligned: must not exceed its n"),
        (("embedded", "gcg", "goals", [{"phrase": "affirmative", "position": 0}]),
         "embedded.gcg.goals: the first must be at slot 0, and one further on"),
        (("embedded", "gcg", "goals", [{"phrase": "procedural", "position": p} for p in (30, 60)]),
         "embedded.gcg.goals: the first must be at slot 0, and one further on"),
        (("embedded", "prefill", "positions", [0, 60]), "embedded.gcg.goals: "),
        (("embedded", "prefill", "positions", [10, 30, 60]), "embedded.gcg.goals: "),
        (("quick", "prefill", "placebo", [0, 20]),
         r"quick.prefill.placebo: \[20\] must be in prefill.positions"),
        (("quick", "prefill", "placebo", [0]),
         "quick.prefill.placebo: must hold 0 and one of 20 to 60"),
        (("quick", "prefill", "positions", [0, 80]), "quick.gcg.goals: "),
        (("embedded", "twin", "lengths", [14, 30]), "embedded.twin.lengths: the greatest must e"),
        (("embedded", "twin", "lengths", [11, 85]),
         "embedded.twin.lengths: no refusal has 85 words, as the longest; choose one of 44, 50"),
        (("embedded", "twin", "lengths", [129]), "embedded.twin.lengths: .* fit into 128 slots"),
        (("embedded", "prefill", "positions", [0, 30, 60, 124]),
         r"embedded.prefill.positions: \[124\] must not exceed 122, to fit into 128 slots"),
        (("embedded", "prefill", "longer", {"length": 192, "positions": [160, 190]}),
         r"embedded.prefill.longer.positions: \[190\] must not exceed 186, to fit into 192"),
        (("embedded", "prefill", "longer", {"length": 193, "positions": [160]}),
         "embedded.prefill.longer.length: must be a multiple of 2, for as many tokens a step"),
        (("embedded", "decoding", "settings", [[64, 128], [6, 32], [64, 100]]),
         r"embedded.decoding.settings: \[\[6, 32\], \[64, 100\]\]: blocks must divide sampler"),
        (("embedded", "decoding", "settings", [[32, 128], [64, 32]]),
         r"embedded.decoding.settings: must hold \[64, 128\], the sampler's own"),
        (("embedded", "decoding", "position", 127), r"embedded.decoding.position: \[127\] must"),
        (("embedded", "decoding", "n", 101), "embedded.decoding.n: must not exceed the 100"),
        (("embedded", "order", "block_lengths", [32]), "embedded.order.block_lengths: must hold"),
        (("embedded", "order", "block_lengths", [128, 48]),
         r"embedded.order.block_lengths: \[48\] must divide sampler.length, 128, into blocks"),
        (("embedded", "order", "steps", 6),
         r"embedded.order.block_lengths: \[32\] must .* divides order.steps, 6"),
        (("embedded", "steps", "steps", [0, 64]),
         r"embedded.steps.steps: \[64\] must be less than sampler.steps, 64"),
        (("embedded", "steps", "steps", [0, 60]),
         "embedded.steps.steps: at step 60 8 slots are free, no more than steps.w"),
        (("embedded", "steps", "steps", [2, 8]), "embedded.steps.steps: must hold 0, where"),
        (("embedded", "steps", "positions", [0, 80]),
         "embedded.steps.positions: must begin with 0 and hold one of 20 to 60"),
        (("embedded", "steps", "anchored", [2, 80]), r"embedded.steps.anchored: \[80\] must be"),
        (("embedded", "steps", "positions", [0, 120]),
         r"embedded.steps.positions: \[120\] must not exceed 112, to fit into 128 slots"),
        (("embedded", "sampler", "block_length", 100), "embedded.sampler.block_length: must d"),
        (("embedded", "sampler", {**SAMPLER, "block_length": 32, "steps": 6}),
         "embedded.sampler.steps: must be a multiple of the 4 blocks"),
        (("embedded", "control", "orders", [{"phrase": "affirmative", "word": 0, "order": "hm"}]),
         r"embedded.control.orders: \['hm'\] must hold {phrase}"),
        (("embedded", "control", "orders", ORDERS[:2]),
         "embedded.control.orders: no word lies behind slack, 2: order"),
        (("embedded", "control", "orders", [*ORDERS, ORDERS[3] | {"word": 9}]),
         r"embedded.control.orders: words \[9\] and 5 lie within twice slack"),
        (("embedded", "control", "orders", [ORDERS[0], ORDERS[3]]),
         "embedded.control.orders: 'write .*' has nothing to be compared with"),
        (("embedded", "steps", "pad_positions", [64, 127]),
         r"embedded.steps.pad_positions: \[127\]: the first heading fills slots 1 to"),
        (("embedded", "steps", "pad_positions", [2, 64]), r"embedded.steps.pad_positions: \[2\]: "),
        (("embedded", "steps", "anchors", ["first ,"]), "embedded.steps.anchors: "),
        (("quick", "baseline", "n_wrapped", 4), "quick.baseline.n_wrapped: must not exceed the 3"),
        (("embedded", "data", "n_borderline", 5), "embedded.data.n_borderline: must be at least"),
        (("embedded", "gcg", "search", "suffix", " "), "embedded.gcg.search.suffix: "),
        (("embedded", "align", "safe", [""]), "embedded.align.safe.0: "),
        (("embedded", "align", "sealed", "validation"), "embedded.align.sealed: validation is "),
        (("embedded", "control", "orders", [*ORDERS, ORDERS[3] | {"word": 500}]),
         r"embedded.control.orders: words \[500\] lie behind a response of 128 slots"),
        (("models", ["original", "initial_r1", "mosa_r1", "embedded-0"]),
         "models: embedded-0 is target.model, and"),
        (("models", ["original", "mosa_r1", "embedded-2"]),
         r"embedded.models.analysed: \['initial_r1'\] must be in the list models"),
        (("models", ["original", "models/embedded-1"]), "models: .* is a folder: list embedded-1"),
        (("embedded", "methods", "mosa_r1", {"k_end": 128}),
         "embedded.methods.mosa_r1.k_end: .* 127"),
        (("embedded", "steps", "n", 101), "embedded.steps.n: must not exceed the 100 rows"),
        (("embedded", "order", "also", ["embedded-9"]), "embedded.order.also: models/embedded-9"),
        (("embedded", "order", "also", ["embedded-2", "embedded-0"]),
         r"embedded.order.also: \['embedded-2', 'embedded-0'\] are measured already"),
        (("embedded", "target", "seeds", ["embedded-9"]), "embedded.target.seeds: models/embedded"),
        (("embedded", "twin", "model", "models/x"), "embedded.twin.model: models/x is missing"),
        (("embedded", "data", "benign", "opn"), "embedded.data: the world has no set 'opn'"),
        (("embedded", "data", "n_benchmark", 10**4), "embedded.data: the world has .* requests"),
        (("embedded", "data", "benign", "sealed_a"), "embedded.data: 'sealed_a' is named as"),
        (("embedded", "align", "families", ["plan"]), "embedded.align: families: no family 'plan'"),
        (("embedded", "align", "sealed", "sealed_c"), "embedded.align: sealed: the world has no"),
        (("quick", "search", "benign", "x"), "quick.search: benign: the world's set"),
        (("quick", "lists", {"attacks": ["pair"]}), "quick.lists.attacks: 'pair' has no notebooks"),
        (("quick", "lists", {"models": ["m"]}), "quick.lists.models: 'm' is neither a folder"),
        (("embedded", "target", "seeds", ["embedded-1", "embedded-1"]),
         "embedded.target.seeds: 'embedded-1' is listed twice, and would be counted twice"),
        (("embedded", "target", "seeds", ["embedded-0", "embedded-1"]),
         "embedded.target.seeds: embedded-0 is target.model, and measured already"),
        (("embedded", "target", "seeds", ["embedded-ar"]),
         "embedded.target.seeds: models/embedded-ar is autoregressive: name a diffusion model"),
        (("models", ["original", "initial_r1", "mosa_r1", "embedded-ar"]),
         "models: models/embedded-ar is autoregr"),
        (("embedded", "twin", "model", "embedded-1"),
         "embedded.twin.model: models/embedded-1 is no autoregressive model"),
        (("embedded", "target", "model", "embedded-0"),
         "embedded.target.model: embedded-0 is no folder .*: write models/embedded-0"),
        (("thorough", "target", "gate_tasks", 0), "thorough.target.gate_tasks: must be at least 1"),
        (("embedded", "prefill", "placebo", [0, 20, 20]),
         "embedded.prefill.placebo: 20 is listed twice"),
        (("embedded", "prefill", "longer", {"length": 128, "positions": [0]}),
         "embedded.prefill.longer.length: must differ from sampler.length"),
        (("embedded", "decoding", "settings", [[64, 128], [32, 128], [64, 128]]),
         r"embedded.decoding.settings: \(64, 128\) is listed twice"),
        (("embedded", "gcg", "goals", 2 * VALUES["embedded"]["gcg"]["goals"]),
         "embedded.gcg.goals: {'phrase': 'affirmative', 'position': 0} is listed twice"),
        (("embedded", "control", "orders", [*ORDERS, ORDERS[0]]),
         "embedded.control.orders: {.* is listed twice"),
        (("embedded", "control", "orders", [*ORDERS, ORDERS[0] | {"order": "{phrase} {n}"}]),
         r"embedded.control.orders: \['{phrase} {n}'\] must hold {phrase}, and no other braces"),
        (("embedded", "control", "orders", [*ORDERS, ORDERS[0] | {"order": "yodel {phrase}"}]),
         r"embedded.control.orders: \['yodel'\] are no words of the policy world"),
        (("embedded", "steps", "form", ["primo ,", "then"]), r"embedded.steps.form: \['primo'\]"),
        (("embedded", "likelihood", "n", 1), "embedded.likelihood.n: must be at least 2"),
        (("embedded", "order", "compared", 25), "embedded.order.compared: must not exceed its n"),
        (("embedded", "steps", "n_aligned", 13), "embedded.steps.n_aligned: must not exceed its n"),
        (("embedded", "measure", "n", 101), "embedded.measure.n: must not exceed the 100 rows"),
        (("quick", "development", "n", 4), "quick.development.n: must not exceed the 3 rows"),
        (("embedded", "align", "bases", 4),
         "embedded.align.bases: must not exceed target.model and the 2 of target.seeds"),
        (("embedded", "measure", "forced", {"start": [["affirmative", 0]], "late": []}),
         "embedded.measure: .*every group needs as many conditions as the others"),
        (("embedded", "measure", "forced", {"late": [["procedural", 124]]}),
         r"embedded.measure.forced: \[124\] must not exceed 122, to fit into 128 slots"),
        (("embedded", "development", "forced", {"late": [["procedural", 124]]}),
         r"embedded.development.forced: \[124\] must not exceed 122, to fit into 128 slots"),
        (("embedded", "measure", "headings", ["first ,"]), "embedded.measure.headings: "),
        (("embedded", "measure", "headings", ["primo ,", "next ,"]),
         r"embedded.measure.headings: \['primo'\] are no words of the policy world"),
        (("embedded", "measure", "form", ["primo ,"]), r"embedded.measure.form: \['primo'\]"),
        (("embedded", "guards", "annealed", {"remasking": "random"}),
         "embedded.guards.annealed.remasking: must be 'annealed'"),
        (("embedded", "guards", "self_reminder", {"reminder": "{request} yodel"}),
         r"embedded.guards.self_reminder.reminder: \['yodel'\] are no words"),
        (("embedded", "guards", "x", {"reminders": "y"}), "embedded.guards.x.reminders: unknown"),
        (("quick", "lists", "models", ["original", "mosa", "initial", "mosa_plus"]),
         "models: adapters/mosa_plus has no adapter embedded-0-1: add it, train mosa_plus here"),
        (("embedded", "measure", "forced", {"PAD": [["procedural", 40]]}),
         r"embedded.measure.forced: \['PAD'\] are groups of other requests"),
        (("embedded", "development", "forced", {"late": [["procedural", 80]]}),
         "embedded.development.forced: must hold the group 'middle'"),
        (("quick", "search", "sealed", "validation"), "quick.search.sealed: validation is meas"),
        (("quick", "factorial", "sealed", "sealed_a"), "quick.factorial.sealed: sealed_a is meas"),
        (("thorough", "factorial", "bases", 1),
         "thorough.factorial: the cells that were run do not tell all terms .* raise its bases"),
        (("thorough", "factorial", "factors", "breaker", {"EOS": {}}),
         r"thorough.factorial.factors: \['breaker'\] need two levels"),
        (("embedded", "factorial", "safe", ["i refuse"]), r"embedded.factorial.safe: \['refuse'\]"),
        (("quick", "factorial", "benign", "x"), "quick.factorial: benign: the world's set"),
        (("embedded", "tasks", "n", 101), "embedded.tasks.n: must not exceed the 100 rows"),
        (("rehearsal", "data", "benign", "alpacca"),
         "rehearsal.data: no data set 'alpacca'; did you mean 'alpaca'"),
        (("rehearsal", "align", "families", ["pages"]),
         "rehearsal.align.families: no family 'pages'; did you mean 'page'"),
    ],
)
def test_each_problem_is_one_line(changed, change, message):
    lines = changed(*change)
    assert lines and re.match(rf"params\.yaml: {message}", lines[0]), lines
    assert not any("\n" in line for line in lines)


def test_a_model_of_another_family_may_be_one_of_the_hub(changed):
    assert changed("embedded", "order", "also", ["Dream-org/Dream-v0-Instruct-7B"]) == []


def test_a_base_model_in_models_is_a_folder(changed):
    assert changed("models", ["original", "initial_r1", "mosa_r1", "embedded-2"]) == []


@pytest.mark.parametrize("profiles", [["embedded"], ["embedded", "thorough"]])
def test_without_methods_there_are_no_figures_of_training(monkeypatch, profiles):
    values = VALUES | {"methods": [], "models": ["original", "embedded-2"], "profiles": profiles,
                       "attacked": ["original"]}
    values |= {name: VALUES[name] | {
        "models": {"seed": 0, "analysed": []},
        "attack": VALUES[name]["attack"] | {"adaptive": []}} for name in profiles}
    values["quick"] = VALUES["quick"] | {"lists": {}}  # which name methods
    monkeypatch.setattr(params, "read", lambda: values)
    monkeypatch.setattr(fits, "aligned", lambda profile: True)  # a trial of single stages
    assert [*doctor.problems()] == []
    monkeypatch.setattr(fits, "aligned", lambda profile: False)
    [line] = doctor.problems()
    assert line.startswith("params.yaml: methods: must hold one, of which Figures 6 and 7")


def test_all_problems_are_told_at_once(changed):
    assert len(changed("quick", {**VALUES["quick"], "sampler": {}, "judge": {}})) == 2


def test_a_fault_that_others_inherit_is_told_once(monkeypatch):
    values = params.read()  # as read: what profiles share is one object
    shared = values["embedded"]["sampler"]
    wrong = {**shared, "steps": 0}
    values = {name: {**block, "sampler": wrong} if isinstance(block, dict)
              and block.get("sampler") is shared else block for name, block in values.items()}
    monkeypatch.setattr(params, "read", lambda: values)
    [line] = doctor.problems()
    assert line.startswith("params.yaml: embedded.sampler.steps: ")


@pytest.mark.parametrize(("key", "value", "message"), [
    ("proxy", "models/x", r"embedded\.pal\.proxy: models/x is missing"),  # told by threats
    ("topk", 0, r"embedded\.pal\.topk: must be greater than 0"),  # by the section itself
])
def test_a_fault_of_one_key_that_others_inherit_is_told_once(monkeypatch, key, value, message):
    """quick's section has other keys of its own, and so is another object than thorough's."""
    values = {name: {**block, "pal": {**block["pal"], key: value}} if isinstance(block, dict)
              and "pal" in block else block for name, block in params.read().items()}
    monkeypatch.setattr(params, "read", lambda: values)
    [line] = doctor.problems()
    assert re.match(rf"params\.yaml: {message}", line)


def test_the_same_fault_of_two_values_is_told_twice(monkeypatch):
    values = VALUES | {name: VALUES[name] | {"attack": VALUES[name]["attack"] | {"n": n}}
                       for name, n in (("embedded", 1000), ("thorough", 2000))}
    monkeypatch.setattr(params, "read", lambda: values)
    assert [line.split(":")[1] for line in doctor.problems()] == [
        " embedded.attack.n", " thorough.attack.n"]


def raises_name_error(name):
    raise NameError("name 'Section' is not\ndefined")


@pytest.mark.parametrize(("place", "value", "message"), [
    ((tap, "Config"), DELETE, "needs a class Config, a mosa.pipeline.params.Section"),
    ((tap, "Config"), type("Config", (), {"forms": object()}), "needs a class Config, a mosa"),
    ((tap, "run"), DELETE, "needs a function run"),
    ((tap, "FORMS"), {"prompt": "A4", "middle": "A0"}, "FORMS: 'prompt' has the level 'A4'"),
    ((threats, "import_module"), raises_name_error, "NameError: name 'Section' is not defined"),
])
def test_an_attack_that_cannot_run_is_told_once_by_its_file(monkeypatch, place, value, message):
    if value is DELETE:
        monkeypatch.delattr(*place)
    else:
        monkeypatch.setattr(*place, value)
    lines = [line for line in doctor.problems() if "/tap.py" in line]
    assert len(lines) == 1 and lines[0].startswith(f"mosa/attacks/tap.py: {message}")
    assert not any("unknown section" in line for line in doctor.problems())


def test_a_form_without_an_access_level_is_told(monkeypatch):
    monkeypatch.setattr(tap, "FORMS", {"prompt": "A0"})
    assert doctor.problems() == ["params.yaml: embedded.tap.forms: ['middle'] are not in FORMS of "
                                 "mosa/attacks/tap.py: add their access levels"]


def test_a_missing_module_is_told_once(monkeypatch):
    notebook = doctor._notebook
    monkeypatch.setattr(doctor, "_notebook", lambda name: notebook(
        "tap" if name == "polite" else name))
    values = {name: block | {"polite": {}} if isinstance(block, dict) and "tap" in block else block
              for name, block in VALUES.items()}
    values["attacks"] = [*VALUES["attacks"], "polite"]
    monkeypatch.setattr(params, "read", lambda: values)
    assert doctor.problems() == [
        "mosa/attacks/polite.py is missing: write it, or mend the name 'polite'"]


def test_a_misspelt_section_is_told_by_its_own_name(changed):
    block = dict(VALUES["thorough"])
    block["samplr"] = block.pop("sampler")
    [line] = changed("thorough", block)
    assert line.startswith("params.yaml: thorough.samplr: unknown section; did you mean 'sampler'")


@pytest.mark.parametrize("module", [ModuleType("mosa_without_a_loss"), None])  # None: no import
def test_an_objective_that_cannot_run_is_named(monkeypatch, module):
    monkeypatch.setitem(sys.modules, "mosa.alignment.objectives.mosa", module)
    lines = doctor.problems()
    assert lines and lines[0].startswith("mosa/alignment/objectives/mosa.py: "), lines
    assert not any("\n" in line for line in lines)


def test_two_stages_of_one_name_are_refused(monkeypatch):
    few = {**VALUES["thorough"], "methods": {"c": {}, "b-c": {}}, "lists": {}}
    values = VALUES | {"a": few, "a-b": few, "profiles": ["a", "a-b"],
                       "quick": VALUES["quick"] | {"lists": {}},
                       "methods": ["c", "b-c"], "models": ["original", "c"]}
    monkeypatch.setattr(params, "read", lambda: values)
    assert doctor.problems() == [
        "params.yaml: two stages are called align@a-b-c: rename one of its parts"]


def test_command_line():
    run = subprocess.run([sys.executable, "-m", "mosa.doctor"], cwd=params.ROOT,
                         capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, "OK\n"), run.stderr
