"""One thread: these tensors are tiny, and a second thread only waits."""

import os
import shutil

import pytest
import torch
from filelock import FileLock

from mosa.pipeline import trial
from mosa.pipeline.repro import reproduce

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def run_of_quick(tmp_path_factory):
    """A copy of the tree in which the profile `quick` has run, with its search: one run for all
    processes."""
    folder = tmp_path_factory.getbasetemp()
    folder = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "run_of_quick"
    with FileLock(f"{folder}.lock"):
        if not (folder / "ran").exists():
            trial.prepare("quick", folder)
            ran = reproduce(folder)
            assert {"code", "data@quick", "align@quick-mosa", "index@quick"} <= {*ran}
            (folder / "ran").touch()
    return folder


@pytest.fixture(scope="module")
def quick(run_of_quick, tmp_path_factory):
    """A copy of it, for tests that change it."""
    return shutil.copytree(run_of_quick, tmp_path_factory.mktemp("quick") / "copy")
