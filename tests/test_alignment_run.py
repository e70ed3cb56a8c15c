"""Runs as stages see them: the shipped model, a few rows, processes of their own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import mosa
from mosa import params, world
from mosa.alignment.data import pairs
from mosa.alignment.run import Job, run_all
from mosa.resume import done, fingerprint

ROOT = Path(__file__).resolve().parents[1]
CARD = {"folder": "models/embedded-0", "dtype": "float32", "weights": "w"}


def job(label, seed=0, rows=24, **changes):
    method = params.section("embedded", "align").methods["mosa"]
    method = method.model_copy(update={"rows": rows, "batch_size": 2, "k_end": 22} | changes)
    training = pairs("world", "align", "open", ["plain"], [world.REFUSAL], rows, seed)
    return Job(label, CARD, training, method, seed, 40)


@pytest.fixture
def stage():
    name = f"test-run-{os.getpid()}"
    yield name
    shutil.rmtree(ROOT / ".scratch" / name, ignore_errors=True)


def test_runs_do_not_depend_on_the_number_of_workers_and_are_kept(stage):
    jobs = [job("a"), job("b", seed=1), job("c", k_start=0, k_end=0)]
    one = run_all(jobs, stage, 1)
    prints = [fingerprint(folder) for folder, _ in one]
    assert len(set(prints)) == 3 and [len(log) for _, log in one] == [12] * 3
    assert run_all(jobs, stage, 2) == one  # read back
    done(stage)
    assert run_all(jobs, stage, 2) == one  # trained again
    assert [fingerprint(folder) for folder, _ in one] == prints
    moved = mosa.load(CARD["folder"], adapter=one[0][0])
    ids = moved.canvas(["how ?"], 4).ids
    assert not torch.equal(moved(ids), mosa.load(CARD["folder"])(ids))


KILLED = """
import sys
sys.path.insert(0, "tests")
from test_alignment_run import job, run_all
if __name__ == "__main__":
    run_all([job("a", rows=700)], sys.argv[1], 1)
"""


def test_a_killed_run_goes_on_from_its_checkpoint_and_leaves_no_worker(stage, tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    folder = ROOT / ".scratch" / stage
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    with subprocess.Popen([sys.executable, str(script), stage], cwd=ROOT, env=environment) as run:
        while run.poll() is None and not list(folder.glob("*/checkpoint-*/trainer_state.json")):
            time.sleep(0.05)
        run.send_signal(signal.SIGKILL)
    assert list(folder.glob("*/checkpoint-*")) and not list(folder.glob("*/log.json"))
    time.sleep(2)
    before = sorted(p.stat().st_mtime for p in folder.rglob("*"))
    time.sleep(1)
    assert sorted(p.stat().st_mtime for p in folder.rglob("*")) == before  # nobody writes any more
    [(adapter, log)] = run_all([job("a", rows=700)], stage, 1)
    assert [entry["step"] for entry in log] == list(range(1, 351))
    killed = fingerprint(adapter)
    done(stage)
    [(adapter, _)] = run_all([job("a", rows=700)], stage, 1)
    assert fingerprint(adapter) == killed


def test_the_log_is_plain_numbers(stage):
    [(_, log)] = run_all([job("a", rows=4)], stage, 1)
    assert json.loads(json.dumps(log)) == log
    assert {"reward", "safe", "harmful", "kl", "grad_norm", "safe_start"} <= log[0].keys()
