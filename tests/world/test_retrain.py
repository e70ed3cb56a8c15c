"""`make retrain` in a copy of the tree, of a seed shrunk to seconds: what a kill leaves of it."""

import json
import re
import shutil
import subprocess
import time

import psutil
import pytest
from changing import changed
from running import how

from mosa.pipeline import params, trial
from mosa.world import training

TINY = {"hidden_size": 16, "layers": 1, "heads": 2, "intermediate_size": 16}
FEW = {"check": 4, "steps": 4, "decay": 4, "batch_size": 2, "warmup": 2}  # two looks at the goal


@pytest.fixture
def copy(tmp_path):
    """A copy in which seed 0 is tiny and untrained, asked little, and stored after every step."""
    copy = trial.prepare("quick", tmp_path / "copy")
    shutil.rmtree(copy / "models/embedded-0")
    small = {name: values | (TINY if name == "architecture" else FEW)
             for name, values in params.read()["base-0"].items()}
    (copy / "params.yaml").write_text(json.dumps(changed(params.read(), "base-0", small)))
    for file, old, new in [("world/training", "every: float = 60.0", "every: float = 0.0"),
                           ("utility/goals", "\nN = 96 ", "\nN = 4 ")]:
        path = copy / f"mosa/{file}.py"
        text = path.read_text()
        assert text.count(old) == 1
        path.write_text(text.replace(old, new))
    return copy


def retrain(copy, stop=lambda: False):
    """Run what `make retrain` runs, and kill it once `stop` holds; the model: {file: bytes}."""
    command = params.stages()["base"]["cmd"].replace("${item.seed}", "0").split()
    place = how(copy)
    place["env"]["CUDA_VISIBLE_DEVICES"] = ""  # a GPU adds up in any order
    with subprocess.Popen(command, **place | {"stdout": subprocess.DEVNULL}) as run:
        while run.poll() is None and not stop():
            time.sleep(0.02)
        if run.returncode is None:  # the kernel has a session of its own: no group holds both
            for process in [*psutil.Process(run.pid).children(recursive=True), run]:
                process.kill()
    return {file.name: file.read_bytes() for file in (copy / "models/embedded-0").glob("*")}


def test_killed_training_goes_on_and_ends_in_the_same_bytes(copy):
    scratch = copy / ".scratch/base-0"
    whole = retrain(copy)
    assert {"model.safetensors", "training.json"} <= whole.keys()
    shutil.rmtree(copy / "models/embedded-0")
    shutil.rmtree(scratch)

    assert not retrain(copy, lambda: any(scratch.rglob("procedures.safetensors")))
    kept = {file.stem for file in scratch.rglob("*.safetensors")}
    assert {"facts", "places", "procedures"} <= kept < {*training.PHASES}
    assert retrain(copy) == whole
    log = (copy / "executed/base.0.ipynb").read_text()
    assert {*re.findall(r"(\w+): \d+ steps already done", log)} == kept
