"""Runs as stages see them: a tiny model in a folder, a few rows, processes of their own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from alignment.training_rows import tiny

import mosa
from mosa.alignment.method import Align, Method
from mosa.alignment.run import jobs, run_all
from mosa.lm import loading
from mosa.pipeline.rows import done, fingerprint
from mosa.world import grammar

ROOT = Path(__file__).resolve().parents[2]
WORLD = SimpleNamespace(source="world", mirror=None)


def offered(rows=24):
    return Align(sealed="align", benign="open", families=["plain"],
                 safe=[grammar.REFUSAL_CORES[0]], rows=rows, bases=1, seeds=[0], workers=1)


def job(model, label, seed=0, rows=8, **changes):
    card = {"folder": str(model), "dtype": "float32", "weights": "w"}
    method = Method(**{"batch_size": 2, "k_end": 22} | changes)
    [one] = jobs([card], {label: method}, offered(rows), WORLD, 40, [seed])
    return one


def short(model):
    return [job(model, "a"), job(model, "b", seed=1), job(model, "c", k_start=0, k_end=0)]


def long(model):
    """160 steps, with a checkpoint after 100."""
    return job(model, "long", rows=320)


def test_every_method_runs_on_every_base_model_with_every_seed():
    bases = [{"folder": "models/a"}, {"folder": "models/b"}]
    methods = {"one": Method(), "other": Method(eos=False)}
    found = jobs(bases, methods, offered(2), WORLD, 40, [0, 1])
    assert {job.label for job in found} == {
        f"{name}-{base}-{seed}" for name in methods for base in "ab" for seed in (0, 1)}
    assert len(found) == 8
    for job in found:
        name, base, seed = job.label.split("-")
        assert job.run == f"{base}-{seed}" and job.seed == int(seed) and job.length == 40
        assert job.card == {"folder": f"models/{base}"} and job.method == methods[name]


def test_base_models_share_the_pairs_of_a_seed():
    a0, b0, a1, b1 = jobs([{"folder": "a"}, {"folder": "b"}], {"m": Method()}, offered(4), WORLD,
                          40, [0, 1])
    assert a0.rows == b0.rows != a1.rows == b1.rows


def test_a_method_takes_its_own_number_of_pairs_and_its_own_safe_sentences():
    methods = {"all": Method(), "few": Method(rows=3), "more": Method(rows=9),
               "other": Method(safe=["i must decline"])}
    found = jobs([{"folder": "a"}], methods, offered(6), WORLD, 40, [0, 1])
    rows = {job.label: job.rows for job in found}
    assert rows["few-a-1"] == rows["all-a-1"][:3] and len(rows["all-a-1"]) == 6
    assert len(rows["more-a-0"]) == 9 and rows["more-a-0"][:6] == rows["all-a-0"]
    assert {row["safe"] for row in rows["other-a-0"]} == {"i must decline"}
    assert [r["sealed"] for r in rows["other-a-0"]] == [r["sealed"] for r in rows["all-a-0"]]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    loading.save(tiny(), folder)
    return folder


@pytest.fixture(scope="module")
def key():
    name = f"test-run-{os.getpid()}"
    yield name
    done(name)


@pytest.fixture(scope="module")
def trained(model, key):
    """The short runs and the long one in this process, and the fingerprints of their adapters."""
    found = run_all([*short(model), long(model)], key, 1)
    return found, [fingerprint(adapter) for adapter, _ in found]


def test_the_log_is_plain_numbers(trained):
    [(_, log), *_], _ = trained
    assert json.loads(json.dumps(log)) == log
    assert {"reward", "safe", "harmful", "kl", "grad_norm", "safe_start"} <= log[0].keys()


def test_what_is_finished_is_not_trained_again(model, key, trained):
    found, _ = trained
    files = [adapter / "adapter_model.safetensors" for adapter, _ in found]
    written = [file.stat().st_mtime_ns for file in files]
    assert run_all([*short(model), long(model)], key, 1) == found
    assert [file.stat().st_mtime_ns for file in files] == written


def test_runs_do_not_depend_on_the_number_of_workers(model, key, trained):
    (*one, _), (*prints, _) = trained
    assert len(set(prints)) == 3 and [len(log) for _, log in one] == [4] * 3
    done(key)
    assert run_all(short(model), key, 2) == one  # trained again
    assert [fingerprint(folder) for folder, _ in one] == prints
    moved = mosa.load(model, adapter=one[0][0])
    ids = moved.canvas(["how ?"], 4).ids
    assert not torch.equal(moved(ids), mosa.load(model)(ids))
    assert json.loads((one[0][0] / "base_model.json").read_text())["name"] == model.name


KILLED = """
import sys
from alignment.test_run import long, run_all
if __name__ == "__main__":
    run_all([long(sys.argv[2])], sys.argv[1], 2)
"""


def test_a_killed_run_goes_on_from_its_checkpoint_and_leaves_no_worker(
        model, key, trained, tmp_path):
    script, stage = tmp_path / "killed.py", f"{key}/killed"
    script.write_text(KILLED)
    folder = ROOT / ".scratch" / stage
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    command = [sys.executable, str(script), stage, str(model)]
    with subprocess.Popen(command, cwd=ROOT, env=environment) as process:
        while process.poll() is None and not list(
                folder.glob("*/checkpoint-*/trainer_state.json")):
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert list(folder.glob("*/checkpoint-*")) and not list(folder.glob("*/log.json"))
    time.sleep(2)
    before = sorted(p.stat().st_mtime for p in folder.rglob("*"))
    time.sleep(1)
    assert sorted(p.stat().st_mtime for p in folder.rglob("*")) == before  # nobody writes any more
    [(adapter, log)] = run_all([long(model)], stage, 1)
    assert [entry["step"] for entry in log] == list(range(1, 161))
    assert fingerprint(adapter) == trained[1][-1]  # that of the run which nobody killed
