"""Runs as stages see them: the shipped model, a few rows, processes of their own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import mosa
from mosa.alignment.method import Align, Method
from mosa.alignment.run import jobs, run_all
from mosa.pipeline.rows import done, fingerprint
from mosa.world import grammar

ROOT = Path(__file__).resolve().parents[2]
CARD = {"folder": "models/embedded-0", "dtype": "float32", "weights": "w"}
WORLD = SimpleNamespace(source="world", mirror=None)


def offered(rows=24):
    return Align(sealed="align", benign="open", families=["plain"], safe=[grammar.REFUSAL],
                 rows=rows, seeds=[0], workers=1)


def job(label, seed=0, rows=24, **changes):
    method = Method(**{"batch_size": 2, "k_end": 22} | changes)
    [one] = jobs(CARD, {label: method}, offered(rows), WORLD, 40, [seed])
    return one


def test_every_method_runs_with_every_seed_on_the_pairs_it_may_take():
    methods = {"all": Method(), "few": Method(rows=3), "more": Method(rows=99),
               "other": Method(safe=["i must decline"])}
    found = jobs(CARD, methods, offered(6), WORLD, 40, [0, 1])
    assert [job.label for job in found] == [f"{name}-{seed}" for name in methods for seed in (0, 1)]
    by_label = {job.label: job.rows for job in found}
    assert by_label["few-1"] == by_label["all-1"][:3] and by_label["more-0"] == by_label["all-0"]
    assert {row["safe"] for row in by_label["other-0"]} == {"i must decline"}
    assert [r["sealed"] for r in by_label["other-0"]] == [r["sealed"] for r in by_label["all-0"]]


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
from alignment.test_run import job, run_all
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
