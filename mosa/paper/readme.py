"""What the README shows of this run's files: a table, its figure in words, the tree, the stage map.

python -m mosa.paper.readme   rewrites the parts of README.md between its markers
"""

import ast
import json
import re

from mosa.paper import words
from mosa.pipeline.params import need, stages

NUMBERS = "paper_figures/embedded/defences/numbers.json"
FORCED = "paper_figures/embedded/prefill/numbers.json"
MODELS = ("original", "mosa", "initial", "mosa_plus", "initial_plus")
# column -> key of numbers.json behind "<model>/"
COLUMNS = {
    "plain: harmful": "any plain/success",
    "phrase at the start: harmful": "any start/success",
    "phrase in the middle: harmful": "any middle/success",
    "unseen wraps: harmful": "any reserved wraps/success",
    "benign: answered": "any benign plain/answered",
    "sums: right": "task/arithmetic",
}
# what has no docstring
TREE = {
    "params.yaml": "how much of everything: lists of models, methods, attacks; profiles",
    "dvc.yaml": "the stages, the paper's table of contents",
    "notebooks/": "one a stage, by section of the paper; index.ipynb shows a whole run",
    "paper_figures/": "<profile>/<stage>/: figures, tables, numbers.json; committed",
}


def table(numbers: dict) -> str:
    """Markdown: one row a model, rates in per cent with 95 % interval and n.

    Raises ValueError naming the first number that is missing.
    """
    rows = [["model", *COLUMNS], ["---"] * (1 + len(COLUMNS))]
    try:
        for model in MODELS:
            rates = [words.rate(numbers[f"{model}/{key}"]) for key in COLUMNS.values()]
            rows.append([f"`{model}`", *rates])
    except KeyError as missing:
        raise ValueError(f"{NUMBERS} has no {missing}: run `make`") from None
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def figure(numbers: dict) -> str:
    """One sentence: at which places success differs from that without a phrase, in Figure 3."""
    against = {key.partition("/")[0]: value for key, value in numbers.items()
               if key.endswith("/minus no prefill")}
    decided = {way: ", ".join(f"{place} {words.difference(d)}" for place, d in against.items()
                              if words.verdict(d) == way) or "nowhere" for way in ("more", "less")}
    n = max(d["n"] for d in against.values())
    return (f"Harmful in points against no phrase, at {len(against)} places (n={n}, 95 % "
            f"intervals, uncorrected): more {decided['more']}; less {decided['less']}.")


def tree() -> str:
    """Markdown: the folders and the modules of mosa/ with the first lines of their docstrings."""
    folder = need("mosa")
    lines = TREE | {"mosa/": _first_line(folder / "__init__.py")}
    for path in [*sorted(folder.glob("[!_]*.py")), *sorted(folder.glob("*/__init__.py"))]:
        name = path.parent.name + "/" if path.name == "__init__.py" else path.name
        lines[f"  {name}"] = _first_line(path)
    width = max(map(len, lines)) + 2
    return "\n".join(["```", *(f"{name:<{width}}{text}" for name, text in lines.items()), "```"])


def stage_map() -> str:
    """Markdown: every stage of dvc.yaml with a notebook, and what that draws (its title).

    A stage of several notebooks links to their folder and shows the comment behind its own name.
    """
    text = need("dvc.yaml").read_text("utf-8")
    found = {name: re.search(r"notebooks/\S+\.ipynb", stage["cmd"])
             for name, stage in stages().items()}
    paths = {name: match[0] for name, match in found.items() if match}
    lines = ["| stage | notebook | what it draws |", "|---|---|---|"]
    for name, path in paths.items():
        if "${" in path:
            folder = path.rpartition("/")[0]
            where = f"[{folder.removeprefix('notebooks/')}/]({folder}) one each"
            comment = re.search(rf"^  {name}:[ \t]*#[ \t]*(.*)$", text, re.MULTILINE)
            what = comment[1] if comment else ""
        else:
            where, what = _link(path), _title(need(path))
        lines.append(f"| `{name}` | {where} | {what} |")
    return "\n".join(lines)


def rewritten(text: str, parts: dict[str, str]) -> str:
    """README.md's text with its generated parts replaced; ValueError if a marker is gone."""
    for name, part in parts.items():
        start, end = f"<!-- {name}: python -m mosa.paper.readme -->", f"<!-- end of {name} -->"
        head, found, rest = text.partition(start)
        _, closed, tail = rest.partition(end)
        if not (found and closed):
            raise ValueError(f"README.md has lost its marker `{end if found else start}`: "
                             "run `git checkout README.md`")
        text = f"{head}{start}\n{part}\n{end}{tail}"
    return text


def generated() -> dict[str, str]:
    """What README.md shows between its markers, from the files of this project."""
    numbers = json.loads(need(NUMBERS).read_text("utf-8"))
    return {"figure": figure(json.loads(need(FORCED).read_text("utf-8"))), "table": table(numbers),
            "tree": tree(), "stages": stage_map()}


def _first_line(module):
    return (ast.get_docstring(ast.parse(module.read_text("utf-8"))) or "").split("\n")[0]


def _link(path):
    return f"[{path.removeprefix('notebooks/').removesuffix('.ipynb')}]({path})"


def _title(notebook):
    source = json.loads(notebook.read_text("utf-8"))["cells"][0]["source"]
    return "".join(source).split("\n")[0].lstrip("# ").replace("|", r"\|")


if __name__ == "__main__":
    readme = need("README.md")
    readme.write_text(rewritten(readme.read_text("utf-8"), generated()), "utf-8", newline="\n")
