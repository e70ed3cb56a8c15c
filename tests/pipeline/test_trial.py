import subprocess
import sys

import pytest
from dvc.utils.serialize import load_yaml

from mosa.pipeline import params, trial
from mosa.pipeline.params import ParamsError

PARAMS = """# which
profiles: [embedded]   # of the blocks below
models: [original,
  mosa]
methods: [mosa]
attacks: []
attacked: []
judges: []
benchmarks: [a, b]
searches: []
embedded:   # kept
  x: {n: 1e-3}
quick: {x: {n: 1}, lists: {models: [original], benchmarks: []}}
wrong: {lists: {model: []}}
worse: {lists: {models: [a b]}}
base-0: {}
"""

DVC = """stages:
  b: {matrix: {profile: "${profiles}"}, cmd: x}
  align: {matrix: {profile: "${profiles}", method: "${methods}"}, cmd: x}
"""


@pytest.fixture
def tree(tmp_path, monkeypatch):
    root = tmp_path / "tree"
    for name, text in {
        "params.yaml": PARAMS, "dvc.lock": "old", ".gitignore": "results/\n.scratch/\n*.log\n",
        ".dvc/config": "[core]\n", ".dvc/cache/x": "", ".git/x": "", "mosa/a.py": "a",
        "notebooks/b.ipynb": "b", "results/x": "", "c.log": "", "paper_figures/embedded/t.csv": "1",
        "executed/.gitignore": "", "dvc.yaml": DVC,
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    monkeypatch.setattr(params, "ROOT", root)
    return root


def listed(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_a_copy_holds_what_is_not_ignored_and_says_what_runs(tree, tmp_path):
    copy = trial.prepare("quick", tmp_path / "copy")
    assert listed(copy) == [".dvc/config", ".dvc/config.local", ".gitignore", ".trial", "dvc.lock",
                            "dvc.yaml", "executed/.gitignore", "mosa/a.py", "notebooks/b.ipynb",
                            "params.yaml"]
    expected = PARAMS.replace("[embedded]", "[quick]").replace("[a, b]", "[]")
    expected = expected.replace("[original,\n  mosa]", "[original]")
    assert (copy / "params.yaml").read_text() == expected
    assert (tree / "params.yaml").read_text() == PARAMS
    assert "no_scm = true" in (copy / ".dvc/config.local").read_text()


def test_a_second_time_files_follow_the_tree_and_what_the_trial_made_stays(tree):
    folder = tree / ".scratch/trial-embedded"
    copy = trial.prepare("embedded", folder)
    made = ("results/y", ".scratch/z", "paper_figures/embedded/t.csv", "dvc.lock", ".dvc/cache/y")
    for name in made:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text("new")
    (tree / "mosa/a.py").unlink()
    (tree / "mosa/c.py").write_text("c")
    (tree / "notebooks/b.ipynb").write_text("bb")
    trial.prepare("embedded", folder)
    assert all((copy / name).read_text() == "new" for name in made)
    assert not (copy / "mosa/a.py").exists() and (copy / "mosa/c.py").read_text() == "c"
    assert (copy / "notebooks/b.ipynb").read_text() == "bb"


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ("qick", "no profile 'qick'; did you mean 'quick'"),
        ("base-0", "no profile 'base-0'; known: embedded"),
        ("models", "no profile 'models'"),
        ("wrong", r"wrong\.lists: must be a mapping of profiles, models"),
        ("worse", "models: 'a b' is no name"),
    ],
)
def test_a_wrong_profile_is_one_line_and_makes_nothing(tree, tmp_path, profile, message):
    with pytest.raises(ParamsError, match=rf"^params\.yaml: {message}"):
        trial.prepare(profile, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_lock_that_a_kill_cut_short_goes_and_a_live_one_stays(tree, tmp_path):
    lock = trial.prepare("quick", tmp_path / "copy") / ".dvc/tmp/rwlock"
    lock.parent.mkdir(parents=True)
    for text, kept in (("", False), ('{"read": {}}', True)):
        lock.write_text(text)
        trial.prepare("quick", tmp_path / "copy")
        assert lock.exists() == kept


def test_a_list_that_cannot_be_replaced_is_named(tree, tmp_path):
    (tree / "params.yaml").write_text(PARAMS.replace("[a, b]", "\n  - a\n  - b"))
    with pytest.raises(ParamsError, match=r"benchmarks: write it in brackets"):
        trial.prepare("quick", tmp_path / "copy")


def test_nobody_elses_folder_is_touched(tree, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/precious").write_text("x")
    for folder in (tree, tmp_path):
        with pytest.raises(ValueError, match="holds the project itself"):
            trial.prepare("quick", folder)
    with pytest.raises(ValueError, match=r"mine is no copy for the profile quick"):
        trial.prepare("quick", tmp_path / "mine")
    trial.prepare("embedded", tmp_path / "copy")
    with pytest.raises(ValueError, match="no copy for the profile quick"):
        trial.prepare("quick", tmp_path / "copy")
    assert listed(tmp_path / "mine") == ["precious"]


def test_figures_and_notebooks_come_back(tree, tmp_path, monkeypatch):
    def reproduce(copy, only):
        for name in ("paper_figures/quick/x/t.csv", "executed/x.quick.ipynb", "dvc.lock"):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_text("made")

    monkeypatch.setattr(trial, "reproduce", reproduce)
    trial.run("quick", tmp_path / "copy")
    assert (tree / "paper_figures/quick/x/t.csv").read_text() == "made"
    assert (tree / "paper_figures/quick/dvc.lock").read_text() == "made"
    assert (tree / "executed/x.quick.ipynb").read_text() == "made"
    assert (tree / "paper_figures/embedded/t.csv").read_text() == "1"


def test_stages_alone_bring_their_figures_and_records_and_no_training(tree, tmp_path, monkeypatch):
    old = "schema: '2.0'\nstages:\n  a@quick: {cmd: old}\n  b@quick: {cmd: old}\n"
    new = "schema: '2.0'\nstages:\n  b@quick: {cmd: new}\n  c@quick: {cmd: new}\n"

    def reproduce(copy, only):
        assert only == ["b"] and "\nmethods: []\n" in (copy / "params.yaml").read_text()
        for name, text in (("paper_figures/quick/b/x/t.csv", "new"), ("dvc.lock", new),
                           ("paper_figures/quick/c/t.csv", "new")):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_text(text)

    monkeypatch.setattr(trial, "reproduce", reproduce)
    monkeypatch.setattr(trial, "stages", lambda copy, only: {"b@quick": []})
    figures = tree / "paper_figures/quick"
    for name, text in (("a/t.csv", "old"), ("b/gone.csv", "old"), ("dvc.lock", old)):
        (figures / name).parent.mkdir(parents=True, exist_ok=True)
        (figures / name).write_text(text)
    trial.run("quick", tmp_path / "copy", ["b"])
    assert listed(figures) == ["a/t.csv", "b/x/t.csv", "dvc.lock"]
    assert load_yaml(figures / "dvc.lock")["stages"] == {
        "a@quick": {"cmd": "old"}, "b@quick": {"cmd": "new"}}


@pytest.mark.parametrize(("stage", "message"), [
    ("nosuch", "no stage 'nosuch'; known: align, b$"),
    ("align", r"align: nothing would run: \${methods} is empty"),  # shipped ones stand in for it
])
def test_a_stage_that_cannot_run_is_told_before_anything_is_copied(tree, tmp_path, stage, message):
    with pytest.raises(ParamsError, match=rf"^dvc\.yaml: {message}"):
        trial.run("quick", tmp_path / "copy", ["b", stage])
    assert not (tmp_path / "copy").exists()


def test_adapters_of_the_listed_methods_are_published_and_no_rehearsal(
        tree, tmp_path, monkeypatch):
    (tree / "params.yaml").write_text(PARAMS.replace("{x: {n: 1},", "{judge: {mark: few},").replace(
        "  x: {n: 1e-3}", "  judge: {mark: ''}"))
    with pytest.raises(ParamsError, match=r"quick\.judge\.mark: 'few' is not published"):
        trial.run("quick", tmp_path / "quick", publish=True)
    copy = trial.prepare("embedded", tmp_path / "copy")
    for root, name, text in (
        (copy, "dvc.lock", ""), (copy, "paper_figures/embedded/a.csv", ""),
        (copy, "results/embedded/align/mosa/one-0/adapter_model.safetensors", "new"),
        (copy, "results/embedded/align/mosa/steps.jsonl", ""),
        (copy, "results/embedded/align/gone/one-0/adapter_model.safetensors", ""),
        (tree, "adapters/mosa/two-0/x", ""), (tree, "adapters/other/one-0/x", ""),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    monkeypatch.setattr(trial, "reproduce", lambda copy, only: [])
    trial.run("embedded", copy, publish=True)
    assert listed(tree / "adapters") == ["mosa/one-0/adapter_model.safetensors", "other/one-0/x"]


def test_the_command_line_ends_in_one_line():
    run = subprocess.run([sys.executable, "-m", "mosa.pipeline.trial", "none"],
                         capture_output=True, text=True, cwd=params.ROOT)
    assert run.returncode == 1 and run.stderr.count("\n") == 1
    assert run.stderr.startswith("params.yaml: no profile 'none'; known: embedded")
