"""Jobs side by side: processes of one thread each.

On two cores a small model does 1.6 times as much in two processes of one thread as in one process
of two, and what a job computes does not depend on how many run beside it. With a GPU use 1.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

import torch
from tqdm import tqdm

J, R = TypeVar("J"), TypeVar("R")  # a job and its result


def side_by_side(function: Callable[[J], R], jobs: Sequence[J], workers: int,
                 label: str) -> list[R]:
    """[function(job) for job in jobs] by `workers` processes (1: in this one), with a progress bar.

    `function` must be importable (defined in a module, not in a notebook), jobs and results
    picklable. A job should keep what it has finished in .scratch/: the first error stops the rest.
    """
    bar = tqdm(total=len(jobs), desc=label, mininterval=10, delay=10, file=sys.stderr)
    if workers == 1:
        threads, found = torch.get_num_threads(), []
        torch.set_num_threads(1)
        try:
            with bar:
                for job in jobs:
                    found.append(function(job))
                    bar.update()
        finally:
            torch.set_num_threads(threads)
        return found
    with bar, ProcessPoolExecutor(workers, get_context("spawn"), _prepare) as pool:
        futures = [pool.submit(function, job) for job in jobs]
        for future in futures:
            future.add_done_callback(lambda _: bar.update())
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _prepare() -> None:
    """One thread, and no life without the parent: a killed stage leaves nobody who goes on
    writing its files."""
    torch.set_num_threads(1)
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
