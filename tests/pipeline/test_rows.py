import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from mosa.pipeline import params
from mosa.pipeline import rows as rows_module
from mosa.pipeline.rows import (
    code,
    done,
    fingerprint,
    read_jsonl,
    resumable_map,
    rounded,
    write_json,
    write_jsonl,
)
from mosa.pipeline.sections import Size


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(params, "ROOT", tmp_path)
    return tmp_path


CHUNKS = [[{"id": 3 * i + j} for j in range(3)] for i in range(5)]


class Killed(Exception):
    pass


class Work:
    """Squares ids; counts its calls; dies before the given call."""

    def __init__(self, dies_at=None):
        self.calls, self.dies_at = [], dies_at

    def __call__(self, chunk):
        if len(self.calls) == self.dies_at:
            raise Killed
        self.calls.append(chunk)
        return [{"id": row["id"], "square": row["id"] ** 2, "pair": (1, 2)} for row in chunk]


EXPECTED = [{"id": i, "square": i * i, "pair": [1, 2]} for i in range(15)]


def scratch(root):
    [path] = (root / ".scratch").rglob("*.jsonl")
    return path


def test_rows_come_in_order_as_json_gives_them():
    assert resumable_map(Work(), CHUNKS, "s", "k", "working") == EXPECTED


def test_resume_repeats_nothing_and_gives_the_same_rows(capsys):
    with pytest.raises(Killed):
        resumable_map(Work(dies_at=3), CHUNKS, "s@quick", "k", "working")
    assert "already" not in capsys.readouterr().out
    second = Work()
    assert resumable_map(second, CHUNKS, "s@quick", "k", "working") == EXPECTED
    assert second.calls == CHUNKS[3:]
    assert "working: 3 of 5 already done" in capsys.readouterr().out
    third = Work()
    assert resumable_map(third, CHUNKS, "s@quick", "k", "working") == EXPECTED
    assert third.calls == []


@pytest.mark.parametrize("lost", [1, 5, 40])
def test_a_torn_last_line_is_computed_again(root, lost):
    resumable_map(Work(), CHUNKS, "s", "k", "working")
    whole = scratch(root).read_bytes()
    scratch(root).write_bytes(whole[:-lost])
    work = Work()
    assert resumable_map(work, CHUNKS, "s", "k", "working") == EXPECTED
    assert work.calls == CHUNKS[4:]
    assert scratch(root).read_bytes() == whole


def test_another_key_or_stage_starts_afresh():
    resumable_map(Work(), CHUNKS, "s", "k", "working")
    for stage, key in (("s", "other"), ("other", "k")):
        work = Work()
        resumable_map(work, CHUNKS, stage, key, "working")
        assert len(work.calls) == 5


def test_other_chunks_under_the_same_key_are_not_mixed_up():
    resumable_map(Work(), CHUNKS, "s", "k", "working")
    rows = [row for chunk in CHUNKS for row in chunk]
    regrouped = [CHUNKS[0], rows[3:8], rows[8:15]]
    work = Work()
    assert resumable_map(work, regrouped, "s", "k", "working") == EXPECTED
    assert work.calls == regrouped[1:]


def test_fewer_chunks_give_fewer_rows():
    resumable_map(Work(), CHUNKS, "s", "k", "working")
    work = Work()
    assert resumable_map(work, CHUNKS[:2], "s", "k", "working") == EXPECTED[:6]
    assert work.calls == []


def test_done_forgets_the_whole_stage_and_no_other(root):
    for stage, key in (("s", "k1"), ("s", "k2"), ("s/part", "k3"), ("t", "k4")):
        resumable_map(Work(), CHUNKS, stage, key, "working")
    done("s")
    assert scratch(root).name == "k4.jsonl"
    done("s")  # twice is no error


def test_a_result_that_is_no_rows_is_refused():
    with pytest.raises(ValueError, match="must be a list of dict rows"):
        resumable_map(lambda chunk: {"a": 1}, CHUNKS, "s", "k", "working")
    with pytest.raises(ValueError, match="not JSON compliant"):
        resumable_map(lambda chunk: [{"a": math.nan}], CHUNKS, "s", "k", "working")


def test_progress_goes_to_stderr_and_is_brief(capsys, monkeypatch):
    chunks = [[{"id": i}] for i in range(200)]
    resumable_map(Work(), chunks, "s", "k", "short")
    assert capsys.readouterr() == ("", "")  # over before a bar is worth a line
    tqdm = rows_module.tqdm
    monkeypatch.setattr(rows_module, "tqdm", lambda **given: tqdm(**given | {"delay": 1e-9}))
    resumable_map(Work(), chunks, "t", "k", "long")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "long" in captured.err and captured.err.count("\r") < 5


def test_chunks_side_by_side_come_back_in_order_and_stop_at_an_error(root):
    def late(chunk):  # the first chunk is the last to end
        time.sleep(0.2 if chunk == CHUNKS[0] else 0)
        return Work()(chunk)

    assert resumable_map(late, CHUNKS, "s", "k", "working", workers=3) == EXPECTED

    def failing(chunk):
        if chunk == CHUNKS[1]:
            raise RuntimeError("at one")
        return late(chunk)

    with pytest.raises(RuntimeError, match="at one"):
        resumable_map(failing, CHUNKS, "s", "k2", "working", workers=2)
    work = Work()
    assert resumable_map(work, CHUNKS, "s", "k2", "working") == EXPECTED
    assert work.calls == CHUNKS[1:]  # what came before the error was kept


def test_kill_minus_nine_loses_at_most_the_chunk_in_hand(root):
    script = f"""
import time
from pathlib import Path
from mosa.pipeline import params
from mosa.pipeline import rows as rows_module
from mosa.pipeline.rows import resumable_map
params.ROOT = Path({str(root)!r})
def work(chunk):
    if chunk[0]["id"] == 9:
        print("at nine", flush=True)
        time.sleep(60)
    time.sleep(0.1)
    return [{{"id": row["id"], "square": row["id"] ** 2, "pair": [1, 2]}} for row in chunk]
resumable_map(work, {CHUNKS!r}, "s", "k", "working")
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL)
    assert process.stdout.readline() == b"at nine\n"
    limit = time.monotonic() + 20  # the third chunk is written while the fourth is computed
    while len(scratch(root).read_text().splitlines()) < 3 and time.monotonic() < limit:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    work = Work()
    assert resumable_map(work, CHUNKS, "s", "k", "working") == EXPECTED
    assert work.calls == CHUNKS[3:]


def test_fingerprint_depends_on_every_part_and_their_order():
    prints = [fingerprint(*parts) for parts in
              ([], ["a"], ["b"], ["a", "b"], ["b", "a"], ["ab"], [["a", "b"]], [1], [1.0], ["1"],
               [{"x": 1}], [{"x": 2}], [{"y": 1}])]
    assert len(set(prints)) == len(prints)
    assert fingerprint({"x": 1, "y": 2}) == fingerprint({"y": 2, "x": 1})


def test_fingerprint_of_files_and_folders_is_that_of_their_contents(root):
    for name in ("one", "two"):
        (root / name / "deep").mkdir(parents=True)
        (root / name / "deep/a").write_text("text")
        (root / name / "b").write_text("more")
    one, two = root / "one", root / "two"
    assert fingerprint(one) == fingerprint(two)
    assert fingerprint(one / "b") == fingerprint(two / "b") != fingerprint(one / "deep/a")
    before = fingerprint({"inputs": [one]})
    (one / "deep/a").write_text("texT")
    assert fingerprint({"inputs": [one]}) != before
    (one / "deep/a").write_text("text")
    assert fingerprint({"inputs": [one]}) == before
    (one / "deep/a").rename(one / "deep/c")
    assert fingerprint({"inputs": [one]}) != before
    (one / "deep/c").rename(one / "a")
    assert fingerprint({"inputs": [one]}) != before


def test_fingerprint_of_sections_and_dataclasses():
    @dataclasses.dataclass
    class Config:
        n: int

    assert fingerprint(Size(n=1)) != fingerprint(Size(n=2))
    assert fingerprint(Config(1)) != fingerprint(Config(2))
    assert fingerprint(Config(1)) == fingerprint(Config(1))
    with pytest.raises(TypeError, match="no fingerprint for set: give"):
        fingerprint({1, 2})
    with pytest.raises(FileNotFoundError, match="is missing"):
        fingerprint(params.ROOT / "gone")


def test_jsonl_round_trip(root):
    rows = [{"b": "é\n ", "a": 1}, {"a": [1.5, None]}]
    path = write_jsonl("results/quick/x/rows.jsonl", rows)
    assert path == root / "results/quick/x/rows.jsonl"
    assert path.read_text("utf-8").startswith('{"a": 1, "b": "é')
    assert read_jsonl("results/quick/x/rows.jsonl") == rows
    write_jsonl(path, [])
    assert read_jsonl(path) == []


def test_a_failed_write_leaves_the_old_file_and_no_other(root):
    path = write_jsonl("rows.jsonl", [{"a": 1}])
    with pytest.raises(ValueError, match="JSON compliant"):
        write_jsonl("rows.jsonl", [{"a": 2}, {"a": math.inf}])
    assert read_jsonl(path) == [{"a": 1}]
    assert list(root.iterdir()) == [path]


def test_a_failed_rename_leaves_the_old_file_and_no_other(root, monkeypatch):
    path = write_jsonl("rows.jsonl", [{"a": 1}])

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match=r"cannot write .*rows\.jsonl \(No space left on device\)"):
        write_jsonl("rows.jsonl", [{"a": 2}])
    assert list(root.iterdir()) == [path]
    assert read_jsonl(path) == [{"a": 1}]


def test_a_place_that_cannot_be_written_is_one_line(root):
    folder = root / "locked"
    folder.mkdir(mode=0o555)
    user = os.geteuid()
    if user == 0:  # root may write anywhere
        os.seteuid(65534)
    try:
        for action in (
            lambda: write_jsonl("locked/rows.jsonl", []),
            lambda: write_json("locked/deeper/numbers.json", {}),
            lambda: resumable_map(Work(), CHUNKS, "../locked/s", "k", "working"),
        ):
            with pytest.raises(PermissionError, match=r"^cannot write .*locked.*writable") as error:
                action()
            assert "\n" not in str(error.value)
    finally:
        os.seteuid(user)


def test_a_broken_row_is_named(root):
    (root / "rows.jsonl").write_text('{"a": 1}\n{"a": \n')
    with pytest.raises(ValueError, match=r"rows\.jsonl:2: is not JSON"):
        read_jsonl("rows.jsonl")
    with pytest.raises(FileNotFoundError, match="dvc repro data@quick"):
        read_jsonl("results/quick/data/rows.jsonl")


def test_numbers_are_rounded_and_written_sorted(root):
    numbers = {"z": np.float32(1 / 3), "a": {"k": np.int64(3), 2: 1.23456789e-12},
               "list": [0.1 + 0.2, None, True]}
    path = write_json("results/quick/prefill/numbers.json", rounded(numbers, "prefill"))
    assert path == root / "results/quick/prefill/numbers.json"
    stored = {"a": {"k": 3, "2": 1.23457e-12}, "list": [0.3, None, True], "z": 0.333333}
    assert json.loads(path.read_text()) == stored
    assert list(json.loads(path.read_text())) == ["a", "list", "z"]


def test_a_number_that_is_not_finite_is_named():
    with pytest.raises(ValueError, match=r"prefill\.a\.p is nan"):
        rounded({"a": {"p": np.float64("nan")}}, "prefill")
    with pytest.raises(ValueError, match=r"prefill\.a\.1 is inf"):
        rounded({"a": [0, math.inf]}, "prefill")


def test_code_depends_on_the_modules_and_all_they_reach():
    sampler = code("mosa.lm.sampler")
    assert code("mosa.lm.sampler") == sampler == code("mosa.lm.sampler", "mosa.lm.diffusion")
    assert len({sampler, code("mosa.lm.diffusion"), code("mosa.stats")}) == 3
    with pytest.raises(ValueError, match=r"no module mosa\.sampler; did you mean 'mosa\.lm\.samp"):
        code("mosa.sampler")
