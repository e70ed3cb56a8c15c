"""Notebooks as reviewable text: their code as plain files, and clean of what a run leaves.

    python -m mosa.pipeline.notebooks results/code   write the code of the notebooks in dvc.yaml
    python -m mosa.pipeline.notebooks --strip        clean the notebooks in place, before a commit

A code file holds a notebook's code cells and the hash of every module they reach. Stages depend on
it alone, so mended prose or a saved notebook reruns nothing, and a mended module what it serves.
Alignment imports an objective by name, so that a new one retrains no method of another: every
method has a file too, methods/<profile>/<method>.py, with what its objective reaches, and the
search, which may try any, methods/all.py.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any

from mosa.pipeline import params
from mosa.pipeline.closure import graph, imported, reached

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
            tag = " parameters" if "parameters" in cell["metadata"].get("tags", []) else ""
            cells.append(f"# %%{tag}\n{text}\n")
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


def write_code(folder: str | Path) -> list[Path]:
    """Write `<folder>/<notebook>.py` for every notebook of a stage; remove stale ones.

    Files are touched only if their content changes. Returns the paths written or removed.
    """
    folder, files, lists = Path(folder), {}, params.lists()
    for path in find():
        name = path.relative_to(params.ROOT / "notebooks")
        files[folder / name.with_suffix(".py")] = code(read(path), name.as_posix())
    for profile, method in product(lists["profiles"], lists["methods"]):
        files[folder / "methods" / profile / f"{method}.py"] = _objective(profile, method)
    if lists["searches"]:
        objectives = [module for module in graph().modules if module.startswith(f"{OBJECTIVES}.")]
        files[folder / "methods/all.py"] = f"{HEADER}all objectives\n{_reaches(objectives)}"
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
    found = set()
    for stage, values in params.stages().items():
        names = re.findall(r"notebooks/(?:\$\{[^}]*\}|[^\s\"'])+?\.ipynb", str(values.get("cmd")))
        for axis, words in params.axes(stage).items():
            names = [name.replace(f"${{item.{axis}}}", word) for name in names for word in words]
        for name in names:
            if not (params.ROOT / name).is_file():
                raise FileNotFoundError(f"{name} is missing, which stage {stage} of dvc.yaml runs: "
                                        "restore it or mend params.yaml")
            found.add(params.ROOT / name)
    return sorted(found)


def read(path: Path) -> Notebook:
    """A notebook file's content; ValueError, naming it, if it is no notebook of format 4."""
    try:
        notebook = json.loads(path.read_text("utf-8"))
        strip(notebook)  # goes through every part that is used here
        if notebook["nbformat"] == 4:
            return notebook
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise ValueError(f"{path}: is no notebook of format 4: open and save it in JupyterLab")


def _objective(profile: str, method: str) -> str:
    """The text of a method's file."""
    values = params.section(profile, f"methods.{method}", dict)
    try:
        name = values.get("objective", "mosa")  # Method's default
        return f"{HEADER}the objective of {method}\n{_reaches([f'{OBJECTIVES}.{name}'])}"
    except ValueError as error:
        where = f"params.yaml: {profile}.methods.{method}.objective"
        raise ValueError(f"{where}: {error}") from None


def _reaches(modules: Iterable[str]) -> str:
    lines = [f"\n# reaches {file} {sha}" for file, sha in reached(modules).items()]
    return "".join(lines) + "\n"


def _source(cell: Notebook) -> str:
    return "".join(cell["source"])  # a list of lines, or one string


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


def _strip_all() -> list[Path]:
    """Clean every notebook in place; the paths of those that changed."""
    changed = []
    for path in sorted((params.ROOT / "notebooks").rglob("*.ipynb")):
        try:
            notebook = read(path)
        except ValueError:  # what an editor or a Mac left there
            continue
        # the layout JupyterLab saves, so that saving again changes no other line
        text = json.dumps(strip(notebook), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        if ".ipynb_checkpoints" not in path.parts and _write(path, text):
            changed.append(path.relative_to(params.ROOT))
    return changed


def _main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser("python -m mosa.pipeline.notebooks", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("folder", nargs="?", help="where the code files go")
    what.add_argument("--strip", action="store_true", help="clean the notebooks in place")
    options = parser.parse_args(arguments)
    for path in _strip_all() if options.strip else write_code(options.folder):
        print(path)


if __name__ == "__main__":
    try:
        _main()
    except (ValueError, OSError) as error:
        sys.exit(str(error))
