import json

import nbformat
import pytest

from mosa import notebooks
from mosa.notebooks import check, code, find, strip, write_code


def cell(kind, source, tags=None, **more):
    made = {"cell_type": kind, "metadata": {"tags": tags} if tags else {}, "source": source}
    return made | ({"outputs": [], "execution_count": None} if kind == "code" else {}) | more


def notebook(*cells, metadata=None):
    metadata = metadata or {"kernelspec": {"name": "python3"}, "language_info": {"version": "3"}}
    return {"cells": list(cells), "metadata": metadata, "nbformat": 4, "nbformat_minor": 4}


USED = notebook(
    cell("markdown", "# Title", id="abcd", attachments={"a.png": {"image/png": "xx"}}),
    cell("code", ["profile = 'embedded'\n"], tags=["parameters"], id="x", execution_count=1),
    cell("code", "", id="y"),
    {**cell("code", ["a = 1\n", "a\n", "\n"], id="z"), "metadata": {"collapsed": True, "tags": []},
     "outputs": [{"output_type": "stream", "name": "stdout", "text": "1"}]},
)  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """A folder of notebooks; write(name, notebook) adds one."""
    place = tmp_path / "notebooks"

    def write(name, content):
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    write.place = place
    return write


def test_code_is_the_code_cells_in_order():
    assert code(USED, "attacks/x.ipynb") == (
        "# The code cells of attacks/x.ipynb, written by mosa.notebooks\n\n"
        "# %% parameters\nprofile = 'embedded'\n\n"
        "# %%\na = 1\na\n"
    )


def test_prose_outputs_and_ids_do_not_change_the_code_but_tags_do():
    prose = notebook(cell("markdown", "more"), *strip(USED)["cells"], cell("raw", "x"))
    assert code(prose, "x") == code(USED, "x")
    untagged = strip(USED)
    untagged["cells"][1]["metadata"] = {}
    assert code(untagged, "x") != code(USED, "x")


def test_write_code_mirrors_the_folder_and_removes_stale_files(folder, tmp_path):
    out = tmp_path / "results/code"
    folder("01_a.ipynb", USED)
    folder("attacks/b.ipynb", USED)
    folder(".ipynb_checkpoints/01_a-checkpoint.ipynb", USED)
    written = write_code(out, folder.place)
    assert written == [out / "01_a.py", out / "attacks/b.py"]
    assert sorted(out.rglob("*.py")) == written
    assert write_code(out, folder.place) == []

    (folder.place / "01_a.ipynb").unlink()
    (out / "own.py").write_text("print('not ours')\n")
    assert write_code(out, folder.place) == [out / "01_a.py"]
    assert sorted(p.name for p in out.rglob("*.py")) == ["b.py", "own.py"]


def test_unchanged_files_are_not_touched(folder, tmp_path):
    path = folder("a.ipynb", USED)
    write_code(tmp_path, folder.place)
    before = (tmp_path / "a.py").stat().st_mtime_ns
    path.write_text(json.dumps(notebook(cell("markdown", "prose"), *USED["cells"])))
    assert write_code(tmp_path, folder.place) == []
    assert (tmp_path / "a.py").stat().st_mtime_ns == before


def test_a_file_of_somebody_else_is_not_overwritten(folder, tmp_path):
    folder("a.ipynb", USED)
    (tmp_path / "a.py").write_text("precious")
    with pytest.raises(ValueError, match=r"a\.py was not written by mosa\.notebooks"):
        write_code(tmp_path, folder.place)
    assert (tmp_path / "a.py").read_text() == "precious"


def test_strip_leaves_a_clean_notebook_with_the_same_code(folder):
    path = folder("a.ipynb", strip(USED))
    assert check(path) == []
    assert strip(strip(USED)) == strip(USED)
    assert code(strip(USED), "x") == code(USED, "x")
    clean = strip(USED)
    assert [c["id"] for c in clean["cells"]] == ["0", "1", "2", "3"]
    assert clean["cells"][1]["metadata"] == {"tags": ["parameters"]}
    assert clean["cells"][0]["attachments"] == {"a.png": {"image/png": "xx"}}
    assert clean["cells"][3]["source"] == ["a = 1\n", "a\n", "\n"]


def edited(**changes):
    """USED, stripped, then its last cell changed."""
    made = strip(USED)
    made["cells"][3].update(changes)
    return made


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (edited(outputs=[{"output_type": "stream"}]), "cell 3 has outputs"),
        (edited(execution_count=7), "cell 3 has an execution count"),
        (edited(id="e4f"), "cell 3 has the id 'e4f'"),
        (edited(metadata={"collapsed": True}), "cell 3 has metadata: collapsed"),
        (edited(source="%matplotlib inline"), "cell 3 is not Python: line 1: invalid syntax"),
        (edited(metadata={"tags": ["parameters"]}), "2 cells have the tag parameters, not 1"),
        ({**strip(USED), "cells": []}, "0 cells have the tag parameters, not 1"),
        ({**strip(USED), "metadata": {}}, "the notebook's metadata is not plain python3"),
    ],
)
def test_check_names_each_problem(folder, content, problem):
    assert check(folder("a.ipynb", content)) == [problem]


@pytest.mark.parametrize("content", ["", "{}", "[]", "not json", '{"nbformat": 3}'])
def test_no_notebook_is_one_line(folder, content):
    [line] = check(folder("a.ipynb", content))
    assert "is no notebook of format 4" in line and "\n" not in line


def test_command_line(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    path = folder("a.ipynb", USED)
    notebooks._main(["--strip"])
    assert capsys.readouterr().out == "notebooks/a.ipynb\n"
    assert check(path) == [] and path.read_text().endswith("}\n")
    notebooks._main(["--strip"])
    assert capsys.readouterr().out == ""
    notebooks._main([str(tmp_path / "code")])
    assert (tmp_path / "code/a.py").read_text() == code(USED, "a.ipynb")
    with pytest.raises(SystemExit):
        notebooks._main([])


def test_saving_a_stripped_notebook_with_jupyter_changes_nothing(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    path = folder("a.ipynb", USED)
    notebooks._main(["--strip"])
    before = path.read_bytes()
    nbformat.validate(json.loads(before))
    nbformat.write(nbformat.read(path, as_version=4), path)
    assert path.read_bytes() == before


def test_find_is_sorted(folder):
    for name in ("b.ipynb", "a.ipynb", "attacks/a.ipynb"):
        folder(name, USED)
    names = [p.relative_to(folder.place).as_posix() for p in find(folder.place)]
    assert names == ["a.ipynb", "attacks/a.ipynb", "b.ipynb"]
