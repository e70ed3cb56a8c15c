"""On a small package called mosa, in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import mosa.pipeline.closure

FILES = {
    "__init__.py": 'LAZY = {"load": "mosa.lm.loading", "Stage": "mosa.stage"}\n'
                   "def __getattr__(name): ...\n",
    "stage.py": 'from mosa.pipeline.rows import save\n'
                'LAZY = {"figure": "mosa.paper.save", "judged": "mosa.judges"}\n'
                "class Stage: ...\n",
    "stats.py": "import json\n",
    "lm/__init__.py": "",
    "lm/loading.py": "from mosa.lm import checkpoints\n",
    "lm/checkpoints.py": "def f():\n    from ..stats import rate\n",
    "paper/__init__.py": '"""What the reader sees."""\n',
    "paper/save.py": 'STYLE = "mosa.paper.style"\n',
    "paper/words.py": "",
    "paper/style.mplstyle": "font.size: 8\n",
    "paper/other.yaml": "a: 1\n",
    "judges/__init__.py": "from mosa.judges import exact\ndef judge(): ...\n",
    "judges/exact.py": "",
    "judges/keywords.py": "",
    "alignment/__init__.py": 'LAZY = {"align": "mosa.alignment.trainer"}\n',
    "alignment/trainer.py": "import mosa.stats\n",
    "alignment/run.py": "from mosa.alignment import align\n",
    "alignment/pairs.py": "",
    "attacks/__init__.py": "",
    "attacks/harness.py": 'TASKS = "tasks.yaml"\n',
    "attacks/tasks.yaml": "",
    "attacks/typed.py": "from typing import TYPE_CHECKING\n"
                        "if TYPE_CHECKING:\n    from mosa import stats\n",
    "pipeline/__init__.py": "",
    "pipeline/params.py": "",
    "pipeline/sections.py": "from mosa.pipeline import params\n",
    "pipeline/rows.py": "from mosa.pipeline.sections import x\n",
}
SCRIPT = """
import json, sys
from mosa.pipeline import closure
for kind, what in json.load(sys.stdin):
    try:
        print(json.dumps(sorted(getattr(closure, kind)(what))))
    except ValueError as error:
        print(json.dumps(str(error)))
"""


@pytest.fixture(scope="module")
def ask(tmp_path_factory):
    """ask(kind, [what, ...]): what the toy project's closure.<kind> says of each."""
    root = tmp_path_factory.mktemp("toy")
    source = Path(mosa.pipeline.closure.__file__)
    files = {**FILES, "pipeline/closure.py": source.read_text(),
             "pipeline/params.py": source.with_name("params.py").read_text()}
    for name, text in files.items():
        (root / "mosa" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "mosa" / name).write_text(text)

    def ask(kind, questions):
        run = subprocess.run([sys.executable, "-c", SCRIPT], cwd=root, text=True,
                             input=json.dumps([(kind, q) for q in questions]),
                             capture_output=True)
        assert not run.stderr, run.stderr
        return [json.loads(line) for line in run.stdout.splitlines()]

    return ask


REACHED = {
    "stats": "stats.py",
    "lm.loading": "lm/checkpoints.py lm/loading.py stats.py",  # imports in functions, relative ones
    "paper.save": "paper/save.py paper/style.mplstyle",  # its style, and not other.yaml
    "paper.words": "paper/words.py",
    "judges.exact": "judges/__init__.py judges/exact.py",  # a package that does something
    "alignment.pairs": "alignment/pairs.py",  # and one that holds names
    "alignment.run": "alignment/run.py alignment/trainer.py stats.py",  # a name that loads late
    "attacks.harness": "attacks/harness.py attacks/tasks.yaml",
    "attacks.typed": "attacks/typed.py",
    "stage": "pipeline/rows.py stage.py",  # params.py and sections.py pass values on
}


def test_what_a_module_reaches(ask):
    found = ask("reached", [[f"mosa.{name}"] for name in REACHED])
    assert dict(zip(REACHED, found, strict=True)) == {
        name: [f"mosa/{file}" for file in files.split()] for name, files in REACHED.items()}


IMPORTED = [
    ("import os, mosaic", ""),
    ("import mosa", ""),
    ("import mosa.stats", "stats"),
    ("import mosa.stats as s\ns.load", "stats"),
    ("from mosa import stats, load", "stats lm.loading"),
    ("from mosa.stats import rate", "stats"),
    ("import mosa\nlm = mosa.load(x)\nmosa.__name__", "lm.loading"),
    ("import mosa as m\nm.load(x)", "lm.loading"),
    ("import mosa.stats\nmosa.load", "stats lm.loading"),
    ("def f():\n    from mosa import stats", "stats"),
    ("from mosa.attacks import harness", "attacks.harness"),
    ("import mosa\nmosa.attacks.harness.run()", "attacks attacks.harness"),
    ("from mosa.judges import judge", "judges"),
    ("from mosa.alignment import align", "alignment.trainer"),
    ("x.mosa.load", ""),
    ("import mosa\nstage = mosa.Stage(p, 'x')\nstage.cfg", "stage"),
    ("import mosa\ns = mosa.Stage(p, 'x')\ns.figure(f)\nx.judged", "stage paper.save"),
    ("from mosa import Stage\ns = Stage(p, 'x')\ns.judged(f).x.y", "stage judges"),
]


def test_what_a_script_imports(ask):
    found = ask("imported", [source for source, _ in IMPORTED])
    for (source, names), modules in zip(IMPORTED, found, strict=True):
        assert modules == sorted(f"mosa.{name}" for name in names.split()), source


def test_an_unknown_name_is_one_line(ask):
    sources = ["from mosa import stat", "import mosa\nmosa.stat", "import mosa.stat",
               "from mosa.lm import loadin", "from mosa.alignment import aling"]
    assert ask("imported", sources) == [
        *["mosa has no 'stat'; did you mean 'stats'?"] * 2,
        "there is no module mosa.stat; did you mean 'mosa.stats'?",
        "mosa.lm has no 'loadin'; did you mean 'loading'?",
        "mosa.alignment has no 'aling'; did you mean 'align'?",
    ]
    assert ask("reached", [["mosa.sats"]]) == [
        "there is no module mosa.sats; did you mean 'mosa.stats'?"]
