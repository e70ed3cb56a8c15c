"""Requests in, responses out: one thread denoises, and takes together what fits together.

    engine = Engine(lm, batch_size=16)
    engine.submit([job := Job(canvas, settings, seed=0)])   # from any thread
    job.done.result()                                       # Response
    engine.close()

Jobs of one batch have the same settings, and each row its own seed, so a response does not depend
on what else is asked for at the time. An abandoned job costs nothing if it has not begun; a batch
ends at its next step when all of it are abandoned.
"""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

import torch

from mosa.lm.model import Canvas, DiffusionLM
from mosa.lm.sampler import denoise


@dataclass(frozen=True)
class Settings:
    """What the jobs of one batch share; names as in mosa.lm.sampler.denoise."""

    prompt_length: int  # tokens; rows of one length need no padding, which Fast asks for
    length: int
    steps: int
    block_length: int
    temperature: float
    remasking: str
    cfg_scale: float


@dataclass
class Response:
    """One denoised response."""

    ids: list[int]  # (L,)
    text: str
    forwards: int
    ended: bool  # whether it holds an EOS


@dataclass
class Job:
    """One response to be made."""

    canvas: torch.Tensor  # (P + L,) prompt and response slots, masked where they are to be filled
    settings: Settings
    seed: int = 0
    draft: Callable[[list[int]], None] | None = None  # called with the draft (L,) after every step
    done: Future = field(default_factory=Future)  # set by the engine, and cancelled by nobody
    abandoned: bool = False  # nobody waits for it


class Cancelled(Exception):
    """Nobody waits for this batch any more."""


class Full(Exception):
    """As many jobs wait as the engine lets wait."""


class Closed(Exception):
    """The engine ends: what waits is not served any more."""


class Engine:
    """A queue of jobs, and the thread that serves it."""

    def __init__(self, lm: DiffusionLM, batch_size: int = 16, waiting: int = 1024) -> None:
        self.lm, self.batch_size, self.waiting = lm, batch_size, waiting
        self.responses = self.forwards = 0  # made so far
        self._jobs: deque[Job] = deque()
        self._changed, self._open = threading.Condition(), True
        self._thread = threading.Thread(target=self._serve, name="denoise", daemon=True)
        self._thread.start()

    def submit(self, jobs: list[Job]) -> None:
        """Queue jobs, all or none. Raises Full or Closed."""
        with self._changed:
            if not self._open:
                raise Closed
            if len(self._jobs) + len(jobs) > self.waiting:
                raise Full
            self._jobs += jobs
            self._changed.notify()

    def close(self) -> None:
        """Finish the batch under way, end what waits with Closed, and end the thread."""
        with self._changed:
            self._open = False
            for job in self._jobs:
                job.done.set_exception(Closed())
            self._jobs.clear()
            self._changed.notify()
        self._thread.join()

    def _serve(self) -> None:
        while batch := self._next():
            try:
                found = self._denoised(batch)
            except Cancelled:
                continue
            except Exception as error:  # of this batch: the thread goes on
                for job in batch:
                    job.done.set_exception(error)
                continue
            for job, response in zip(batch, found, strict=True):
                job.done.set_result(response)

    def _next(self) -> list[Job]:
        """The oldest job and those behind it that fit; empty when the engine is closed."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._jobs or not self._open)
                if not self._jobs:
                    return []
                first, batch, rest = self._jobs[0].settings, [], deque()
                for job in self._jobs:
                    fits = job.settings == first and len(batch) < self.batch_size
                    if not fits:
                        rest.append(job)
                    elif not job.abandoned:
                        batch.append(job)
                self._jobs = rest
                if batch:
                    return batch

    def _denoised(self, batch: list[Job]) -> list[Response]:
        how = batch[0].settings
        ids = torch.stack([job.canvas for job in batch]).to(self.lm.device)
        canvas = Canvas(ids, torch.ones_like(ids), how.prompt_length)

        def step(draft: torch.Tensor) -> None:
            if all(job.abandoned for job in batch):
                raise Cancelled
            for job, row in zip(batch, draft):
                if job.draft:
                    job.draft(row.tolist())

        found = denoise(self.lm, canvas, how.steps, how.block_length, how.temperature,
                        how.remasking, how.cfg_scale, [job.seed for job in batch], on_step=step)
        self.responses += len(batch)
        self.forwards += int(found.forwards.sum())
        return [Response(row, text, forwards, self.lm.eos_id in row) for row, text, forwards in zip(
            found.ids.tolist(), found.texts, found.forwards.tolist(), strict=True)]
