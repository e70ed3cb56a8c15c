"""`dvc repro` with two stages side by side.

    python -m mosa.pipeline.repro               all stages, as `make` does
    python -m mosa.pipeline.repro tables        every stage of that name, and what it needs

A stage of few rows spends much of its time on imports, on one core, and a small model does 1.6
times as much in two processes of one thread as in one of two. What a stage prints stands in
.scratch/logs/<stage>.log.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from graphlib import TopologicalSorter
from pathlib import Path

from dvc.exceptions import DvcException
from dvc.repo import Repo

from mosa.pipeline import params
from mosa.pipeline.params import ParamsError, choice

SAID_EVERY = 60  # seconds


def environment(root: Path, threads: int = 1) -> dict[str, str]:
    """The environment in which commands run in a tree: this Python, its mosa, so many threads."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(root), "DVC_NO_ANALYTICS": "1",
            "OMP_NUM_THREADS": str(threads)}


def check(only: Sequence[str], lists: dict[str, list[str]]) -> None:
    """Raise ParamsError for a name that is no stage of dvc.yaml, and for a stage of which nothing
    would run with these lists, one of which is empty."""
    for name in only:
        if name not in (known := sorted(params.stages())):
            raise ParamsError(f"dvc.yaml: no stage {name!r}{choice(name, known)}")
        if empty := [axis for axis, words in params.axes(name, lists).items() if not words]:
            raise ParamsError(
                f"dvc.yaml: {name}: nothing would run: {params.stages()[name]['matrix'][empty[0]]} "
                "is empty (a trial of single stages trains no methods)")


def stages(root: Path, only: Sequence[str] = ()) -> dict[str, list[str]]:
    """What each stage of the tree waits for, by their names ("tap@quick-mosa"); only: names of
    stages in dvc.yaml, whose instances and what these need are all that is wanted."""
    with Repo(str(root)) as repo:
        graph = repo.index.graph
    waits_for = {stage.name: [other.name for other in graph[stage]] for stage in graph}
    needed = [name for name in waits_for if not only or name.partition("@")[0] in only]
    for name in needed:  # which grows
        needed += [other for other in waits_for[name] if other not in needed]
    return {name: waits_for[name] for name in needed}


def changed(root: Path, waits_for: dict[str, list[str]]) -> set[str]:
    """The stages that have changed, and all that wait for one of them."""
    found: set[str] = set()
    with Repo(str(root)) as repo, repo.lock:
        by_name = {stage.name: stage for stage in repo.index.stages}
        for name in TopologicalSorter(waits_for).static_order():
            if found & {*waits_for[name]} or by_name[name].changed():
                found.add(name)
    return found


def reproduce(root: Path, only: Sequence[str] = (), jobs: int = 2) -> list[str]:
    """Bring the stages up to date, up to `jobs` side by side; the names of those that ran.

    One that all others wait for when it begins has as many threads as there are jobs. Raises
    RuntimeError, in one line, for a stage that failed, when those beside it have ended.
    """
    waits_for = stages(root, only)
    todo = changed(root, waits_for)
    left = TopologicalSorter({name: todo & {*waits_for[name]} for name in todo})
    logs = root / ".scratch/logs"
    logs.mkdir(parents=True, exist_ok=True)
    repro = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item"]
    ran: list[str] = []
    begun: list[subprocess.Popen] = []

    def run(stage: str, threads: int) -> str:
        start, log = time.monotonic(), logs / f"{stage}.log"
        with log.open("w", encoding="utf-8") as file:
            process = subprocess.Popen(
                [*repro, stage], cwd=root, env=environment(root, threads), stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True)  # it and its children stop together
            begun.append(process)
            while (code := _ended(process)) is None:
                print(f"{stage}: {time.monotonic() - start:.0f} s {_last(log)}", flush=True)
        said = log.read_text("utf-8", errors="replace")
        if code:
            print(said)
            raise RuntimeError(f"{stage} stopped (see above; notebooks: {root / 'executed'}): mend "
                               "that and run it again, it goes on there")
        if f"Running stage '{stage}'" in said:
            ran.append(stage)
            print(f"{stage}: done, {time.monotonic() - start:.0f} s", flush=True)
        return stage

    left.prepare()
    running: set[Future[str]] = set()
    with ThreadPoolExecutor(jobs) as pool:
        try:
            while left.is_active():
                ready = left.get_ready()
                threads = jobs if len(ready) + len(running) == 1 else 1
                running |= {pool.submit(run, stage, threads) for stage in ready}
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                left.done(*[future.result() for future in ended])
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)  # start nothing more
            if not isinstance(error, RuntimeError):  # Ctrl-C: stop what runs, too
                for process in begun:
                    if process.poll() is None:
                        os.killpg(process.pid, signal.SIGINT)
            raise
    return ran


def _ended(process: subprocess.Popen) -> int | None:
    """Its exit status; None where it still runs after SAID_EVERY seconds."""
    try:
        return process.wait(SAID_EVERY)
    except subprocess.TimeoutExpired:
        return None


def _last(log: Path) -> str:
    """The end of what a stage has said: where its progress bar stands."""
    lines = log.read_text("utf-8", errors="replace").replace("\r", "\n").split("\n")
    return next((line.strip()[-100:] for line in reversed(lines) if line.strip()), "")


def command(main: Callable[[], None]) -> None:
    """Run a command's `main`; what it raises for a reader, and Ctrl-C, ends in one line.

    SIGINT and SIGTERM do as Ctrl-C does, in the background, too: there the first would be ignored,
    by the stages as well.
    """
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, signal.default_int_handler)
    try:
        main()
    except (ValueError, RuntimeError, OSError, DvcException) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("interrupted: run it again, it goes on where it was")


def _main() -> None:
    parser = argparse.ArgumentParser("python -m mosa.pipeline.repro", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", help="names of stages; all")
    options = parser.parse_args()
    start = time.monotonic()
    check(options.stages, params.lists())
    ran = reproduce(params.ROOT, options.stages)
    print(f"{len(ran)} stages ran in {(time.monotonic() - start) / 60:.1f} minutes" if ran
          else "everything is up to date")


if __name__ == "__main__":
    command(_main)
