import hashlib
import json

import nbformat
import pytest

from mosa.pipeline import notebooks, params
from mosa.pipeline.notebooks import code, find, read, strip, write_code


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
)


LISTS = ("profiles: [quick]\nmodels: [original]\nmethods: []\nattacks: [b, c_d]\n"
         "attacked: []\njudges: []\nbenchmarks: []\nsearches: []\n")
DVC = """
stages:
  code: {cmd: python -m mosa.pipeline.notebooks results/code}
  a: {matrix: {profile: "${profiles}"}, cmd: "papermill notebooks/01_a.ipynb executed/a.ipynb"}
  attack:
    matrix: {profile: "${profiles}", attack: "${attacks}"}
    cmd:
      - mkdir -p executed
      - papermill 'notebooks/attacks/${item.attack}.ipynb' executed/attack.${key}.ipynb -p profile x
  search: {matrix: {profile: "${searches}"}, cmd: "papermill notebooks/${item.profile}.ipynb x"}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A project whose stages run three notebooks; write(name, notebook) adds a notebook."""
    monkeypatch.setattr(params, "ROOT", tmp_path)
    (tmp_path / "params.yaml").write_text(LISTS)
    (tmp_path / "dvc.yaml").write_text(DVC)
    place = tmp_path / "notebooks"

    def write(name, content):
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    for name in ("01_a.ipynb", "attacks/b.ipynb", "attacks/c_d.ipynb"):
        write(name, USED)
    write.place = place
    return write


def test_code_is_the_code_cells_in_order():
    assert code(USED, "attacks/x.ipynb") == (
        "# Written by mosa.pipeline.notebooks: the code cells of attacks/x.ipynb\n\n"
        "# %% parameters\nprofile = 'embedded'\n\n"
        "# %%\na = 1\na\n\n"
    )


def test_code_ends_in_the_modules_that_the_cells_reach():
    cells = [cell("code", "import mosa\nfrom mosa.paper import save"),
             cell("code", "mosa.denoise(lm, canvas)")]
    lines = code(notebook(*cells), "x.ipynb").split("\n\n")[-1].splitlines()
    files = [line.split()[2] for line in lines]
    assert files == sorted(files)
    assert {"mosa/paper/save.py", "mosa/paper/style.mplstyle", "mosa/lm/sampler.py",
            "mosa/lm/diffusion.py"} <= {*files}
    assert not {"mosa/lm/loading.py", "mosa/__init__.py", "mosa/pipeline/params.py"} & {*files}
    save = hashlib.sha256((params.ROOT / "mosa/paper/save.py").read_bytes()).hexdigest()
    assert f"# reaches mosa/paper/save.py {save}" in lines


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("from mosa.papers import save", "there is no module mosa.papers; did you mean"),
        ("from mosa.paper import sav", "mosa.paper has no 'sav'; did you mean 'save'"),
        ("import mosa\nmosa.lod", "mosa has no 'lod'; did you mean 'load'"),
        ("a = (", "was never closed"),
    ],
)
def test_an_unknown_module_is_one_line_that_names_the_notebook(source, message):
    with pytest.raises(ValueError, match=rf"^notebooks/a/x\.ipynb: .*{message}") as error:
        code(notebook(cell("code", source)), "a/x.ipynb")
    assert "\n" not in str(error.value)


def test_prose_outputs_and_ids_do_not_change_the_code_but_tags_do():
    prose = notebook(cell("markdown", "more"), *strip(USED)["cells"], cell("raw", "x"))
    assert code(prose, "x") == code(USED, "x")
    untagged = strip(USED)
    untagged["cells"][1]["metadata"] = {}
    assert code(untagged, "x") != code(USED, "x")


def test_find_takes_what_the_stages_run_and_nothing_else(folder):
    folder("Untitled.ipynb", "")
    names = [p.relative_to(folder.place).as_posix() for p in find()]
    assert names == ["01_a.ipynb", "attacks/b.ipynb", "attacks/c_d.ipynb"]


def test_write_code_mirrors_the_folder_and_removes_stale_files(folder, tmp_path):
    out = tmp_path / "results/code"
    written = write_code(out)
    assert written == [out / "01_a.py", out / "attacks/b.py", out / "attacks/c_d.py"]
    assert sorted(out.rglob("*.py")) == written
    assert write_code(out) == []

    (tmp_path / "params.yaml").write_text(LISTS.replace("[b, c_d]", "[c_d]"))
    (out / "own.py").write_text("print('not ours')\n")
    assert write_code(out) == [out / "attacks/b.py"]
    assert sorted(p.name for p in out.rglob("*.py")) == ["01_a.py", "c_d.py", "own.py"]


def test_each_method_has_a_file_with_what_its_objective_reaches(folder, tmp_path):
    methods = "methods: {a: {}, b: {objective: a2d}, c: {objective: a2e}, d: {objective: nosuch}}"
    lists = LISTS.replace("methods: []", "methods: [a, b]") + f"quick: {{{methods}}}\n"
    (tmp_path / "params.yaml").write_text(lists)
    written = write_code(tmp_path / "code")
    one, other = (tmp_path / f"code/methods/quick/{name}.py" for name in "ab")
    assert {one, other} <= {*written}
    assert "# reaches mosa/alignment/objectives/mosa.py" in one.read_text()
    assert "objectives/mosa.py" not in other.read_text()
    assert "# reaches mosa/alignment/objectives/a2d.py" in other.read_text()
    (tmp_path / "params.yaml").write_text(lists.replace("searches: []", "searches: [quick]"))
    place = tmp_path / "notebooks"
    (place / "quick.ipynb").write_text((place / "01_a.ipynb").read_text())
    every = tmp_path / "code/methods/all.py"
    assert {*write_code(tmp_path / "code")} == {every, tmp_path / "code/quick.py"}
    assert {f"objectives/{name}.py" for name in ("mosa", "a2d", "recovery", "refusal_sft")} <= {
        line.split()[2].removeprefix("mosa/alignment/") for line in
        every.read_text().splitlines() if line.startswith("# reaches")}
    for wrong, message in (("c.objective", "there is no module .*a2e; did you mean .*a2d'"),
                           ("e", "is missing; known: a, b")):
        (tmp_path / "params.yaml").write_text(lists.replace("[a, b]", f"[a, {wrong[0]}]"))
        with pytest.raises(ValueError, match=rf"^params\.yaml: quick\.methods\.{wrong}: {message}"):
            write_code(tmp_path / "code")


def test_stray_files_stop_nothing(folder, tmp_path):
    for name, content in {
        "._01_a.ipynb": "    Mac OS X        ", "Untitled.ipynb": "",
        "attacks/new.ipynb": json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}}),
        ".ipynb_checkpoints/01_a-checkpoint.ipynb": json.dumps(USED),
    }.items():
        folder(name, content)
    assert len(write_code(tmp_path / "results/code")) == 3
    notebooks._main(["--strip"])
    assert (folder.place / "Untitled.ipynb").read_text() == ""


def test_a_notebook_of_a_stage_must_be_there_and_whole(folder, tmp_path):
    path = folder("attacks/b.ipynb", json.dumps({"nbformat": 4, "metadata": {}}))
    with pytest.raises(ValueError, match=r"attacks/b\.ipynb: is no notebook of format 4"):
        write_code(tmp_path / "code")
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"^notebooks/attacks/b\.ipynb is missing, which "
                                                r"stage attack of dvc\.yaml runs"):
        write_code(tmp_path / "code")
    (tmp_path / "dvc.yaml").write_text(DVC.replace("item.attack", "item.atack"))
    with pytest.raises(FileNotFoundError, match=r"item\.atack\}\.ipynb is missing, .* attack of"):
        find()


def test_unchanged_files_are_not_touched(folder, tmp_path):
    write_code(tmp_path / "code")
    before = (tmp_path / "code/01_a.py").stat().st_mtime_ns
    folder("01_a.ipynb", notebook(cell("markdown", "prose"), *USED["cells"]))
    assert write_code(tmp_path / "code") == []
    assert (tmp_path / "code/01_a.py").stat().st_mtime_ns == before


def test_a_file_of_somebody_else_is_not_overwritten(folder, tmp_path):
    (tmp_path / "01_a.py").write_text("precious")
    with pytest.raises(ValueError, match=r"01_a\.py is not of this program's making"):
        write_code(tmp_path)
    assert (tmp_path / "01_a.py").read_text() == "precious"


def test_strip_leaves_a_clean_notebook_with_the_same_code():
    assert strip(strip(USED)) == strip(USED)
    assert code(strip(USED), "x") == code(USED, "x")
    clean = strip(USED)
    assert [c["id"] for c in clean["cells"]] == ["0", "1", "2", "3"]
    assert clean["cells"][1]["metadata"] == {"tags": ["parameters"]}
    assert clean["cells"][0]["attachments"] == {"a.png": {"image/png": "xx"}}
    assert clean["cells"][3] == {"cell_type": "code", "id": "3", "metadata": {}, "outputs": [],
                                 "execution_count": None, "source": ["a = 1\n", "a\n", "\n"]}
    assert clean["metadata"] == notebooks.KERNEL


@pytest.mark.parametrize("content", ["", "{}", "[]", "not json", '{"nbformat": 3}',
                                     '{"nbformat": 4, "metadata": {}, "cells": [{}]}'])
def test_no_notebook_is_one_line(folder, content):
    with pytest.raises(ValueError, match=r"a\.ipynb: is no notebook of format 4") as error:
        read(folder("a.ipynb", content))
    assert "\n" not in str(error.value)


def test_command_line(folder, tmp_path, capsys):
    notebooks._main(["--strip"])
    assert capsys.readouterr().out.splitlines()[0] == "notebooks/01_a.ipynb"
    path = folder.place / "01_a.ipynb"
    assert read(path) == strip(USED) and path.read_text().endswith("}\n")
    notebooks._main(["--strip"])
    assert capsys.readouterr().out == ""
    notebooks._main([str(tmp_path / "code")])
    assert (tmp_path / "code/01_a.py").read_text() == code(USED, "01_a.ipynb")
    with pytest.raises(SystemExit):
        notebooks._main([])


def test_saving_a_stripped_notebook_with_jupyter_changes_nothing(folder):
    notebooks._main(["--strip"])
    path = folder.place / "01_a.ipynb"
    before = path.read_bytes()
    nbformat.validate(json.loads(before))
    nbformat.write(nbformat.read(path, as_version=4), path)
    assert path.read_bytes() == before
