import pytest
import torch

from mosa.bench import alignment_step as bench


def test_both_versions_compute_the_same_losses(monkeypatch):
    """At a vocabulary that leaves nothing to measure; the steps after the first see the update."""
    threads = torch.get_num_threads()
    for name, value in {"VOCABULARY": 200, "PROMPT": 4, "STEPS": 1}.items():
        monkeypatch.setattr(bench, name, value)
    ours, naive = bench.measure("ours"), bench.measure("naive")
    torch.set_num_threads(threads)
    assert ours["losses"] == pytest.approx(naive["losses"], abs=1e-3)
    assert len(ours["losses"]) == 2 and ours["seconds"] > 0
