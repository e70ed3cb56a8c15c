"""Stages side by side: each after what it needs, nothing twice, nothing left running."""

import os
import signal
import time
from threading import Thread

import pytest

from mosa.pipeline import params, repro
from mosa.pipeline.params import ParamsError

STAGES = """\
stages:
  first: {cmd: "echo 1 > one", outs: [one]}
  left: {cmd: "cat one > two", deps: [one], outs: [two]}
  right: {cmd: "cat one > three && %s", deps: [one], outs: [three]}
  last: {cmd: "cat two three > four; printf $OMP_NUM_THREADS > six", deps: [two, three, five],
         outs: [four, six]}
  own: {cmd: "printf $OMP_NUM_THREADS > five", outs: [five]}
"""


@pytest.fixture
def tree(tmp_path):
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    no_scm = true\n")
    return tmp_path


def test_stages_run_side_by_side_each_after_what_it_needs(tree, capsys):
    (tree / "dvc.yaml").write_text(STAGES % "false")
    with pytest.raises(RuntimeError, match=r"^right stopped .* goes on there$"):
        repro.reproduce(tree)
    assert "failed to run: cat one > three" in capsys.readouterr().out
    assert not (tree / "four").exists()
    (tree / "dvc.yaml").write_text(STAGES % "true")
    assert {"right", "last"} <= set(repro.reproduce(tree)) <= {"right", "last", "own", "left"}
    assert (tree / "four").read_text() == "1\n1\n"
    assert [(tree / name).read_text() for name in ("five", "six")] == ["1", "2"]  # six: alone


def test_what_is_up_to_date_is_not_even_started(tree, monkeypatch):
    (tree / "dvc.yaml").write_text(STAGES % "true")
    assert len(repro.reproduce(tree)) == 5
    monkeypatch.setattr(repro.subprocess, "Popen", None)
    assert repro.reproduce(tree) == []
    (tree / "two").write_text("other")
    assert repro.changed(tree, repro.stages(tree)) == {"left", "last"}


def test_stages_by_name_and_what_they_need(tree):
    (tree / "dvc.yaml").write_text(STAGES % "true" + """\
  many: {matrix: {a: [x, y]}, cmd: "cat two > ${item.a}", deps: [two], outs: ["${item.a}"]}
""")
    wanted = {"first": [], "left": ["first"], "many@x": ["left"], "many@y": ["left"]}
    assert repro.stages(tree, ["many"]) == wanted
    assert set(repro.reproduce(tree, ["many"])) == {*wanted}


def test_stages_that_are_none_or_of_which_nothing_would_run_are_refused(tree, monkeypatch):
    (tree / "dvc.yaml").write_text("""stages:
  second: {cmd: a}
  align: {matrix: {method: "${methods}"}, cmd: a}
  first: {cmd: a}
""")
    monkeypatch.setattr(params, "ROOT", tree)
    repro.check(["first", "align"], {"methods": ["mosa"]})
    with pytest.raises(ParamsError, match=r"^dvc.yaml: no stage 'alig'; did you mean 'align'"):
        repro.check(["alig"], {"methods": []})
    with pytest.raises(ParamsError, match=r"no stage 'x'; known: align, first, second$"):
        repro.check(["first", "x"], {"methods": []})
    with pytest.raises(ParamsError, match=r"align: nothing would run: \${methods} is empty"):
        repro.check(["align"], {"methods": []})


def test_a_long_stage_says_how_far_it_is(tree, monkeypatch, capsys):
    monkeypatch.setattr(repro, "SAID_EVERY", 0.2)
    (tree / "dvc.yaml").write_text(
        r"""stages: {slow: {cmd: 'printf "1 of 9\r5 of 9\r"; sleep 4; echo; echo end'}}""")
    assert repro.reproduce(tree) == ["slow"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("slow: done, ")
    assert any(line.endswith(" s 5 of 9") for line in lines)


@pytest.fixture
def interruptible():
    """Ctrl-C is heard, which a shell's background job ignores."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupted_run_leaves_nothing_running(tree, interruptible):
    (tree / "dvc.yaml").write_text('stages: {slow: {cmd: "echo $$ > begun; exec sleep 300"}}')
    begun = tree / "begun"

    def interrupt():
        while not (begun.exists() and begun.read_text()):
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        repro.reproduce(tree)
    with pytest.raises(ProcessLookupError):
        os.kill(int(begun.read_text()), 0)
