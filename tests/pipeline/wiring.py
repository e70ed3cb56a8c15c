"""Does dvc.yaml say what a notebook reads and writes? Read off its calls of `stage`; nothing runs.

`expand` fills in the matrix, as DVC does; `problems` compares one stage with its notebook's code.
The modules that a notebook reaches are not looked at: the stage `code` follows those by itself.
"""

import ast
import itertools
import re
import shlex
from dataclasses import dataclass
from typing import Any

from mosa.pipeline.closure import dotted, imported

# What an attribute of `stage` makes it depend on, {p} being the profile
PARAMS = {"sampler": ["{p}.sampler"], "judge": ["{p}.judge"], "judged": ["{p}.judge"],
          "flat": ["{p}.judge"], "figure": ["{p}.judge"], "table": ["{p}.judge"],
          "targets": ["{p}.models"], "analysed": ["{p}.models"],
          "base": ["{p}.target"], "bases": ["{p}.target"],
          **{name: [name] for name in ("models", "methods", "attacks", "attacked", "judges",
                                        "benchmarks")}}
DEPS = {"requests": ["results/{p}/data"], "questions": ["results/{p}/data"],
        "phrases": ["results/{p}/data"], "original": ["results/{p}/target"],
        "bases": ["results/{p}/target"]}
WRITES = ("rows", "json", "path", "figure", "table")


@dataclass(frozen=True)
class Stage:
    name: str
    cmd: str
    deps: tuple[str, ...]
    params: tuple[str, ...]
    outs: tuple[tuple[str, bool], ...]  # and whether DVC's cache keeps it

    @property
    def papermill(self) -> tuple[str, str, dict[str, str]] | None:
        """(notebook, executed notebook, {name: value of -p})."""
        words = shlex.split(self.cmd)
        if words[0] != "papermill":
            return None
        return words[1], words[2], {words[i + 1]: words[i + 2]
                                    for i, word in enumerate(words) if word == "-p"}


def expand(stages: dict[str, Any], lists: dict[str, list[str]]) -> list[Stage]:
    """The concrete stages: one for each combination of a matrix's axes."""
    found = []
    for name, stage in stages.items():
        matrix = stage.get("matrix", {})
        axes = [lists[v[2:-1]] if isinstance(v, str) else v for v in matrix.values()]
        for values in itertools.product(*axes):
            item, key = dict(zip(matrix, map(str, values), strict=True)), "-".join(map(str, values))

            def fill(text, item=item, key=key):
                return re.sub(r"\$\{(?:item\.)?(\w+)\}", lambda m: {**item, "key": key}[m[1]], text)

            outs = [next(iter(out.items())) if isinstance(out, dict) else (out, {})
                    for out in stage.get("outs", [])]
            found.append(Stage(
                f"{name}@{key}" if matrix else name, fill(stage["cmd"]),
                tuple(map(fill, stage.get("deps", []))), tuple(map(fill, stage.get("params", []))),
                tuple((fill(path), flags.get("cache", True)) for path, flags in outs)))
    return found


def problems(stage: Stage, source: str) -> list[str]:
    """What dvc.yaml says wrongly of a stage whose notebook has this code, as lines."""
    notebook, executed, given = stage.papermill
    tree, names = ast.parse(source), {}
    for cell in re.findall(r"^# %% parameters\n(.*?)(?=^# %%|\Z)", source, re.M | re.S):
        names = {n.targets[0].id: ast.literal_eval(n.value) for n in ast.parse(cell).body}
    found = [f"-p {n} is not in the parameters cell" for n in given.keys() - names.keys()]
    found += [f"-p {n} is not given" for n in names.keys() - given.keys()]
    own = f"results/code/{notebook.removeprefix('notebooks/').removesuffix('.ipynb')}.py"
    params, deps, outs = _reads(tree, names | given, stage.name.partition("@")[0])
    deps.add(own)
    if not re.fullmatch(rf"executed/{re.escape(stage.name.replace('@', '.'))}\.ipynb", executed):
        found.append(f"{executed} is not executed/<stage>.<key>.ipynb")
    deps = {dep for dep in deps if not any(_covers(out, dep) for out in outs)}
    if "mosa.alignment.run" in imported(source):  # it loads an objective by its name
        deps.add("results/code/methods/{profile}/{method}.py".format(**given) if "method" in given
                 else "results/code/methods/all.py")
    if f"{given.get('profile')}.target" in params:  # a section that names a model's folder
        deps.add("models")
    may = {f"results/{given.get('profile')}/data"}  # it makes folders that others read whole
    for kind, used, said in (("params", params, stage.params), ("deps", deps, stage.deps)):
        found += [f"{u} is used but not in {kind}" for u in used if not any(
            _covers(s, u) for s in said)]
        found += [f"{s} is in {kind} but not used" for s in said if not any(
            _covers(s, u) for u in used | may)]
    for out in outs - dict(stage.outs).keys():
        found.append(f"{out} is written but no out")
    for out, cached in stage.outs:
        if out not in outs:
            found.append(f"{out} is an out but not written")
        elif cached != out.startswith("results/"):
            found.append(f"{out} has the wrong `cache`: results are cached, the rest committed")
    return sorted(f"{stage.name}: {line}" for line in found)


def _reads(tree: ast.Module, names: dict[str, Any], stage: str
           ) -> tuple[set[str], set[str], set[str]]:
    """(params, deps, outs) that the code uses; "*" stands for what only a run would know."""
    params, deps, outs, p, here = set(), set(), set(), names.get("profile"), "?"
    nodes = list(ast.walk(tree))
    made = [n for n in nodes if isinstance(n, ast.Assign) and isinstance(n.targets[0], ast.Name)]
    for node in made:  # block = f"base-{seed}"
        if isinstance(node.value, ast.JoinedStr):
            names = {**names, node.targets[0].id: _text(node.value, names)}
    variables = {n.targets[0].id for n in made
                 if isinstance(n.value, ast.Call) and dotted(n.value.func)[-1] == "Stage"}

    used: dict[str, list[int]] = {}  # attributes of `stage`, with the lines they stand on
    for node in nodes:
        if isinstance(node, ast.Attribute) and dotted(node)[0] in variables:
            used.setdefault(dotted(node)[1], []).append(node.lineno)
    for name in used:
        params |= {text.format(p=p) for text in PARAMS.get(name, ())}
        deps |= {text.format(p=p) for text in DEPS.get(name, ())}

    for call in (n for n in nodes if isinstance(n, ast.Call)):
        of_stage, name = dotted(call.func)[0] in variables, dotted(call.func)[-1]
        words = [_text(argument, names) for argument in call.args]
        match name:
            case "Stage":
                here = "/".join(words)
                if words[1] != stage:
                    params.add(f"(the name {words[1]})")
            case "section":
                params.add(f"{p}.{words[0]}" if of_stage else ".".join(words[:2]))
            case "read" if of_stage:
                deps.add("/".join(["results", p, *words]))
            case "shown" if of_stage:
                deps.add("/".join(["paper_figures", p, *words]))
            case "targets" | "every_run" if of_stage:
                first = call.args[0]  # a name, a list of names, or what only a run would know
                models = first.elts if isinstance(first, ast.List) else [first]
                deps |= {f"results/{p}/models/{_text(model, names)}" for model in models}

    for node in nodes:  # params.lists()["searches"]
        if (isinstance(node, ast.Subscript) and isinstance(node.value, ast.Call)
                and dotted(node.value.func)[-1] == "lists"):
            params.add(_text(node.slice, names))
    if "cfg" in used:
        params.add(".".join(here.split("/")[:2]))
    if {"rows", "json", "path"} & used.keys():
        outs.add(f"results/{here}")
    if "numbers" in used:
        outs.add(f"paper_figures/{here}")
        params |= {f"({name} after numbers, which is the last call)" for name in WRITES
                   if max(used.get(name, [0])) > used["numbers"][0]}
    elif {*WRITES} & used.keys():
        params.add("(numbers, which ends a stage that writes)")

    inside = {id(part) for n in nodes if isinstance(n, ast.JoinedStr) for part in n.values}
    for node in nodes:  # save(lm, ROOT / f"models/embedded-{seed}")
        if isinstance(node, ast.JoinedStr | ast.Constant) and id(node) not in inside:
            text = _text(node, names)
            if re.match(r"(results|models|adapters|paper_figures)/\S+$", text):
                (outs if not p and text.endswith(f"-{names.get('seed')}") else deps).add(text)
    return params, deps, outs


def _text(node: ast.expr, names: dict[str, Any]) -> str:
    """A string expression's value, "*" where it is not known."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.Name):
        return str(names.get(node.id, "*"))
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(v.value if isinstance(v, ast.FormattedValue) else v, names)
                       for v in node.values)
    return "*"


def _covers(said: str, used: str) -> bool:
    """Whether it is the same path or key, or one above it."""
    one, other = (re.split(r"/", x) if "/" in x else x.split(".") for x in (said, used))
    return one == other[: len(one)]
