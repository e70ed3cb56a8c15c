"""Static analysis of the pipeline: does dvc.yaml say what the notebooks' code does?

`expand` turns dvc.yaml into concrete stages, as DVC does with `matrix`; `problems` compares one
stage with its notebook's code. Nothing is executed. `code` is {"results/code/x.py": source},
`modules` is {"mosa/x.py": source}, `styles` the set of "mosa/x.mplstyle" files.
"""

import ast
import itertools
import re
import shlex
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import reduce
from pathlib import PurePosixPath

# Files that stages must not depend on, or every stage would rerun whenever a later one is added.
# They cannot change a result: __init__ holds names only (`is_names_only`), and params passes on
# the values of params.yaml, which DVC tracks, unchanged and without defaults (test_params.py).
NOT_TRACKED = {"mosa/__init__.py", "mosa/params.py"}


@dataclass(frozen=True)
class Stage:
    name: str
    cmd: str
    deps: tuple
    params: tuple
    outs: tuple  # metrics and plots too

    @property
    def papermill(self):
        """(notebook, executed notebook, {name: value of -p}) or None."""
        words = shlex.split(self.cmd)
        if "papermill" not in words:
            return None
        words = words[words.index("papermill") + 1 :]
        values = {words[i + 1]: words[i + 2] for i, w in enumerate(words) if w in ("-p", "-r")}
        return words[0], words[1], values


def expand(dvc, params):
    """The concrete stages of dvc.yaml (parsed): one for each combination of its matrix's values."""
    stages = []
    for name, stage in dvc["stages"].items():
        axes = {axis: _fill(values, params) for axis, values in stage.get("matrix", {}).items()}
        for combination in itertools.product(*axes.values()):
            item = dict(zip(axes, combination, strict=True))
            key = "-".join(map(str, combination))
            concrete = _fill(
                {k: v for k, v in stage.items() if k != "matrix"},
                {**params, "item": item, "key": key},
            )
            cmd = concrete["cmd"]
            tracked = []
            for entry in concrete.get("params", []):  # a key, or {params.yaml: [key, ...]}
                tracked += entry["params.yaml"] if isinstance(entry, dict) else [entry]
            kinds = ("outs", "metrics", "plots")
            outs = [out for kind in kinds for out in concrete.get(kind, [])]
            stages.append(
                Stage(
                    name=f"{name}@{key}" if axes else name,
                    cmd=" && ".join(cmd) if isinstance(cmd, list) else cmd,
                    deps=tuple(concrete.get("deps", [])),
                    params=tuple(tracked),
                    outs=tuple(next(iter(o)) if isinstance(o, dict) else o for o in outs),
                )
            )
    return stages


def imports(source, modules, package=""):
    """The files of `modules` that a source imports itself, wherever in it.

    `package` is the source's own package ("mosa.attacks"), for relative imports. A name that
    mosa/__init__.py exports lazily counts as its module: `from mosa import load`, `mosa.load(...)`.
    A name that is neither module nor export is a ValueError.
    """
    found, roots = set(), set()
    nodes = list(_walk(ast.parse(source)))
    for node in nodes:
        if isinstance(node, ast.Import):
            for name in node.names:
                if _inside(name.name):
                    found |= _parents(name.name, modules)
                    if name.name == "mosa" or not name.asname:
                        roots.add(name.asname or "mosa")
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join([*parts[: len(parts) - node.level + 1], *([base] if base else [])])
            if _inside(base):
                for name in node.names:
                    found |= _member(base, name.name, modules)
    for node in nodes:  # mosa.load(...), mosa.attacks.gcg.run(...)
        if isinstance(node, ast.Attribute) and (dotted := _dotted(node)):
            root, *rest = dotted
            if root in roots and not rest[0].startswith("__"):
                base = ".".join(["mosa", *rest[:-1]])
                if base == "mosa" or _files(base, modules):
                    found |= _member(base, rest[-1], modules)
    return found


def closure(source, modules):
    """Every module file that running a source may import, without mosa/__init__.py itself."""
    todo, found = imports(source, modules), set()
    while todo:
        path = todo.pop()
        if path not in found:
            found.add(path)
            package = ".".join(PurePosixPath(path).parent.parts)
            todo |= imports(modules[path], modules, package)
    return found - {"mosa/__init__.py"}


def exports(modules):
    """{name: dotted module} of the lazy exports in mosa/__init__.py.

    Understands a dict of strings, {"load": "mosa.models"} (or "models", ".models"), and a dict of
    lists, {"models": ["load", "save"]}.
    """
    table = {}
    for node in ast.walk(ast.parse(modules.get("mosa/__init__.py", ""))):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                try:
                    key, value = ast.literal_eval(key), ast.literal_eval(value)
                except ValueError:  # not a constant, or ** unpacking
                    continue
                pairs = [(key, value)] if isinstance(value, str) else [(v, key) for v in value]
                for name, module in pairs:
                    table[name] = "mosa." + module.removeprefix("mosa.").removeprefix(".")
    return table


def is_names_only(source):
    """Whether a module holds only a docstring, imports, constants, __getattr__ and __dir__."""
    for node in ast.parse(source).body:
        match node:
            case ast.Import() | ast.ImportFrom() | ast.Expr(value=ast.Constant()):
                continue
            case ast.FunctionDef(name="__getattr__" | "__dir__"):
                continue
            case ast.If() if _is_type_checking(node):
                continue
            case ast.Assign(value=value) if _called(value) <= {"list", "sorted", "tuple"}:
                continue
        return False
    return True


def texts(node, names):
    """A string expression's value with names filled in, "*" for what only a run would know.

    None if the expression is no string, f-string or name.
    """
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.Name):
        return "" if node.id == "ROOT" else names.get(node.id, "*")
    if isinstance(node, ast.JoinedStr):
        parts = [v.value if isinstance(v, ast.FormattedValue) else v for v in node.values]
        return "".join(_or_star(texts(part, names)) for part in parts)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Div):
        left, right = (_or_star(texts(side, names)) for side in (node.left, node.right))
        return f"{left}/{right}".lstrip("/") if isinstance(node.op, ast.Div) else left + right
    return None


def sections(source, names):
    """The "block.section" keys that a source reads by `section(block, name)`; "*" if unknown."""
    return {
        ".".join(_argument(call, i, key, names) for i, key in enumerate(("block", "name")))
        for call in _calls(ast.parse(source), "section")
    }


def paths(source, names):
    """(used, drawn): the data paths a source names, and the files of its figures and tables.

    A path is any string that begins with results/, models/ or paper_figures/, whatever function
    it goes to, and results/<profile>/<stage>/numbers.json of save_numbers and merge_numbers.
    """
    tree = ast.parse(source)
    used, drawn = set(), set()

    def visit(node):
        text = texts(node, names)
        if text and not isinstance(node, ast.Name) and _is_data(text):
            used.add(text)
        elif not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            for child in ast.iter_child_nodes(node):
                visit(child)

    visit(tree)
    for call in _calls(tree, "save_numbers"):
        profile, stage = (_argument(call, i, k, names) for i, k in enumerate(("profile", "stage")))
        used.add(f"results/{profile}/{stage}/numbers.json")
    for call in _calls(tree, "merge_numbers"):
        profile, stages = _argument(call, 0, "profile", names), _node(call, 1, "stages")
        stages = stages.elts if isinstance(stages, ast.List | ast.Tuple) else [None]
        for stage in stages:
            used.add(f"results/{profile}/{_or_star(texts(stage, names))}/numbers.json")
    for kind, suffixes in {"save_figure": "pdf png csv", "save_table": "csv md tex"}.items():
        for call in _calls(tree, kind):
            name, profile = _argument(call, 1, "name", names), _argument(call, 2, "profile", names)
            drawn |= {f"paper_figures/{profile}/{name}.{suffix}" for suffix in suffixes.split()}
    return used, drawn


def defaults(source):
    """{name: value} of the parameters cell, the one that papermill overrides."""
    cell = re.search(r"^# %% parameters\n(.*?)(?=^# %%|\Z)", source, re.M | re.S)
    return {
        target.id: ast.literal_eval(node.value)
        for node in ast.parse(cell[1] if cell else "").body
        if isinstance(node, ast.Assign)
        for target in node.targets
    }


def problems(stage, code, modules, styles=()):
    """What dvc.yaml says wrongly about one concrete stage, as lines; empty if nothing."""
    found = [f"{out} is an out" for out in stage.outs if not _is_data(out)]
    found += [f"{out}: need() would name another stage" for out in stage.outs
              if not _is_own(out, stage.name)]  # fmt: skip
    found += [f"{d} is a dep" for d in stage.deps if d.startswith("executed")]
    found += [f"{d} is a dep, which would rerun every stage" for d in NOT_TRACKED & {*stage.deps}]
    if stage.papermill:
        source, names = _papermill_problems(stage, code, found)
        if source is None:
            return [f"{stage.name}: {line}" for line in found]
    elif entry := _module_of(stage.cmd, modules):
        source, names = f"import {entry}", {}
    else:
        return [f"{stage.name}: {line}" for line in found]

    try:
        reached = closure(source, modules)
    except ValueError as error:
        return [f"{stage.name}: {line}" for line in [*found, str(error)]]
    reached_sources = [source, *(modules[path] for path in sorted(reached - NOT_TRACKED))]

    # deps: the mosa modules, exactly
    needed = {path for path in reached if path not in NOT_TRACKED}
    needed |= {style for text in reached_sources for style in _styles(text, styles)}
    given = {path for path in {*modules, *styles} for dep in stage.deps if _covers(dep, path)}
    found += [f"{path} is imported but no dep" for path in sorted(needed - given)]
    found += [f"{path} is a dep but not imported" for path in sorted(given - needed - NOT_TRACKED)]
    for dep in stage.deps:
        if dep.startswith("mosa") and not any(_covers(dep, path) for path in {*modules, *styles}):
            found.append(f"{dep} does not exist")

    # params: the sections read, exactly
    read = set().union(*(sections(text, names) for text in reached_sources))
    found += [f"section {key} is read but not in params" for key in sorted(read - {*stage.params})]
    found += [f"params has {key}, which is not read" for key in sorted({*stage.params} - read)]

    # data: every path the notebook names is a dep or an out, every drawing an out
    used, drawn = paths(source, names)
    for path in sorted(used):
        if not any(_covers(known, path) for known in (*stage.deps, *stage.outs)):
            found.append(f"{path} is used but neither dep nor out")
    for path in sorted(drawn):
        if not any(_covers(out, path) for out in stage.outs):
            found.append(f"{path} is drawn but no out")
    return [f"{stage.name}: {line}" for line in found]


def _papermill_problems(stage, code, found):
    notebook, executed, values = stage.papermill
    path = "results/code/" + notebook.removeprefix("notebooks/").removesuffix(".ipynb") + ".py"
    if path not in code:
        found.append(f"there is no {notebook}")
        return None, None
    if path not in stage.deps:
        found.append(f"{path} is no dep")
    if notebook in stage.deps:
        found.append(f"{notebook} is a dep: depend on {path}")
    if not executed.startswith("executed/"):
        found.append(f"{executed} is not under executed/")
    known = defaults(code[path])
    found += [f"-p {name} is not in the parameters cell" for name in sorted({*values} - {*known})]
    names = {name: str(value) for name, value in {**known, **values}.items()}
    return code[path], names


def _module_of(cmd, modules):
    """The dotted module that `python -m mosa.x` runs, or None."""
    match = re.search(r"python3? -m (mosa[\w.]*)", cmd)
    return match[1] if match and _files(match[1], modules) else None


def _fill(value, names):
    """${dotted.name} replaced by its value: by the value itself where it is the whole string."""
    if isinstance(value, dict):
        return {_fill(k, names): _fill(v, names) for k, v in value.items()}
    if isinstance(value, list):
        return [_fill(v, names) for v in value]
    if not isinstance(value, str):
        return value

    def look_up(match):
        return reduce(lambda values, key: values[key], match[1].split("."), names)

    pattern = re.compile(r"\$\{([\w.]+)\}")
    if match := pattern.fullmatch(value):
        return look_up(match)
    return pattern.sub(lambda match: str(look_up(match)), value)


def _is_data(path):
    return path.startswith(("results/", "models/", "paper_figures/"))


def _is_own(out, name):
    """Whether need(out) names this stage: results/<profile>/<stage>/..., results/code aside."""
    parts = PurePosixPath(out).parts
    if parts[0] != "results" or parts[:2] == ("results", "code"):
        return True
    stage, _, key = name.partition("@")
    return len(parts) > 2 and parts[2] == stage and f"{key}-".startswith(f"{parts[1]}-")


def _covers(known, path):
    """Whether a dep or out is a path or a folder above it; "*" on either side matches anything."""
    one, other = PurePosixPath(known).parts, PurePosixPath(path).parts
    same = all(fnmatch(b, a) or fnmatch(a, b) for a, b in zip(one, other, strict=False))
    return same and len(one) <= len(other)


def _calls(tree, name):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = node.func
            called = function.attr if isinstance(function, ast.Attribute) else None
            called = function.id if isinstance(function, ast.Name) else called
            if called == name:
                yield node


def _called(node):
    """Names of the functions that an expression calls; "" for one that is no plain name."""
    calls = (n.func for n in ast.walk(node) if isinstance(n, ast.Call))
    return {function.id if isinstance(function, ast.Name) else "" for function in calls}


def _node(call, position, keyword):
    if position < len(call.args):
        return call.args[position]
    return next((k.value for k in call.keywords if k.arg == keyword), None)


def _argument(call, position, keyword, names):
    return _or_star(texts(_node(call, position, keyword), names))


def _or_star(text):
    return "*" if text is None else text


def _walk(node):
    """ast.walk without what an import does not run: `if TYPE_CHECKING:` and a __getattr__."""
    yield node
    for child in ast.iter_child_nodes(node):
        lazy = isinstance(child, ast.FunctionDef) and child.name == "__getattr__"
        if not lazy and not (isinstance(child, ast.If) and _is_type_checking(child)):
            yield from _walk(child)


def _is_type_checking(node):
    return ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def _styles(source, styles):
    strings = {n.value for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Constant)}
    return {path for path in styles if path.removesuffix(".mplstyle").replace("/", ".") in strings}


def _inside(dotted):
    return dotted.split(".")[0] == "mosa"


def _dotted(node):
    """["mosa", "attacks", "gcg"] of mosa.attacks.gcg; None if it does not begin with a name."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return [node.id, *reversed(parts)] if isinstance(node, ast.Name) else None


def _files(dotted, modules):
    stem = dotted.replace(".", "/")
    return {path for path in (f"{stem}.py", f"{stem}/__init__.py") if path in modules}


def _parents(dotted, modules):
    """Files of a dotted module and of the packages above it, which its import runs too."""
    if not _files(dotted, modules):
        raise ValueError(f"{dotted} is imported but does not exist")
    parts = dotted.split(".")
    above = (".".join(parts[: i + 1]) for i in range(len(parts)))
    return set().union(*(_files(name, modules) for name in above))


def _member(base, name, modules):
    """Files behind `from base import name`: a submodule, a lazy export, or base itself."""
    if _files(f"{base}.{name}", modules):
        return _parents(f"{base}.{name}", modules)
    if base != "mosa":
        return _parents(base, modules)
    table = exports(modules)
    if name in table:
        return _parents(table[name], modules)
    raise ValueError(f"mosa.{name} is neither a module nor a name of mosa/__init__.py")
