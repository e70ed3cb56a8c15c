"""What a piece of code reaches: the modules of mosa that it may import, and the files beside them.

grimp reads the imports, those inside functions too. What it cannot see are names that load when
first used: they stand in a table LAZY = {name: module} of the package or module that offers them
(mosa, mosa.alignment, mosa.stage). A script gets the names that it uses; a module that imports
such a package gets them all.
"""

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import grimp

from mosa.pipeline.params import choice

ROOT = Path(__file__).resolve().parents[2]  # of this code, wherever params.ROOT is

# They change no number: the first two pass on the values of params.yaml, which DVC tracks, as they
# are and without defaults. An __init__ that holds names only is left out too, or every stage would
# rerun whenever a name is added.
UNTRACKED = {"mosa/pipeline/params.py", "mosa/pipeline/sections.py", "mosa/pipeline/closure.py"}


def reached(modules: Iterable[str]) -> dict[str, str]:
    """{file: sha256} of the tracked files behind the modules and all that they may import, sorted.

    Data files count (`style.mplstyle`) where a module of their folder names them in a string.
    Raises ValueError for a module that does not exist.
    """
    todo, found = list(modules), set()
    while todo:
        module = todo.pop()
        if module not in found:
            found.add(check(module))
            for other in graph().find_modules_directly_imported_by(module):
                todo += [other, *lazy(other).values()]
            if "." in module:
                todo.append(module.rpartition(".")[0])  # importing a.b runs a's __init__
    files = {path.relative_to(ROOT).as_posix(): path
             for module in found for path in (_file(module), *_beside(_file(module)))}
    return {name: hashlib.sha256(path.read_bytes()).hexdigest()
            for name, path in sorted(files.items())
            if name not in UNTRACKED and not _names_only(path)}


def imported(source: str) -> set[str]:
    """The modules of mosa whose code a script uses: ast.parse'd, not run.

    `from mosa import load` and `mosa.load(...)` count as mosa.lm.loading, by the tables LAZY;
    `stage.figure` counts as what mosa.stage loads for it, where `stage = Stage(...)`. Raises
    ValueError for a name that is neither a module nor in such a table.
    """
    nodes = list(ast.walk(ast.parse(source)))
    found, roots, stages = set(), set(), set()
    for node in nodes:
        if isinstance(node, ast.Import):
            for name in node.names:
                if name.name == "mosa":
                    roots.add(name.asname or "mosa")
                elif name.name.startswith("mosa."):
                    found.add(check(name.name))
                    roots.add("mosa")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "mosa":
            for name in node.names:
                found.add(_behind(node.module, [name.name]))
        elif (isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
                and dotted(node.value.func)[-1] == "Stage"):
            stages |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    for node in nodes:  # mosa.load(...), mosa.attacks.gcg.run(...), stage.figure(...)
        if isinstance(node, ast.Attribute):
            root, *names = dotted(node)
            if root in roots and not names[0].startswith("__"):
                found.add(_behind("mosa", names))
            if root in stages and names[0] in lazy("mosa.stage"):
                found.add(lazy("mosa.stage")[names[0]])
    return found


def check(module: str) -> str:
    """The module's name, if there is one of that name; else ValueError."""
    if module not in graph().modules:
        raise ValueError(f"there is no module {module}{choice(module, sorted(graph().modules))}")
    return module


@cache
def graph() -> grimp.ImportGraph:
    """Who imports whom in mosa, imports for type checkers only left out."""
    try:
        return grimp.build_graph("mosa", cache_dir=None, exclude_type_checking_imports=True)
    except grimp.exceptions.SourceSyntaxError as error:
        raise ValueError(str(error)) from None


@cache
def lazy(module: str) -> dict[str, str]:
    """The table LAZY of a module: {name: module}; empty for one without."""
    for node in _tree(_file(module)).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "LAZY":
            return ast.literal_eval(node.value)
    return {}


def dotted(node: ast.expr) -> list[str]:
    """["mosa", "attacks", "gcg"] of mosa.attacks.gcg; begins with "" if that is no plain name."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return [node.id if isinstance(node, ast.Name) else "", *reversed(parts)]


def _behind(base: str, names: list[str]) -> str:
    """The module behind base.name.name...: as deep as names are modules, then by LAZY."""
    for name in names:
        if f"{base}.{name}" in graph().modules:
            base = f"{base}.{name}"
        elif name in lazy(base):
            return lazy(base)[name]
        elif _names_only(_file(base)):
            known = {child.rpartition(".")[2] for child in graph().find_children(base)}
            known |= lazy(base).keys()
            raise ValueError(f"{base} has no {name!r}{choice(name, sorted(known))}")
        else:
            break
    return base


def _file(module: str) -> Path:
    path = ROOT.joinpath(*check(module).split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def _names_only(path: Path) -> bool:
    """Whether it is an __init__ that holds nothing but LAZY and the __getattr__ that reads it."""
    def named(node: ast.stmt) -> str:
        return ast.unparse(node.targets[0]) if isinstance(node, ast.Assign) else node.name

    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Assign
    return path.name == "__init__.py" and {"LAZY", "__all__", "__getattr__"} >= {
        named(node) for node in _tree(path).body if isinstance(node, kinds)}


def _beside(path: Path) -> list[Path]:
    """Data files that a string of the module names: "style.mplstyle" or "mosa.paper.style"."""
    strings = {n.value for n in ast.walk(_tree(path)) if isinstance(n, ast.Constant)}
    return [file for file in path.parent.iterdir() if file.is_file()
            and file.suffix not in (".py", ".pyc")
            and strings & {file.name, ".".join(file.relative_to(ROOT).with_suffix("").parts)}]
