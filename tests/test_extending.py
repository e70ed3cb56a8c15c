"""What the README says of adding a model, a defence, an attack and a metric, done together in a
copy of the tree in which `quick` has run: the files that are touched, what runs then, and what it
measures."""

import json
import re
import subprocess
import sys

import pandas as pd
import pytest
from running import edit, how, repro, rows

from mosa.pipeline import params
from mosa.pipeline.notebooks import strip

pytestmark = pytest.mark.xdist_group("extending")  # one process: they share one copy

OBJECTIVE = '''"""A defence for a test: cross-entropy of the refusal, half as strong."""

from mosa.alignment.terms import relabelled


def loss(policy, reference, batch, args):
    value, log = relabelled(policy, reference, batch, args, batch["refusal"])
    return value / 2, log
'''
ATTACK = '''"""An attack for a test: the behaviour is asked for politely, `times` over."""

from functools import partial

from mosa.attacks.drive import each_form, user
from mosa.pipeline.params import Section


class Config(Section):
    forms: list[str] = ["prompt"]
    times: int = 2


def attack(behaviour, helper, form, cfg):
    return (yield [user("please " * cfg.times + behaviour["behaviour"])])


run = partial(each_form, "polite", attack, {"prompt": "A0"})
'''
CELLS = ['profile = "embedded"\nmodel = "original"', '''
import mosa
from mosa.attacks import campaign, polite
from mosa.paper import tables

stage = mosa.Stage(profile, "attack", "polite", model)
shared, cfg = stage.section("attack", campaign.Campaign), stage.section("polite", polite.Config)
[target] = stage.targets([model])
helper = campaign.helper(shared, stage.section("data"))
behaviours = campaign.chosen(stage.requests("benchmark"), shared.n)
found = polite.run(target, behaviours, helper, cfg, stage.sampler)
rows, queries = stage.judged(found.rows), stage.judged(campaign.light(found.queries))
stage.rows(rows)
stage.rows(queries, "queries")
stage.numbers(tables.numbers(campaign.summary(stage.flat(rows), stage.flat(queries))))
''']
MODELS, ATTACKED = "\nmodels: [original, initial, mosa", "\nattacked: [original, mosa"
GUARDS = ("self_reminder", "annealed")  # behind them in quick's list


def notebook(cells):
    return {"nbformat": 4, "nbformat_minor": 5, "cells": [
        {"cell_type": "code", "id": str(i), "execution_count": None, "outputs": [], "source": text,
         "metadata": {"tags": ["parameters"]} if i == 0 else {}} for i, text in enumerate(cells)],
        "metadata": {"kernelspec": {"display_name": "Python 3", "name": "python3",
                                    "language": "python"}}}


def a_model(copy):
    edit(copy, MODELS, f"{MODELS}, embedded-2")
    edit(copy, ATTACKED, f"{ATTACKED}, embedded-2")


def a_defence(copy):
    (copy / "mosa/alignment/objectives/half.py").write_text(OBJECTIVE)
    edit(copy, "\n  methods:   # what", "\n  methods:\n    half: {objective: half}   # what")
    edit(copy, "\nmethods: [mosa, initial", "\nmethods: [mosa, initial, half")
    edit(copy, MODELS, f"{MODELS}, half")
    edit(copy, ATTACKED, f"{ATTACKED}, half")


def an_attack(copy):
    (copy / "mosa/attacks/polite.py").write_text(ATTACK)
    path = copy / "notebooks/4_attacks/polite.ipynb"
    text = json.dumps(strip(notebook(CELLS)), indent=1, sort_keys=True, ensure_ascii=False)
    path.write_text(f"{text}\n")
    edit(copy, "\nattacks: [native", "\nattacks: [polite, native")
    edit(copy, "\nembedded: &embedded", "\nembedded: &embedded\n  polite: {times: 3}")


def a_metric(copy):
    for file, old, new in [
            ("verdict", "    elsewhere: ", "    long: NotRequired[bool]\n    elsewhere: "),
            ("exact", "    return verdict(kind, score, revealed, refused)", "    return verdict("
             'kind, score, revealed, refused) | {"long": len(" ".join(own).split()) > 100}')]:
        path = copy / f"mosa/judges/{file}.py"
        text = path.read_text()
        assert text.count(old) == 1
        path.write_text(text.replace(old, new))


ONE_MODEL = ("align", "measure", "tasks", "gcg", "attack")  # stages that train or measure one


def of_others(stages, names=()):
    """Those of the stages that train or measure one model, and none of the names."""
    return {stage for stage in stages if stage.partition("@")[0] in ONE_MODEL
            and not any(f"-{name}" in stage for name in names)}


@pytest.fixture(scope="module")
def extended(quick):
    """The copy with a model, a defence and an attack more: the stages that made them ran."""
    for add in (a_model, a_defence, an_attack):
        add(quick)
    ran = repro(quick, "measure@quick-embedded-2", "measure@quick-half",
                "attack@quick-polite-embedded-2", "attack@quick-polite-half", "defences@quick")
    assert ran == {"code", "align@quick-half", "models@quick", "measure@quick-embedded-2",
                   "measure@quick-half", "attack@quick-polite-embedded-2",
                   "attack@quick-polite-half", "tasks@quick-embedded-2-arithmetic",
                   "tasks@quick-half-arithmetic", "defences@quick"}
    return quick


def test_a_model_is_one_name(extended):
    found = rows(extended / "results/quick/measure/embedded-2/rows.jsonl")
    assert {row["response"]["model"] for row in found} == {"embedded-2"}
    assert {row["response"]["trained"] for row in found} == {None}


def test_the_table_of_defences_has_both_and_compares_what_shares_a_base(extended):
    table = pd.read_csv(extended / "paper_figures/quick/defences/defences.csv")
    assert {"embedded-2", "half", *GUARDS} < {*table.model}
    compared = pd.read_csv(extended / "paper_figures/quick/defences/compared.csv")
    assert "half" in {*compared.model} and "embedded-2" not in {*compared.model, *compared.minus}


def test_a_defence_is_an_objective_and_a_block(extended):
    found = rows(extended / "results/quick/measure/half/rows.jsonl")
    assert {row["response"]["trained"] for row in found} == {0, 1}
    assert {row["response"]["base"] for row in found} == {"embedded-0", "embedded-1"}


def test_an_attack_is_a_module_a_notebook_and_a_word(extended):
    asked = rows(extended / "results/quick/attack/polite/half/rows.jsonl")
    assert {row["request"]["attack"] for row in asked} == {"polite"} and len(asked) == 2 * 2
    assert {row["response"]["search_queries"] for row in asked} == {0}
    assert asked[3]["request"]["messages"][-1]["content"].startswith("please please please ")


def test_what_was_there_is_neither_trained_nor_measured_again(extended):
    """Nothing of the models that were there, except by the new attack; the new ones by all."""
    left = repro(extended, "--dry")
    assert {s for s in left if s.startswith("align@")} == set()
    assert of_others(left, ["embedded-2", "half", "polite"]) == set()
    others = [name for name in params.lists()["attacks"] if name != "polite"]
    assert {s for s in left if s.startswith("attack@")} == {
        *(f"attack@quick-polite-{model}" for model in ("original", "mosa")),
        *(f"attack@quick-{name}-{model}" for name in others for model in ("half", "embedded-2"))}


def test_the_attacks_tables_have_a_column_an_attack_and_a_row_a_model(extended):
    edit(extended, f"{ATTACKED}, half, embedded-2]", f"{ATTACKED}, half]")
    text = (extended / "params.yaml").read_text()
    edit(extended, re.search(r"\nattacks: \[[^\]]*\]", text)[0], "\nattacks: [native, polite]")
    ran = repro(extended, "tables@quick")
    assert of_others(ran) == {"attack@quick-native-half", "attack@quick-polite-original",
                              "attack@quick-polite-mosa"}
    table = pd.read_csv(extended / "paper_figures/quick/tables/table1.csv")
    assert [name for name in table.model.unique() if "paper" not in name] == [
        "original", "mosa", "half"]
    assert {"none", "polite"} < {*table.columns}
    forms = pd.read_csv(extended / "paper_figures/quick/tables/forms.csv")
    assert {*forms[forms.attack == "polite"].access} == {"A0"}


def test_a_metric_is_a_key_of_the_verdict_and_a_judge_that_gives_it(quick):
    a_metric(quick)
    repro(quick, "baseline@quick")
    table = pd.read_csv(quick / "paper_figures/quick/baseline/baseline.csv")
    assert "long" in table and re.fullmatch(r"\d+\.\d \[.*\]", table.long[0]) and table.n[0] == 6
    numbers = json.loads((quick / "paper_figures/quick/baseline/numbers.json").read_text())
    assert numbers["plain/sealed_a/long"]["n"] == 3 * 2  # on two base models


def test_the_tests_of_what_was_there_still_hold(extended):
    tests = ["tests/test_pipeline.py", "tests/judges", "tests/alignment/test_objectives.py"]
    run = subprocess.run([sys.executable, "-m", "pytest", *tests], **how(extended))
    assert run.returncode == 0, run.stdout[-3000:]
