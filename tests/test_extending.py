"""What the README says of adding a model, a defence, an attack and a metric, done in a copy of the
tree in which `quick` has run: the files that are touched, what runs then, and what it measures."""

import json

import pandas as pd
import pytest
from running import edit, repro, rows

OBJECTIVE = '''"""A defence for a test: cross-entropy of the refusal, half as strong."""

from mosa.alignment.terms import relabelled


def loss(policy, reference, batch, args):
    value, log = relabelled(policy, reference, batch, args, "refusal", batch["refusal"])
    return value / 2, log
'''
ATTACK = '''"""An attack for a test: the request is asked politely, `times` over."""

from mosa.pipeline.params import Section


class Config(Section):
    times: int = 2


def run(target, requests, config, sampler):
    asked = [r | {"attack": "none"} for r in requests]
    for r in requests:
        *head, last = r["messages"]
        polite = last | {"content": "please " * config.times + last["content"]}
        asked.append(r | {"attack": "polite", "messages": [*head, polite]})
    return target.generate(asked, sampler)
'''
CELLS = ['profile = "embedded"\nmodel = "original"', '''
import mosa
from mosa import stats
from mosa.attacks import polite

stage = mosa.Stage(profile, "attack", model, "polite")
[target] = stage.targets([model])
config = stage.section("polite", polite.Config)
rows = polite.run(target, stage.requests("primary", n=2), config, stage.sampler)
rows = stage.judged(rows)
stage.rows(rows)
stage.numbers({"success": stats.rate([r["success"] for r in stage.flat(rows)])})
''']


def notebook(cells):
    return {"nbformat": 4, "nbformat_minor": 5, "cells": [
        {"cell_type": "code", "id": str(i), "execution_count": None, "outputs": [], "source": text,
         "metadata": {"tags": ["parameters"]} if i == 0 else {}} for i, text in enumerate(cells)],
        "metadata": {"kernelspec": {"display_name": "Python 3", "name": "python3",
                                    "language": "python"}}}


@pytest.fixture
def copy(quick):
    """The copy, with every file that a test touches put back at the end."""
    touched = {}

    def write(name, text):
        path = quick / name
        touched.setdefault(path, path.read_text() if path.exists() else None)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    write("params.yaml", (quick / "params.yaml").read_text())
    quick_copy = type("Copy", (), {"path": quick, "write": staticmethod(write)})
    yield quick_copy
    for path, text in touched.items():
        path.unlink() if text is None else path.write_text(text)
    repro(quick, "code")


def test_a_model_is_one_name(copy):
    edit(copy.path, "\nmodels: [original, initial, mosa]",
         "\nmodels: [original, initial, mosa, embedded-2]")
    ran = repro(copy.path, "measure@quick-embedded-2")
    assert ran == {"code", "models@quick", "measure@quick-embedded-2"}
    found = rows(copy.path / "results/quick/measure/embedded-2/rows.jsonl")
    assert {row["response"]["model"] for row in found} == {"embedded-2"}
    assert {row["response"]["trained"] for row in found} == {None}


def test_a_defence_is_an_objective_and_a_block(copy):
    copy.write("mosa/alignment/objectives/half.py", OBJECTIVE)
    edit(copy.path, "\n  methods:   # what", "\n  methods:\n    half: {objective: half}   # what")
    edit(copy.path, "\nmethods: [mosa, initial]", "\nmethods: [mosa, initial, half]")
    edit(copy.path, "\nmodels: [original, initial, mosa]",
         "\nmodels: [original, initial, mosa, half]")
    ran = repro(copy.path, "measure@quick-half")
    assert ran == {"code", "align@quick-half", "models@quick", "measure@quick-half"}
    found = rows(copy.path / "results/quick/measure/half/rows.jsonl")
    assert {row["response"]["trained"] for row in found} == {0, 1}


def test_an_attack_is_a_module_a_notebook_and_a_word(copy):
    copy.write("mosa/attacks/polite.py", ATTACK)
    copy.write("notebooks/4_attacks/polite.ipynb", json.dumps(notebook(CELLS)))
    edit(copy.path, "\nattacks: []", "\nattacks: [polite]")
    edit(copy.path, "\n  baseline: {n: 100}", "\n  baseline: {n: 100}\n  polite: {times: 3}")
    edit(copy.path, "\nmodels: [original, initial, mosa]", "\nmodels: [original, mosa]")
    ran = repro(copy.path, "tables@quick-polite")
    models = ("original", "mosa")
    assert ran - {"models@quick"} == {"code", "tables@quick-polite",
                                      *(f"attack@quick-{m}-polite" for m in models)}
    table = pd.read_csv(copy.path / "paper_figures/quick/tables/polite/polite.csv")
    assert table.model.tolist() == list(models) and set(table.access) == {"A0"}
    asked = rows(copy.path / "results/quick/attack/mosa/polite/rows.jsonl")
    assert [row["request"]["attack"] for row in asked] == ["none"] * 2 + ["polite"] * 2
    assert asked[-1]["request"]["messages"][-1]["content"].startswith("please please please ")


def test_a_metric_is_a_key_of_the_verdict_and_a_judge_that_gives_it(copy):
    verdict, judge = "mosa/judges/verdict.py", "mosa/judges/exact.py"
    text = (copy.path / verdict).read_text()
    last = "    truncated: bool"
    assert text.count(last) == 1
    copy.write(verdict, text.replace(last, "    long: bool  # over a hundred words\n" + last))
    text = (copy.path / judge).read_text()
    last = '"truncated": '
    assert text.count(last) == 1
    copy.write(judge, text.replace(last, '"long": len(text.split()) > 100,\n        ' + last))
    repro(copy.path, "baseline@quick")
    table = pd.read_csv(copy.path / "paper_figures/quick/baseline/baseline.csv")
    assert "long" in table and "(n=3)" in table.long[0]
    numbers = json.loads((copy.path / "paper_figures/quick/baseline/numbers.json").read_text())
    assert numbers["plain/sealed_a/long"]["n"] == 3
