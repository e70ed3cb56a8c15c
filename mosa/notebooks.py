"""Notebooks as reviewable text: their code as plain files, and clean of what a run leaves.

    python -m mosa.notebooks results/code   write every notebook's code cells as .py files
    python -m mosa.notebooks --strip        clean the notebooks in place, before a commit

Pipeline stages depend on the code files, so mended prose or a saved notebook reruns nothing.
"""

import argparse
import ast
import json
import sys
from pathlib import Path

from mosa.params import ROOT

HEADER = "# The code cells of "  # begins every file written here; only such files are replaced
KERNEL = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def code(notebook, name):
    """The code cells of a notebook (parsed JSON), in order, as one Python text.

    No cell number appears, so that a new prose cell changes nothing; the tag `parameters` does,
    because papermill injects its values there.
    """
    cells = [f"{HEADER}{name}, written by mosa.notebooks\n"]
    for cell in notebook["cells"]:
        text = _source(cell).rstrip()
        if cell["cell_type"] == "code" and text:
            cells.append(f"# %%{' parameters' if _is_parameters(cell) else ''}\n{text}\n")
    return "\n".join(cells)


def strip(notebook):
    """The notebook without outputs, execution counts, noisy metadata; cell ids 0, 1, 2..."""
    cells = []
    for i, cell in enumerate(notebook["cells"]):
        tags = cell["metadata"].get("tags")
        clean = {
            "cell_type": cell["cell_type"],
            "id": str(i),
            "metadata": {"tags": tags} if tags else {},
            "source": _source(cell).splitlines(keepends=True),
        }
        if cell["cell_type"] == "code":
            clean |= {"execution_count": None, "outputs": []}
        if cell.get("attachments"):
            clean["attachments"] = cell["attachments"]
        cells.append(clean)
    return {"cells": cells, "metadata": KERNEL, "nbformat": 4, "nbformat_minor": 5}


def check(path):
    """What is wrong with a notebook file as a list of lines; empty for a clean one."""
    try:
        notebook = _read(path)
    except ValueError as error:
        return [str(error)]
    problems = []
    for i, cell in enumerate(notebook["cells"]):
        if cell.get("outputs"):
            problems.append(f"cell {i} has outputs")
        if cell.get("execution_count") is not None:
            problems.append(f"cell {i} has an execution count")
        if cell.get("id") != str(i):
            problems.append(f"cell {i} has the id {cell.get('id')!r}")
        if noise := sorted(set(cell["metadata"]) - {"tags"}):
            problems.append(f"cell {i} has metadata: {', '.join(noise)}")
        if cell["cell_type"] == "code":
            try:
                ast.parse(_source(cell))
            except SyntaxError as error:
                problems.append(f"cell {i} is not Python: line {error.lineno}: {error.msg}")
    n = sum(map(_is_parameters, notebook["cells"]))
    if n != 1:
        problems.append(f"{n} cells have the tag parameters, not 1")
    if notebook["metadata"] != KERNEL:
        problems.append("the notebook's metadata is not plain python3")
    return problems


def write_code(folder, notebooks=None):
    """Write `<folder>/<notebook>.py` for every notebook below `notebooks`; remove stale ones.

    Files are touched only if their content changes. Returns the paths written or removed.
    """
    folder, notebooks = Path(folder), Path(notebooks or ROOT / "notebooks")
    files = {}
    for path in find(notebooks):
        name = path.relative_to(notebooks)
        files[folder / name.with_suffix(".py")] = code(_read(path), name.as_posix())
    changed = [path for path, text in files.items() if _write(path, text)]
    for path in sorted(folder.rglob("*.py")):
        if path not in files and path.read_text("utf-8").startswith(HEADER):
            path.unlink()
            changed.append(path)
    return changed


def find(notebooks=None):
    """Every notebook below a folder, sorted, without Jupyter's checkpoints."""
    paths = Path(notebooks or ROOT / "notebooks").rglob("*.ipynb")
    return sorted(path for path in paths if ".ipynb_checkpoints" not in path.parts)


def _source(cell):
    return "".join(cell["source"])  # a list of lines, or one string


def _is_parameters(cell):
    return cell["cell_type"] == "code" and "parameters" in cell["metadata"].get("tags", [])


def _read(path):
    try:
        notebook = json.loads(Path(path).read_text("utf-8"))
        if notebook["nbformat"] == 4:
            return notebook
    except (ValueError, KeyError, TypeError):
        pass
    raise ValueError(f"{path}: is no notebook of format 4: open and save it in JupyterLab")


def _write(path, text):
    if path.exists():
        old = path.read_text("utf-8")
        if old == text:
            return False
        if path.suffix == ".py" and not old.startswith(HEADER):
            raise ValueError(f"{path} was not written by mosa.notebooks: choose another folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")
    return True


def _main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m mosa.notebooks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("folder", nargs="?", help="where the code files go")
    what.add_argument("--strip", action="store_true", help="clean the notebooks in place")
    options = parser.parse_args(arguments)
    if options.strip:
        for path in find():
            # the layout JupyterLab saves, so that saving again changes no other line
            text = json.dumps(strip(_read(path)), indent=1, sort_keys=True, ensure_ascii=False)
            if _write(path, text + "\n"):
                print(path.relative_to(ROOT))
    else:
        for path in write_code(options.folder):
            print(path)


if __name__ == "__main__":
    try:
        _main()
    except (ValueError, OSError) as error:
        sys.exit(str(error))
