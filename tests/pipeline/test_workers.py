"""Jobs in this process and in others: the same results, each from one thread."""

import math

import pytest
import torch

from mosa.pipeline.workers import side_by_side

THREADS = "__import__('torch').get_num_threads()"


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_order_each_from_one_thread(workers):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert side_by_side(eval, ["1 + 1", THREADS, "3"], workers, "sums") == [2, 1, 3]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_an_error_stops_what_has_not_begun():
    done = []

    def job(x):
        done.append(x)
        return math.sqrt(x)

    with pytest.raises(ValueError):
        side_by_side(job, [1, -1, 4], 1, "roots")
    assert done == [1, -1]
    with pytest.raises(ValueError):
        side_by_side(math.sqrt, [1, -1, 4], 2, "roots")
