"""The rows of a sweep are the same whoever works on it, and nothing is asked twice."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mosa.attacks import sweep as module
from mosa.attacks import tap
from mosa.attacks.drive import each_form, first_step, user
from mosa.attacks.guildhelper import GuildHelper
from mosa.attacks.sweep import Compute, added, over_ray, sweep
from mosa.pipeline import params
from mosa.pipeline.rows import done
from mosa.pipeline.sections import Sampler
from mosa.target import Target, Weights, base
from mosa.world import requests as world

HERE = params.ROOT
SAMPLER = Sampler(length=24, steps=8, block_length=24, temperature=0.0, cfg_scale=0.0,
                  remasking="low_confidence", stop_at_eos=True, batch_size=4)
HELPER = partial(GuildHelper)
in_turn = pytest.mark.xdist_group("sweep")  # they start processes of their own
needs_ray = pytest.mark.skipif(not find_spec("ray"), reason="Ray is not installed: pip install ray")


class Echo(Target):
    """A target that echoes; it notes who asked for what."""

    log, limit = [], None  # limit: waves that it answers before it is killed
    lm = None

    def generate(self, requests, sampler, part="", seed=0):
        if len(self.log) == self.limit:
            raise KeyboardInterrupt
        self.log.append((self.stage, part, len(requests)))
        self.queries += len(requests)
        self.forwards += 4 * len(requests)
        return [{"request": r, "response": {"text": f"echo {r['messages'][-1]['content']}",
                                            "forwards": 4}, "verdicts": {}} for r in requests]


def scripted(target, behaviours, helper, cfg, sampler):
    """Asks as often as a behaviour wants; returns all of it, from the second query on."""
    def attack(behaviour, helper, form, cfg):
        found = []
        for i in range(behaviour["wants"]):
            found += yield [user(f"{form} {i} {said['response']['text']}" if found else form)
                            for said in found[-2:] or [None]]
        return found[1:]

    both = SimpleNamespace(forms=["a", "b"])
    return each_form("scripted", attack, {"a": "A0", "b": "A0"}, target, behaviours, None, both,
                     sampler)


@pytest.fixture
def echo(monkeypatch, tmp_path):
    """Makes targets that echo, for the scripted attack."""
    monkeypatch.setattr(params, "ROOT", tmp_path)
    monkeypatch.setattr(module, "code", lambda *names: "")
    monkeypatch.setitem(sys.modules, "mosa.attacks.scripted", SimpleNamespace(run=scripted))
    monkeypatch.setattr(Echo, "log", [])
    return lambda stage="stage": Echo("mosa", Weights("w", "nowhere", "float32"), None, stage)


def wanting(*counts):
    return [{"id": f"b{i}", "wants": n, **user("x")} for i, n in enumerate(counts)]


def swept(target, behaviours, cfg=None, **compute):
    return sweep("scripted", target, behaviours, HELPER, cfg or tap.Config(), SAMPLER,
                 Compute(**compute))


def by_behaviour(rows, behaviours):
    return [row for b in behaviours for row in rows if row["request"]["id"] == b["id"]]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture],
          deadline=None)
@given(counts=st.lists(st.integers(0, 4), max_size=7), shard=st.integers(1, 8))
def test_any_partition_finds_the_same(echo, counts, shard):
    behaviours, whole, parts = wanting(*counts), echo(), echo(f"{shard}-{counts}")
    wanted = scripted(whole, behaviours, None, None, SAMPLER)
    found = swept(parts, behaviours, shard=shard)
    assert found.rows == by_behaviour(wanted.rows, behaviours)
    assert found.queries == by_behaviour(wanted.queries, behaviours)
    assert (parts.queries, parts.forwards) == (whole.queries, whole.forwards)
    assert parts.queries == len(found.queries)


def test_costs_add_to_what_the_target_has_counted(echo):
    target = echo()
    target.queries, target.forwards = 7, 70
    swept(target, wanting(0, 0), shard=1)
    assert (target.queries, target.forwards) == (7 + 4, 70 + 16)


def test_shards_advance_apart_and_are_kept_until_the_stage_is_done(echo, tmp_path):
    target = echo("stage@x")
    swept(target, wanting(0, 0, 0), shard=2)
    assert target.log == [("stage@x/shard-000", "a-wave-000", 2),
                          ("stage@x/shard-000", "b-wave-000", 2),
                          ("stage@x/shard-001", "a-wave-000", 1),
                          ("stage@x/shard-001", "b-wave-000", 1)]
    assert len(list((tmp_path / ".scratch/stage@x").glob("shard-*/*.jsonl"))) == 2
    done("stage@x")
    assert not list((tmp_path / ".scratch").rglob("*.jsonl"))


def test_a_finished_shard_is_read_back_and_counted_once(echo, monkeypatch):
    behaviours = wanting(2, 1, 3)
    wanted = swept(echo("whole"), behaviours, shard=1)
    Echo.log.clear()
    monkeypatch.setattr(Echo, "limit", 5)
    with pytest.raises(KeyboardInterrupt):
        swept(echo(), behaviours, shard=1)
    monkeypatch.setattr(Echo, "limit", None)
    Echo.log.clear()
    target = echo()
    assert swept(target, behaviours, shard=1) == wanted
    assert {stage for stage, _, _ in Echo.log} == {"stage/shard-001", "stage/shard-002"}
    assert target.queries == len(wanted.queries)


@pytest.mark.parametrize("change", ["cfg", "helper", "endpoint", "shard", "model"])
def test_another_sweep_uses_nothing_of_this_one(echo, change, monkeypatch):
    behaviours = wanting(0, 0)
    swept(echo(), behaviours, shard=2)
    Echo.log.clear()
    assert swept(echo(), behaviours, shard=2).rows and not Echo.log  # the same one does
    target, cfg = echo(), tap.Config(depth=3 if change == "cfg" else 10)
    if change == "endpoint":
        monkeypatch.setenv("MOSA_HELPER_MODEL", "another")
    if change == "helper":
        monkeypatch.setitem(globals(), "HELPER", partial(dict, GuildHelper=1))
    if change == "model":
        target.weights = Weights("other", "nowhere", "float32")
    swept(target, behaviours, cfg, shard=1 if change == "shard" else 2)
    assert sum(n for _, _, n in Echo.log) == 4


def test_an_id_is_attacked_once_in_all_shards(echo):
    with pytest.raises(ValueError, match="one id"):
        swept(echo(), wanting(1) * 2, shard=1)


@pytest.mark.parametrize("name", ["avatar", None])
def test_rows_of_another_attacks_name_are_refused(echo, name, monkeypatch, tmp_path):
    def run(*args, **kwargs):
        found = scripted(*args, **kwargs)
        found.rows[0]["request"]["attack"] = name
        return found

    monkeypatch.setattr(sys.modules["mosa.attacks.scripted"], "run", run)
    said = rf"^mosa\.attacks\.scripted: .*{name!r}.*write each_form\('scripted', \.\.\.\)$"
    with pytest.raises(ValueError, match=said):
        swept(echo(), wanting(2))
    assert not [file for file in tmp_path.rglob("*.jsonl") if file.stat().st_size]


def test_what_else_an_attack_takes_is_made_for_every_shard(echo, monkeypatch):
    def run(target, behaviours, helper, cfg, sampler, proxy):
        assert isinstance(helper, GuildHelper)
        return scripted(target, [b | proxy for b in behaviours], helper, cfg, sampler)

    monkeypatch.setattr(sys.modules["mosa.attacks.scripted"], "run", run)
    for wanted in (2, 3):  # and another one is another sweep
        found = sweep("scripted", echo(), wanting(0, 0), HELPER, tap.Config(), SAMPLER,
                      Compute(shard=1), proxy=partial(dict, wants=wanted))
        assert {row["request"]["wants"] for row in found.rows} == {wanted}


def test_tallies_of_shards_are_added_by_task():
    one = {"task": "score", "answers": 3, "unreadable": 1, "refused": 0}
    other = one | {"task": "prompt"}
    assert added([one, other, one]) == [one | {"answers": 6, "unreadable": 2}, other]


def test_without_ray_the_error_says_what_to_do(echo, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"compute\.executor.*`pip install ray`.*to local"):
        swept(echo(), wanting(1), executor="ray")


# --- the shipped model ---------------------------------------------------------------------------


def guild(n=5):
    rows = world.requests("sealed_a", n)
    return [row | user(row["behaviour"]) | {"seed": i} for i, row in enumerate(rows)]


def attack(stage, sampler=SAMPLER, **compute):
    """TAP on five behaviours; the target with its costs, too."""
    target = base("embedded-0", "float32", stage)
    found = sweep("tap", target, guild(), HELPER, tap.Config(depth=2, branching=2, width=2),
                  sampler, Compute(**compute))
    return found, target.queries, target.forwards


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """An empty project but for the models."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "models").symlink_to(HERE / "models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(params, "ROOT", folder)
        yield


@pytest.mark.parametrize("how", [{}, {"temperature": 1.0}, {"remasking": "annealed"}])
def test_responses_of_the_shipped_model_do_not_depend_on_who_shares_a_batch(
        models, how):
    sampler = SAMPLER.model_copy(update=how)
    whole = attack("whole", sampler, shard=9)
    assert whole == attack("alone", sampler, shard=1)
    assert len(whole[0].rows) == 5 and whole[1] == len(whole[0].queries) > 10


def test_its_likelihoods_do_not_depend_on_threads(models):
    target, threads, found = base("embedded-0", "float32"), torch.get_num_threads(), []
    queries = [row | {"phrase": "sure , here", "position": 5} for row in guild(8)]
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            found.append(first_step(target, queries, SAMPLER))
    finally:
        torch.set_num_threads(threads)
    assert found[0] == found[1]


# --- processes -----------------------------------------------------------------------------------

TRAPS = '''"""TAP, with a trap for the worker of the second shard, sprung once."""
import os, signal, time
from mosa.attacks import tap
from mosa.attacks.drive import each_form
from mosa.pipeline.params import ROOT

def run(target, behaviours, helper, cfg, sampler):
    with open(ROOT / "began", "a") as file:
        file.write(f"{target.stage} {os.getpid()}\\n")

    class Trapped:
        lm = property(lambda self: target.lm)

        def generate(self, requests, sampler, part):
            rows = target.generate(requests, sampler, part)
            trap = ROOT / "kill"
            if target.stage.endswith("shard-001") and part.endswith("wave-001"):
                if trap.exists():
                    trap.unlink()
                    os.kill(os.getpid(), signal.SIGKILL)
                while (ROOT / "hang").exists():
                    time.sleep(0.1)
            return rows

    return each_form("trapped", tap.attack, tap.FORMS, Trapped(), behaviours, helper, cfg, sampler)
'''
SCRIPT = '''import json, sys
from functools import partial
from pathlib import Path
from mosa.attacks import tap
from mosa.attacks.guildhelper import GuildHelper
from mosa.attacks.sweep import Compute, sweep
from mosa.pipeline.sections import Sampler
from mosa.target import base

if __name__ == "__main__":
    given = json.loads(Path("given.json").read_text())
    target = base("embedded-0", "float32", "stage")
    found = sweep(sys.argv[1], target, given["behaviours"], partial(GuildHelper),
                  tap.Config(depth=2, branching=2, width=2), Sampler(**given["sampler"]),
                  Compute(executor=sys.argv[2], workers=int(sys.argv[3]), shard=2))
    Path("found.json").write_text(json.dumps(
        [vars(found), target.queries, target.forwards]))
'''


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the code, with a trapped attack and a script that sweeps."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(HERE / "mosa", folder / "mosa", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "models").symlink_to(HERE / "models")
    (folder / "mosa/attacks/trapped.py").write_text(TRAPS)
    (folder / "script.py").write_text(SCRIPT)
    (folder / "given.json").write_text(json.dumps({"behaviours": guild(),
                                                   "sampler": SAMPLER.model_dump()}))
    return folder


@pytest.fixture
def start(project):
    """Starts the script; everything of it that still runs is killed at the end."""
    for name in ("began", "found.json", "kill", "hang"):
        (project / name).unlink(missing_ok=True)
    shutil.rmtree(project / ".scratch", ignore_errors=True)
    started = []

    def start(*arguments):
        started.append(subprocess.Popen(
            [sys.executable, "script.py", *arguments], cwd=project, text=True,
            stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(project)}))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def result(process, project):
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said[-3000:]
    return json.loads((project / "found.json").read_text())


@pytest.fixture(scope="module")
def here(models):
    """What this process finds."""
    found, *costs = attack("stage", shard=2)
    return [vars(found), *costs]


@pytest.fixture(scope="module")
def trapped(here):
    """The same, by the name of the trapped attack."""
    return json.loads(json.dumps(here).replace('"attack": "tap"', '"attack": "trapped"'))


def began(project, shard):
    """Processes that have begun a shard, in order."""
    lines = (project / "began").read_text().split("\n") if (project / "began").exists() else []
    return [line.split()[1] for line in lines if shard in line]


@in_turn
def test_two_processes_give_the_rows_of_this_one(start, project, here):
    assert result(start("tap", "local", "2"), project) == here


@in_turn
@needs_ray
def test_two_ray_workers_give_the_rows_of_this_process_and_a_killed_one_loses_nothing(
        start, project, trapped):
    (project / "kill").touch()
    assert result(start("trapped", "ray", "2"), project) == trapped
    assert not (project / "kill").exists()
    assert [len(began(project, f"shard-00{i}")) for i in range(3)] == [1, 2, 1]
    assert len({*began(project, "shard-001")}) == 2


@in_turn
@needs_ray
def test_a_killed_driver_goes_on_from_its_finished_shards(start, project, trapped):
    (project / "hang").touch()
    driver = start("trapped", "ray", "2")
    kept = project / ".scratch/stage"
    until(lambda: all(list(kept.glob(f"shard-00{i}/*.jsonl")) and
                      next(kept.glob(f"shard-00{i}/*.jsonl")).stat().st_size for i in (0, 2)))
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    [worker] = began(project, "shard-001")
    until(lambda: not Path(f"/proc/{worker}").exists())  # no life without the driver
    (project / "hang").unlink()
    assert result(start("trapped", "ray", "2"), project) == trapped
    assert [len(began(project, f"shard-00{i}")) for i in range(3)] == [1, 2, 1]


def until(condition):
    end = time.time() + 120
    while not condition():
        assert time.time() < end
        time.sleep(0.1)


# --- Ray alone -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster():
    """Two CPUs, and two cards that are none."""
    import ray

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init("local", num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False,
                 object_store_memory=80 * 2**20)
        yield
        ray.shutdown()


@in_turn
@needs_ray
def test_each_task_has_a_card_and_a_thread_and_results_come_in_order(cluster, tmp_path):
    def job(i):
        import os
        import time

        import torch
        (tmp_path / f"{i}").touch()
        while len(list(tmp_path.iterdir())) < 2:  # two run at once
            time.sleep(0.01)
        time.sleep(0.2 if i == 0 else 0)
        return i, os.environ["CUDA_VISIBLE_DEVICES"], torch.get_num_threads()

    found = over_ray(job, range(4), 2, "jobs")
    assert [(i, threads) for i, _, threads in found] == [(i, 1) for i in range(4)]
    assert {found[0][1], found[1][1]} == {"0", "1"}


@in_turn
@needs_ray
def test_what_a_worker_raises_arrives_and_nothing_else_begins(cluster, tmp_path):
    def job(i):
        (tmp_path / f"{i}").touch()
        if i == 1:
            raise PermissionError("b1: a likelihood needs A3")

    with pytest.raises(PermissionError, match=r"^b1: a likelihood needs A3$"):
        over_ray(job, range(9), 1, "jobs")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["0", "1"]


@in_turn
@needs_ray
def test_a_job_that_kills_every_worker_is_given_up(cluster, tmp_path, monkeypatch):
    def job(_):
        import os
        with open(tmp_path / "lives", "a") as file:
            file.write("x")
        os.kill(os.getpid(), 9)

    monkeypatch.setattr(module, "RETRIES", 1)
    with pytest.raises(RuntimeError, match=r"^jobs: a job has lost 2 workers"):
        over_ray(job, [0], 2, "jobs")
    assert (tmp_path / "lives").read_text() == "xx"
