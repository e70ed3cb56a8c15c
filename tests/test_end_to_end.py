"""The whole pipeline on the smallest profile, in a copy of the tree: twice, and after a kill."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(
    not (ROOT / "models/embedded-0").exists(), reason="no base model yet: run `make retrain`"
)
SKIPPED = shutil.ignore_patterns(".git", ".venv", "results", ".scratch", "executed", "__pycache__",
                                 "dvc.lock", "tmp", "cache", ".*_cache", "*.egg-info")  # fmt: skip


def repro(tree, *arguments, **environment):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | environment | {"PATH": path, "PYTHONPATH": str(tree),
                                              "DVC_NO_ANALYTICS": "1"}  # fmt: skip
    return subprocess.run(["dvc", "repro", *arguments], cwd=tree, env=environment, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip


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


def test_smoke_profile_from_nothing_and_again(tmp_path):
    tree = project(tmp_path, "smoke")
    first = repro(tree)
    assert first.returncode == 0, first.stdout[-3000:]
    numbers = json.loads((tree / "paper_figures/smoke/numbers.json").read_text())
    assert numbers["baseline"]["plain/sealed_a/refused"]["n"] == 3
    assert (tree / "models/embedded-0/model.safetensors").read_bytes() == (
        ROOT / "models/embedded-0/model.safetensors"
    ).read_bytes()  # the shipped model is measured, not trained again
    again = repro(tree)
    assert again.returncode == 0 and "up to date" in again.stdout, again.stdout[-3000:]
    assert "Running stage" not in again.stdout


@pytest.mark.skipif(
    "MOSA_DATA_MIRROR" not in os.environ,
    reason="needs the public data files: set MOSA_DATA_MIRROR to a folder that holds them",
)
def test_rehearsal_profile_takes_the_real_rows_through_every_stage(tmp_path):
    tree = project(tmp_path, "rehearsal")
    run = repro(tree)
    assert run.returncode == 0, run.stdout[-3000:]
    rows = (tree / "results/rehearsal/baseline/rows.jsonl").read_text().splitlines()
    assert {json.loads(row)["set"] for row in rows} == {"advbench", "harmbench", "alpaca", "xstest"}
    assert "rehearsal" in (tree / "paper_figures/rehearsal/baseline.md").read_text()
