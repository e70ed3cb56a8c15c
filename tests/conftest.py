"""One thread: these tensors are tiny, and a second thread only waits."""

import pytest
import torch
from running import edit

from mosa.pipeline import trial

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def quick(tmp_path_factory):
    """A copy of the tree in which the profile `quick` has run, with its search: one for all."""
    copy = trial.prepare("quick", tmp_path_factory.mktemp("quick") / "copy")
    edit(copy, "\nsearches: []", "\nsearches: [quick]")
    ran = trial.reproduce(copy)
    assert {"code", "data@quick", "align@quick-mosa", "index@quick"} <= ran
    return copy
