"""The whole pipeline on the smallest profile, in a copy of the tree: twice, and after a kill."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[1]
SKIPPED = shutil.ignore_patterns(".git", ".venv", "results", ".scratch", "executed", "__pycache__",
                                 "dvc.lock", "tmp", "cache", ".*_cache", "*.egg-info")  # fmt: skip


def how(tree):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {"PATH": path, "PYTHONPATH": str(tree), "DVC_NO_ANALYTICS": "1"}
    return dict(cwd=tree, env=os.environ | environment, text=True, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT)  # fmt: skip


def repro(tree, *arguments):
    return subprocess.run(["dvc", "repro", *arguments], **how(tree))


def rows(tree):
    text = (tree / "results/smoke/baseline/rows.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def project(folder, profile):
    tree = folder / "mosa-copy"
    shutil.copytree(ROOT, tree, ignore=SKIPPED)
    (tree / "executed").mkdir()
    if (ROOT / "dvc.lock").exists():
        shutil.copy(ROOT / "dvc.lock", tree)
    params = (tree / "params.yaml").read_text()
    assert "profiles: [embedded]" in params
    (tree / "params.yaml").write_text(params.replace("profiles: [embedded]",
                                                     f"profiles: [{profile}]"))  # fmt: skip
    subprocess.run(["git", "init", "--quiet", str(tree)], check=True)
    return tree


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    return project(tmp_path_factory.mktemp("smoke"), "smoke")


def test_smoke_profile_from_nothing_and_again(smoke):
    tree = smoke
    first = repro(tree)
    assert first.returncode == 0, first.stdout[-3000:]
    numbers = json.loads((tree / "paper_figures/smoke/numbers.json").read_text())
    assert numbers["baseline"]["plain/sealed_a/refused"]["n"] == 3
    assert numbers["align_measured"]["mosa/plain/sealed_a/refused"]["n"] == 3
    assert numbers["align_measured"]["mosa minus initial/plain/success"]["n"] == 6
    suffixes = pd.read_csv(tree / "paper_figures/smoke/gcg.csv")
    assert set(suffixes.model) == {"original", "mosa"} and len(suffixes) == 4
    cells = pd.read_csv(tree / "paper_figures/smoke/steps.csv")
    assert set(cells.kind) == {"none", "planted", "PAD", "anchoring", "DIJA"}
    assert numbers["twin"]["diffusion/affirmative at 0/power"]["n"] == 3
    assert len(numbers["twin"]["verdicts"]) == 3  # the diffusion model, and the twin in both forms
    assert (tree / "models/embedded-0/model.safetensors").read_bytes() == (
        ROOT / "models/embedded-0/model.safetensors"
    ).read_bytes()  # the shipped model is measured, not trained again
    again = repro(tree)
    assert again.returncode == 0 and "up to date" in again.stdout, again.stdout[-3000:]
    assert "Running stage" not in again.stdout


def test_a_stage_killed_in_the_middle_goes_on_and_ends_in_the_same_rows(smoke):
    before = rows(smoke)
    command = ["dvc", "repro", "--force", "--single-item", "baseline@smoke"]
    with subprocess.Popen(command, **how(smoke), start_new_session=True) as run:
        while run.poll() is None and not stored(smoke):
            time.sleep(0.05)
        os.killpg(run.pid, signal.SIGKILL)
    kept = stored(smoke)
    assert kept, "ended before it could be killed"
    time.sleep(3)  # the kernel leaves within a second or so of losing its parent
    again = repro(smoke, "baseline@smoke")
    assert again.returncode == 0, again.stdout[-3000:]
    assert "already done" in (smoke / "executed/04_baseline.smoke.ipynb").read_text()
    assert rows(smoke) == before


def test_the_ablation_group_runs_when_it_is_named(smoke):
    path = smoke / "ablation/dvc.yaml"
    text = path.read_text()
    assert "{profile: embedded, block: ablation}" in text
    path.write_text(text.replace("profile: embedded, block: ablation",
                                 "profile: smoke, block: ablation-smoke"))  # fmt: skip
    run = repro(smoke, "ablation/dvc.yaml")
    assert run.returncode == 0, run.stdout[-3000:]
    search = pd.read_csv(smoke / "paper_figures/smoke/search.csv")
    assert search.setting.tolist() == ["original", "mosa_plus: few rows", "no EOS"]
    assert search.rule.tolist()[1] == "chosen"
    cells = pd.read_csv(smoke / "paper_figures/smoke/rivals_cells.csv")
    assert set(cells.method) == {"original", "a2d"}
    suffixes = pd.read_csv(smoke / "paper_figures/smoke/gcg_confounds.csv")
    assert len(suffixes) == 2 * 2 * 2  # settings, block lengths, goals
    again = repro(smoke, "ablation/dvc.yaml")
    assert again.returncode == 0 and "Running stage" not in again.stdout, again.stdout[-3000:]


def stored(tree):
    """Finished chunks of the unfinished baseline."""
    files = (tree / ".scratch/baseline@smoke").glob("*.jsonl")
    return sum(len(file.read_text().splitlines()) for file in files)


@pytest.mark.skipif(
    "MOSA_DATA_MIRROR" not in os.environ,
    reason="needs the public data files: set MOSA_DATA_MIRROR to a folder that holds them",
)
def test_rehearsal_profile_takes_the_real_rows_through_every_stage(tmp_path):
    tree = project(tmp_path, "rehearsal")
    run = repro(tree)
    assert run.returncode == 0, run.stdout[-3000:]
    text = (tree / "results/rehearsal/baseline/rows.jsonl").read_text()
    assert {json.loads(row)["set"] for row in text.splitlines()} == {
        "advbench",
        "harmbench",
        "alpaca",
        "xstest",
    }
    for name in ("baseline", "gcg", "canvas_attacks", "twin"):
        assert "rehearsal" in (tree / f"paper_figures/rehearsal/{name}.md").read_text()
