"""Notebooks as reviewable text: their code as plain files, and clean of what a run leaves.

    python -m mosa.pipeline.notebooks results/code   write the code of the notebooks in dvc.yaml
    python -m mosa.pipeline.notebooks --strip        clean the notebooks in place, before a commit

A code file holds a notebook's code cells and the hash of every module they reach. Stages depend on
it alone, so mended prose or a saved notebook reruns nothing, and a mended module what it serves.
A method has a file too, methods/<profile>/<method>.py, with what its objective reaches: alignment
imports an objective by name, so that a new one retrains no method of another.
"""

import argparse
import ast
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mosa.pipeline import params
from mosa.pipeline.closure import children, hashes, imported, reached

HEADER = "# Written by mosa.pipeline.notebooks: "  # only files that begin so are replaced
OBJECTIVES = "mosa.alignment.objectives"
KERNEL = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
Notebook = dict[str, Any]  # as JSON gives it


def code(notebook: Notebook, name: str) -> str:
    """The code cells of a notebook, in order, as one Python text, and what they reach.

    No cell number appears, so that a new prose cell changes nothing; the tag `parameters` does,
    because papermill injects its values there. Then a line for each file of mosa that the cells
    reach: `# reaches mosa/lm/sampler.py <sha256>`. Raises ValueError, naming the notebook, for
    code that is not Python and for a module that is not there.
    """
    cells = [f"{HEADER}the code cells of {name}\n"]
    for cell in notebook["cells"]:
        text = _source(cell).rstrip()
        if cell["cell_type"] == "code" and text:
            cells.append(f"# %%{' parameters' if _is_parameters(cell) else ''}\n{text}\n")
    source = "\n".join(cells)
    try:
        return source + _reaches(imported(source))
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"notebooks/{name}: {error}") from None


def strip(notebook: Notebook) -> Notebook:
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


def check(path: Path) -> list[str]:
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


def write_code(folder: str | Path) -> list[Path]:
    """Write `<folder>/<notebook>.py` for every notebook of a stage; remove stale ones.

    Files are touched only if their content changes. Returns the paths written or removed.
    """
    folder, files = Path(folder), {}
    for path in find():
        name = path.relative_to(params.ROOT / "notebooks")
        files[folder / name.with_suffix(".py")] = code(_read(path), name.as_posix())
    for (profile, method), objective in _objectives().items():
        files[folder / "methods" / profile / f"{method}.py"] = (
            f"{HEADER}the objective of {method}\n{_reaches([f'{OBJECTIVES}.{objective}'])}")
    changed = [path for path, text in files.items() if _write(path, text)]
    for path in sorted(folder.rglob("*.py")):
        if path not in files and path.read_text("utf-8").startswith(HEADER):
            path.unlink()
            changed.append(path)
    return changed


def find() -> list[Path]:
    """The notebooks that the stages of dvc.yaml run, sorted; what else lies there is nobody's.

    `notebooks/4_attacks/${item.attack}.ipynb` stands for one notebook for each word of the
    matrix's axis. Raises FileNotFoundError for one that is missing, naming its stage.
    """
    found, pattern = {}, r"notebooks/(?:\$\{[^}]*\}|[^\s\"'])+?\.ipynb"
    for stage, values in params.stages().items():
        for template in re.findall(pattern, str(values.get("cmd"))):
            for name in _filled(template, stage):
                found[params.ROOT / name] = stage
    for path, stage in found.items():
        if not path.is_file():
            name = path.relative_to(params.ROOT).as_posix()
            raise FileNotFoundError(f"{name} is missing, which stage {stage} of dvc.yaml runs: "
                                    "restore it or mend params.yaml")
    return sorted(found)


def _objectives() -> dict[tuple[str, str], str]:
    """(profile, method) -> its objective, for the methods of params.yaml that are trained."""
    values, lists, known = params.read(), params.lists(), children(OBJECTIVES)
    found = {}
    for profile in lists["profiles"]:
        for method in lists["methods"]:
            try:
                block = values[profile]["methods"][method]
            except (KeyError, TypeError):
                raise ValueError(f"params.yaml: {profile}.methods.{method}: is missing, and listed "
                                 "in methods") from None
            found[profile, method] = name = block.get("objective", "mosa")  # Method's default
            if name not in known:
                raise ValueError(f"params.yaml: {profile}.methods.{method}: no objective {name!r}"
                                 f"{params.choice(name, known)}")
    return found


def _reaches(modules: Iterable[str]) -> str:
    return "".join(f"\n# reaches {file} {sha}" for file, sha in
                   hashes(reached(modules)).items()) + "\n"


def _filled(template: str, stage: str) -> list[str]:
    """A path with each ${item.axis} replaced by every value of the axis."""
    used = re.findall(r"\$\{item\.(\w+)\}", template)
    axes = params.axes(stage) if used else {}
    if wrong := {*used} - {*axes}:
        raise ValueError(f"dvc.yaml: {stage}: {template}: the matrix has no axis {min(wrong)!r}")
    filled = [template]
    for axis in used:
        filled = [t.replace(f"${{item.{axis}}}", v) for t in filled for v in axes[axis]]
    return filled


def _source(cell: Notebook) -> str:
    return "".join(cell["source"])  # a list of lines, or one string


def _is_parameters(cell: Notebook) -> bool:
    return cell["cell_type"] == "code" and "parameters" in cell["metadata"].get("tags", [])


def _read(path: Path) -> Notebook:
    try:
        notebook = json.loads(Path(path).read_text("utf-8"))
        whole = isinstance(notebook["metadata"], dict) and all(
            isinstance(_source(c), str) and isinstance(c["metadata"], dict) and c["cell_type"]
            for c in notebook["cells"])
        if notebook["nbformat"] == 4 and whole:
            return notebook
    except (ValueError, KeyError, TypeError):
        pass
    raise ValueError(f"{path}: is no notebook of format 4: open and save it in JupyterLab")


def _write(path: Path, text: str) -> bool:
    if path.exists():
        old = path.read_text("utf-8")
        if old == text:
            return False
        if path.suffix == ".py" and not old.startswith(HEADER):
            raise ValueError(f"{path} is not of this program's making: choose another folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")
    return True


def _main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m mosa.pipeline.notebooks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("folder", nargs="?", help="where the code files go")
    what.add_argument("--strip", action="store_true", help="clean the notebooks in place")
    options = parser.parse_args(arguments)
    if options.strip:
        for path in sorted((params.ROOT / "notebooks").rglob("*.ipynb")):
            try:
                notebook = _read(path)
            except ValueError:  # what an editor or a Mac left there
                continue
            # the layout JupyterLab saves, so that saving again changes no other line
            text = json.dumps(strip(notebook), indent=1, sort_keys=True, ensure_ascii=False)
            if ".ipynb_checkpoints" not in path.parts and _write(path, text + "\n"):
                print(path.relative_to(params.ROOT))
    else:
        for path in write_code(options.folder):
            print(path)


if __name__ == "__main__":
    try:
        _main()
    except (ValueError, OSError) as error:
        sys.exit(str(error))
