"""The engine alone: what shares a batch, and what becomes of the jobs of a batch that fails."""

import threading

import pytest
from tiny_model import tiny

import mosa
from mosa.serve import engine
from mosa.serve.engine import Closed, Engine, Full, Job, Settings

SETTINGS = Settings(3, 8, 4, 8, 0.0, "low_confidence", 0.0)


@pytest.fixture(scope="module")
def lm():
    return tiny()


class Held:
    """denoise() that waits to be let go, and notes the batches it was given."""

    def __init__(self):
        self.sizes, self.begun, self.go_on = [], threading.Event(), threading.Event()

    def __call__(self, lm, canvas, *how, **more):
        self.sizes.append(len(canvas.ids))
        self.begun.set()
        assert self.go_on.wait(60)
        return mosa.denoise(lm, canvas, *how, **more)


@pytest.fixture
def held(monkeypatch):
    held = Held()
    monkeypatch.setattr(engine, "denoise", held)
    return held


def job(lm, settings=SETTINGS, **more):
    canvas = lm.canvas([lm.encode("how do i")], settings.length)
    return Job(canvas.ids[0], settings, **more)


def begun(lm, held, **more):
    """An engine that is busy with one job."""
    serving = Engine(lm, **more)
    first = job(lm)
    serving.submit([first])
    assert held.begun.wait(60)
    return serving, first


def test_jobs_of_the_same_settings_share_a_batch(lm, held):
    serving, first = begun(lm, held, batch_size=2)
    other = Settings(3, 8, 8, 8, 0.0, "low_confidence", 0.0)
    jobs = [job(lm), job(lm, other), job(lm), job(lm)]
    serving.submit(jobs)
    held.go_on.set()
    assert all(one.done.result(60) for one in [first, *jobs])
    assert held.sizes == [1, 2, 1, 1] and serving.responses == 5
    serving.close()


def test_abandoned_jobs_that_wait_cost_nothing(lm, held):
    serving, first = begun(lm, held)
    gone, stays = job(lm, abandoned=True), job(lm)
    serving.submit([gone, stays])
    held.go_on.set()
    assert stays.done.result(60) and first.done.done() and not gone.done.done()
    assert held.sizes == [1, 1]
    serving.close()


def test_a_batch_ends_when_nobody_waits_for_it(lm, held):
    serving, first = begun(lm, held)
    first.abandoned = True
    last = job(lm, seed=1)
    serving.submit([last])
    held.go_on.set()
    assert last.done.result(60) and not first.done.done() and serving.responses == 1
    serving.close()


def test_a_batch_that_fails_says_so_and_the_next_is_served(lm, monkeypatch):
    serving, error = Engine(lm), MemoryError("too much")

    def fails(*how, **more):
        monkeypatch.undo()
        raise error

    monkeypatch.setattr(engine, "denoise", fails)
    first, second = job(lm), job(lm)
    serving.submit([first])
    with pytest.raises(MemoryError):
        first.done.result(60)
    serving.submit([second])
    assert second.done.result(60)
    serving.close()


def test_a_closed_engine_ends_what_waits(lm, held):
    serving, first = begun(lm, held, waiting=1)
    waits = job(lm)
    serving.submit([waits])
    with pytest.raises(Full):
        serving.submit([job(lm)])
    closing = threading.Thread(target=serving.close)
    closing.start()
    with pytest.raises(Closed):
        waits.done.result(60)
    held.go_on.set()
    closing.join(60)
    assert first.done.result(0) and not closing.is_alive()
    with pytest.raises(Closed):
        serving.submit([job(lm)])
