"""The whole pipeline on the profile `quick`, once, in a copy of the tree; then what follows from
a second run, a kill, stray files, one method and one attack more."""

import json
import os
import subprocess
import time
from glob import glob

import pandas as pd
import psutil
import pytest
from pipeline.wiring import expand
from running import edit, how, repro, rows

from mosa.pipeline import params, trial
from mosa.pipeline.repro import reproduce

pytestmark = pytest.mark.xdist_group("end_to_end")  # one process: they share one copy

STRAY = {  # what a Mac, an editor and a colleague leave in notebooks/
    "1_setting/._data.ipynb": "    Mac OS X        ", "Untitled.ipynb": "",
    "4_attacks/new.ipynb": '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}}',
}


@pytest.fixture
def unchanged(quick):
    """The copy, with its params.yaml and notebooks put back at the end."""
    before = (quick / "params.yaml").read_text()
    yield quick
    (quick / "params.yaml").write_text(before)
    for name in (*STRAY, "4_attacks/any.ipynb"):
        (quick / "notebooks" / name).unlink(missing_ok=True)
    (quick / "mosa/attacks/any.py").unlink(missing_ok=True)
    repro(quick, "code")


def test_every_stage_made_what_it_promises(quick, monkeypatch):
    monkeypatch.setattr(params, "ROOT", quick)
    stages = expand(params.stages(), params.lists())
    assert not [out for stage in stages for out, _ in stage.outs if not (quick / out).exists()]
    assert not [s.name for s in stages if s.papermill and not s.name.startswith("base@")
                and not (quick / s.papermill[1]).exists()]

    def figures(name):
        return quick / "paper_figures/quick" / name

    numbers = json.loads(figures("baseline/numbers.json").read_text())
    assert numbers["plain/sealed_a/refused"]["n"] == 3 * 2  # on two base models
    numbers = json.loads(figures("defences/numbers.json").read_text())
    assert numbers["mosa/plain/plain/refused"]["n"] == 2 * 2 * 2  # and with two seeds
    assert numbers["mosa minus initial/plain/refused"]["n"] == 2 * 2
    suffixes = pd.read_csv(figures("reach/gcg.csv"))
    models = {"original", "embedded-1", "initial", "mosa"}
    assert set(suffixes.model) == models and len(suffixes) == len(models) * 2 * 3
    compared = {key.split("/")[0] for key in json.loads(figures("reach/numbers.json").read_text())
                if "minus none" in key or "minus original" in key}
    assert compared == models | {"initial minus original", "mosa minus original"}
    cells = pd.read_csv(figures("steps/steps.csv"))
    assert set(cells.kind) == {"none", "planted", "PAD", "anchoring", "DIJA"}
    assert len(json.loads(figures("twin/numbers.json").read_text())["shows"]) > 1
    search = pd.read_csv(figures("search/search.csv"))
    assert search.setting.tolist() == ["original", "mosa_r1: as it is", "mosa_r1: no EOS"]
    assert search.rule.tolist().count("chosen") == 1
    deciding = pd.read_csv(figures("factorial/deciding.csv"))
    assert deciding.outcome.nunique() > 1 and (deciding.outcome.value_counts() == 4).all()
    assert len(pd.read_csv(figures("gcg_choices/gcg_confounds.csv"))) == 2 * 2 * 2


def test_the_shipped_model_is_measured_and_not_trained_again(quick):
    name = "models/embedded-0/model.safetensors"
    assert (quick / name).read_bytes() == (params.ROOT / name).read_bytes()


def test_a_second_run_does_nothing(quick):
    assert repro(quick) == set()


@pytest.mark.parametrize(("stage", "searches"), [
    ("baseline@quick", 0), ("gcg@quick-original", 10), ("attack@quick-ept-mosa", 0)])
def test_a_stage_killed_in_the_middle_goes_on_and_ends_in_the_same_rows(quick, stage, searches):
    name, _, axes = stage.partition("@quick")
    path = quick / "results/quick" / name / axes[1:].replace("-", "/") / "rows.jsonl"
    before, scratch, states = path.read_bytes(), quick / ".scratch" / stage, set()

    def stored():
        """How many searches, begun or done; of a stage that has none, how many chunks."""
        return len(states) if searches else sum(
            len(file.read_text().splitlines()) for file in scratch.rglob("*.jsonl"))

    def run(*options, until=lambda: False):
        with subprocess.Popen(["dvc", "repro", *options, stage], **how(quick)) as run:
            while run.poll() is None and not until():
                states.update(glob(f"{scratch}/*.json"))
                time.sleep(0.05)
            if run.returncode is None:  # one by one: the kernel has a session of its own
                for process in [run, *psutil.Process(run.pid).children(recursive=True)]:
                    process.kill()

    run("--force", "--single-item", until=stored)
    assert stored(), "ended before it could be killed"
    assert len(states) < max(1, searches)
    run()
    assert "already done" in (quick / f"executed/{stage.replace('@', '.')}.ipynb").read_text()
    assert path.read_bytes() == before and not scratch.exists()
    assert len(states) == searches  # what was stored has the same name in another process
    assert repro(quick) == set()


def test_stray_notebooks_stop_nothing(unchanged):
    for name, text in STRAY.items():
        (unchanged / "notebooks" / name).write_text(text)
    assert repro(unchanged) == {"code"}


def test_one_method_more_trains_itself_alone(unchanged):
    edit(unchanged, "\nmethods: [mosa, initial]", "\nmethods: [mosa, initial, mosa_r1]")
    repro(unchanged, "code")
    would = repro(unchanged, "--dry")
    assert {name for name in would if name.startswith("align@")} == {"align@quick-mosa_r1"}
    asked = {name.partition("@")[0] for name in would}
    assert not asked & {"data", "target", "baseline", "prefill", "measure", "tasks", "gcg", "steps"}


def test_one_attack_more_runs_itself_alone(unchanged):
    notebook = json.loads((unchanged / "notebooks/4_attacks/tables.ipynb").read_text())
    (unchanged / "notebooks/4_attacks/any.ipynb").write_text(json.dumps(notebook))
    edit(unchanged, "\nattacks: [native", "\nattacks: [any, native")
    edit(unchanged, "\nembedded: &embedded", "\nembedded: &embedded\n  any: {n: 1}")
    (unchanged / "mosa/attacks/any.py").write_text(
        "from mosa.pipeline.sections import Size as Config\n\n__all__ = ['Config']\n")
    repro(unchanged, "code")
    would = repro(unchanged, "--dry")
    attacks = {f"attack@quick-any-{model}" for model in trial.lists("quick")["attacked"]}
    assert len(attacks) > 1
    assert attacks <= would
    assert {name.partition("@")[0] for name in would - attacks} <= {
        "judge", "static", "transfer", "tables", "index"}


@pytest.mark.skipif(
    "MOSA_DATA_MIRROR" not in os.environ,
    reason="needs the public data files: set MOSA_DATA_MIRROR to a folder that holds them")
def test_rehearsal_profile_takes_the_real_rows_through_every_stage(tmp_path):
    copy = trial.prepare("rehearsal", tmp_path / "copy")
    reproduce(copy)
    sets = {row["request"]["set"] for row in rows(copy / "results/rehearsal/baseline/rows.jsonl")}
    assert sets == {"advbench", "harmbench", "alpaca", "xstest"}
    for name in ("baseline/baseline", "reach/gcg", "steps/canvas_attacks", "twin/twin"):
        assert "rehearsal" in (copy / f"paper_figures/rehearsal/{name}.md").read_text()
