"""What a notebook opens with, and the only thing that writes."""

import json

import matplotlib.pyplot as plt
import pandas as pd
import pytest

import mosa
from mosa.pipeline import params
from mosa.pipeline.params import ParamsError, Section

LISTS = "".join(f"{name}: []\n" for name in params.LISTS[1:])
PARAMS = f"""profiles: [p]
{LISTS}
p:
  judge: {{name: world, mark: "no result"}}
  baseline: {{n: 3, n_wrapped: 3}}
  own: {{k: 4}}
"""
REQUESTS = [{"id": f"{name}-{i}", "set": name, "role": role, "family": family}
            for name, role in (("a", "benchmark"), ("b", "benchmark"), ("open", "benign"))
            for family in ("plain", "page") for i in range(3)]


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(params, "ROOT", tmp_path)
    (tmp_path / "params.yaml").write_text(PARAMS)
    yield tmp_path
    plt.close("all")


class Own(Section):
    k: int


def test_a_stage_reads_its_own_section_by_its_schema():
    assert mosa.Stage("p", "baseline").cfg.n == 3
    assert mosa.Stage("p", "own", schema=Own).cfg == Own(k=4)
    assert mosa.Stage("p", "index").cfg is None
    with pytest.raises(ParamsError, match=r"p\.prefill: is missing"):
        mosa.Stage("p", "prefill")


def test_requests_by_role_family_and_number():
    stage = mosa.Stage("p", "data2")
    (params.ROOT / "results/p/data").mkdir(parents=True)
    (params.ROOT / "results/p/data/requests.jsonl").write_text(
        "".join(json.dumps(r) + "\n" for r in REQUESTS))
    assert [r["id"] for r in stage.requests("primary", n=2)] == ["a-0", "a-1"]
    assert {r["set"] for r in stage.requests("benchmark")} == {"a", "b"}
    assert {r["family"] for r in stage.requests("benign", family=None)} == {"plain", "page"}
    assert stage.requests(family=None) == REQUESTS
    with pytest.raises(ValueError, match=r"p\.data2: asks for 4 requests of 3: lower its n"):
        stage.requests("primary", n=4)


def test_what_is_missing_is_named_with_the_command_that_makes_it():
    with pytest.raises(FileNotFoundError, match="run `dvc repro prefill"):
        mosa.Stage("p", "baseline").read("prefill")


def test_it_writes_below_its_two_folders_alone(root):
    stage = mosa.Stage("p", "measure2", "mosa")
    stage.rows([{"a": 1}])
    stage.json("card", {"b": 2})
    stage.table(pd.DataFrame({"x": [1.0]}), "table")
    stage.numbers({"c": 1 / 3})
    written = {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()}
    assert written == {"params.yaml", "results/p/measure2/mosa/rows.jsonl",
                       "results/p/measure2/mosa/card.json",
                       *(f"paper_figures/p/measure2/mosa/{name}" for name in
                         ("table.csv", "table.md", "table.tex", "numbers.json"))}
    numbers = root / "paper_figures/p/measure2/mosa/numbers.json"
    assert json.loads(numbers.read_text()) == {"c": 0.333333}
    assert "no result" in (numbers.parent / "table.md").read_text()


def test_figures_stay_until_the_stage_is_closed_and_leave_no_orphan(root):
    folder = root / "paper_figures/p/baseline"
    folder.mkdir(parents=True)
    (folder / "old.png").write_text("drawn under a name that is drawn no more")
    scratch = root / ".scratch/baseline@p/x.jsonl"
    scratch.parent.mkdir(parents=True)
    scratch.write_text("{}")
    stage = mosa.Stage("p", "baseline")
    fig, _ = stage.subplots()
    stage.figure(fig, "new", pd.DataFrame({"x": [1]}))
    assert (folder / "old.png").exists() and scratch.exists()
    stage.numbers({})
    assert {p.name for p in folder.iterdir()} == {"new.pdf", "new.png", "new.csv", "numbers.json"}
    assert not scratch.parent.exists()
