import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from alignment.training_rows import LENGTH, tiny
from safetensors.torch import load_file

from mosa.alignment import __main__ as command
from mosa.lm import loading
from mosa.world import grammar

ROOT = Path(__file__).resolve().parents[2]


def test_two_processes_train_like_one(tmp_path):
    """The command line under torchrun, with the batch split over two processes."""
    loading.save(tiny(), tmp_path / "base")
    options = ["--model_name_or_path", str(tmp_path / "base"), "--source", "world", "--sealed",
               "align", "--benign", "open", "--families", "plain", "tale", "--rows", "20",
               "--safe", grammar.REFUSAL_CORES[0], "--length", str(LENGTH),
               "--k_start", "6", "--k_end", "12", "--learning_rate", "1e-3", "--use_cpu",
               "--save_strategy", "steps", "--save_steps", "5", "--benign_kl", "1.0",
               "--disable_tqdm", "true"]
    one, two = tmp_path / "out1", tmp_path / "out2"
    command.main([*options, "--output_dir", str(one), "--per_device_train_batch_size", "4"])
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node",
              "2", "-m", "mosa.alignment", *options, "--output_dir", str(two),
              "--per_device_train_batch_size", "2", "--ddp_backend", "gloo"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(launch, cwd=tmp_path, text=True, capture_output=True, env=environment)
    assert run.returncode == 0, run.stderr[-3000:]
    adapters = [load_file(out / "adapter/adapter_model.safetensors") for out in (one, two)]
    logs = [json.loads((out / "checkpoint-5/trainer_state.json").read_text())["log_history"]
            for out in (one, two)]
    assert adapters[0].keys() == adapters[1].keys()
    loading.save(tiny(1), tmp_path / "other")
    for out in (one, two):
        with pytest.raises(ValueError, match=r"adapter was trained on base, and .*other has other"):
            loading.load(tmp_path / "other", adapter=out / "adapter")
    for name, tensor in adapters[0].items():
        torch.testing.assert_close(tensor, adapters[1][name], atol=2e-5, rtol=0, msg=name)
    for one, two in zip(*logs, strict=True):
        for name in ("loss", "reward", "kl", "benign_kl", "safe_start"):
            assert one[name] == pytest.approx(two[name], abs=1e-3), name


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The command, in this process, with a tiny model and training only noted down."""
    seen = {}

    def align(lm, rows, args):
        seen.update(rows=rows, args=args)
        return SimpleNamespace(save_model=lambda folder: seen.update(folder=folder))

    def call(*more, **replaced):
        options = {"model_name_or_path": "m", "output_dir": str(tmp_path), "source": "world",
                   "sealed": "align", "benign": "open", "families": "plain", "safe": "sorry"}
        given = [f"--{key}={value}" for key, value in (options | replaced).items()]
        command.main([*given, "--use_cpu", *more])
        return seen

    monkeypatch.setattr(loading, "load", lambda *a, **k: tiny())
    monkeypatch.setattr(loading, "note_base", lambda adapter, base: seen.update(base=base))
    monkeypatch.setattr(command, "align", align)
    return call


def test_the_command_line_takes_the_papers_values_by_default(run):
    seen = run()
    args = seen["args"]
    assert len(seen["rows"]) == 3000 and (args.lora_r, args.lora_alpha) == (32, 64)
    assert (args.learning_rate, args.max_grad_norm, args.beta) == (5e-5, 0.01, 0.05)
    assert (args.k_start, args.k_end, args.bounds, args.eos) == (20, 60, "start", True)
    assert not args.bound and not args.benign_kl and not args.gradient_checkpointing
    assert seen["folder"].endswith("adapter") and seen["base"] == "m"


@pytest.mark.parametrize(("replaced", "line"), [
    ({"source": "word"}, "source: no source of data 'word'; did you mean 'world'?"),
    ({"sealed": "algn"}, "sealed: the world has no set 'algn'; did you mean 'align'?"),
    ({"benign": "opn"}, "benign: .*'open', not 'opn'"),
    ({"families": "plian"}, "families: no family 'plian'; did you mean 'plain'?"),
    ({"source": "files", "sealed": "advbnch"}, "advbnch.*advbench"),
    ({"rows": "0"}, "rows: must be greater than 0; it is 0"),
    ({"rows": "many"}, "argument --rows: invalid int value: 'many'"),
    ({"beta": "nan"}, "beta: must be a finite number; it is nan"),
    ({"revealed": "2"}, "revealed: must be less than or equal to 1; it is 2.0"),
    ({"objective": "rlhf"}, "argument --objective: invalid choice: 'rlhf'.*'recovery'"),
    ({"bounds": "end"}, "argument --bounds: invalid choice: 'end'.*'start', 'whole'"),
    ({"dtype": "fp8"}, "argument --dtype: invalid choice: 'fp8'"),
    # options that others of the field have, and that would reach nothing here
    *[({name: value}, f"not used.*--{name}") for name, value in (
        ("model_revision", "nosuchrevision"), ("load_in_4bit", "true"), ("lora_dropout", "0.5"),
        ("attn_implementation", "eager"), ("use_peft", "false"),
        ("lora_target_modules", "all-linear"))],
    ({"do_eval": "true"}, "do_eval has no effect"),
])
def test_a_wrong_option_is_one_line_and_status_2(run, capsys, replaced, line):
    with pytest.raises(SystemExit) as stopped:
        run(**replaced)
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and error.count("\n") == 1
    assert error.startswith("python -m mosa.alignment: error: ")
    assert re.search(line, error), error


def test_nothing_is_saved_when_training_stops(run, monkeypatch, capsys):
    def align(*_):
        raise FloatingPointError("step 7: the loss is not finite")

    monkeypatch.setattr(command, "align", align)
    with pytest.raises(SystemExit):
        run()
    assert capsys.readouterr().err.endswith("error: step 7: the loss is not finite\n")
