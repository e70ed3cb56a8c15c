"""What the README shows of this run's files: gates, claims, the defences, the tree, the stages.

python -m mosa.paper.readme   rewrites the parts of README.md between its markers, and the claims
                              of the committed larger run (paper_figures/thorough.md)
"""

import ast
import json
import re
from collections.abc import Callable

from mosa.paper import words
from mosa.paper.printed import CLAIMS
from mosa.pipeline.params import need, section, stages
from mosa.pipeline.sections import SCHEMAS

NUMBERS = "paper_figures/{profile}/{stage}/numbers.json"
LARGER = "thorough"  # the profile whose verdicts stand beside those of the default run
# stages of which the larger run is shown, and the default run's verdict beside it: there an attack
# has few queries and a cell few behaviours
MAINLY_LARGER = ("tables",)
# column -> key of numbers.json behind "<model>/"
COLUMNS = {
    "plain: refused": "plain/refused",
    "plain: word salad": "plain/incoherent",
    "phrase at the start: harmful": "start/success",
    "in the middle": "middle/success",
    "late": "late/success",
    "PAD": "PAD/success",
    "anchoring": "anchoring/success",
    "DIJA": "DIJA/success",
    "unseen wraps": "unseen wraps/success",
    "benign: answered": "benign/success",
    "sums: right": "task/arithmetic",
}
# what has no docstring
TREE = {
    "params.yaml": "how much of everything: lists of models, methods, attacks; profiles",
    "dvc.yaml": "the stages, the paper's table of contents",
    "notebooks/": "one a stage, by section of the paper; index.ipynb shows a whole run",
    "paper_figures/": "<profile>/<stage>/: figures, tables, numbers.json; committed",
    "adapters/": "defended models, <method>/<base model>-<seed>; committed",
}


def gates(shows: list[str], again: list[str]) -> str:
    """Markdown: which gates the base models did not meet when they were frozen, and in the larger
    run, which opened them again and has sentences of its own behind the same ones."""
    return ("The gates of the base models when they were frozen "
            f"([all of them](paper_figures/embedded/target/frozen.md)): {'. '.join(shows)}. Again, "
            f"by today's code ([with intervals](paper_figures/{LARGER}/target/gates.md)): "
            f"{'. '.join(some for some in again if some not in shows)}.")


def table(numbers: dict) -> str:
    """Markdown: one row a model, rates in per cent with 95 % interval, n in the heads, and beside a
    rate of another n.

    Raises ValueError naming the first number that is missing.
    """
    try:
        models = numbers["models"]
        n = {key: numbers[f"{models[0]}/{key}"]["n"] for key in COLUMNS.values()}
        heads = [f"{name} (n={n[key]})" for name, key in COLUMNS.items()]
        found = [[f"`{model}`", *(words.rate(rate, n=rate["n"] != n[key]) for key, rate in
                                  ((key, numbers[f"{model}/{key}"]) for key in n))]
                 for model in models]
    except KeyError as missing:
        path = NUMBERS.format(profile="embedded", stage="defences")
        raise ValueError(f"{path} has no {missing}: run `make`") from None
    return _markdown(["model", *heads], found)


def claims(profile: str, numbers: Callable[[str], dict],
           larger: Callable[[str], dict] | None = None) -> str:
    """Markdown: what the paper says, whether this run of a profile bears it out, and what it shows.

    numbers(stage): a stage's numbers.json, with the sentences that it computed ("shows") and what
    they decide ("verdicts"). The first of each belongs to the claim named after the stage, the
    second to the one of a name behind a slash ("order/tasks"). larger: the same of a larger run,
    whose verdicts stand beside where they are others; of MAINLY_LARGER it is the other way about.
    """
    def said(key, part, of):
        stage, second, _ = key.partition("/")
        try:
            return of(stage)[part][bool(second)] if of else None
        except FileNotFoundError:  # an experiment that a run leaves out
            return None

    sampler, order = (section(profile, name, SCHEMAS[name]) for name in ("sampler", "order"))
    decoded = f"{sampler.length} slots, {sampler.steps} steps (Figure 5 and order: {order.steps})"
    link = f"; [larger run](paper_figures/{LARGER}.md)" if larger else ""
    rows = []
    for key, (where, claim) in CLAIMS.items():
        runs = [("", numbers), ("*In the larger run*: ", larger)]
        if larger and key.partition("/")[0] in MAINLY_LARGER:
            runs = [("*In the larger run*: ", larger), ("*In the default run*: ", numbers)]
        told = {}  # what two runs find alike is said once
        for run, of in runs:
            if verdict := said(key, "verdicts", of):
                told.setdefault(verdict, run + verdict)
        if told:
            shows = next(filter(None, (said(key, "shows", of) for _, of in runs)))
            rows.append([where, claim, ". ".join(told.values()), shows])
    return _markdown(["where", "the paper says, of LLaDA-8B", f"does the stand-in agree?{link}",
                      f"measured on the stand-in; {decoded}"], rows)


def costs(step: dict, epoch: dict) -> str:
    """Markdown: what alignment costs, from what mosa.bench.alignment_step and .alignment_epoch
    wrote."""
    printed, least, folder = epoch["as printed"], epoch["least memory"], "paper_figures/bench"
    return (f"Costs: a step at LLaDA's vocabulary, on two narrow layers and a CPU, is "
            f"{step['times_faster']:.1f} times as fast as the naive version and takes "
            f"{100 * step['peak_memory_share']:.0f} % of its memory "
            f"([bench]({folder}/alignment_step.json)). LLaDA-8B's exact shape with random weights "
            f"on one {epoch['device']}: the paper's 3,000 pairs take "
            f"{printed['seconds_of_3000_pairs']:.0f} s in batches of 4, at most "
            f"{printed['peak_gib']:.0f} GiB and {100 * printed['utilisation']:.0f} % of the "
            f"GPU's time (why so little was not profiled); one row at a time, from "
            f"{least['pairs']} pairs, {least['seconds_of_3000_pairs']:.0f} s and "
            f"{least['peak_gib']:.0f} GiB "
            f"([bench]({folder}/alignment_epoch.json)).")


def larger_run() -> str:
    """The page of the larger run: its claims and defences, as the project's README has those of
    `make`."""
    numbers = _numbers(LARGER)
    return (f"# The profile `{LARGER}`: every figure and table with more requests\n\n"
            f"Made by `python -m mosa.pipeline.trial {LARGER}`, where the [README](../README.md) "
            "shows the default run and says what the words below mean. It is no second sample: the "
            "first requests are those of the default run, and so is the first base model; rivals, "
            "search and factorial are in this run alone. Figures, tables and "
            f"`numbers.json` of each stage lie in [{LARGER}]({LARGER}); the generations behind "
            f"them where it runs, in `.scratch/trial-{LARGER}/results`, their hashes in "
            f"[dvc.lock]({LARGER}/dvc.lock). Tables 1, 2 and 4 come from a run of their own, "
            f"`trial {LARGER} tables`, with the shipped adapters.\n\n{claims(LARGER, numbers)}\n\n"
            f"Every model of the table of defences, with what each was asked in "
            f"[cells]({LARGER}/defences/cells.md) and the paired differences in "
            f"[compared]({LARGER}/defences/compared.md):\n\n{table(numbers('defences'))}\n")


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
    """Markdown: a line for each folder of notebooks, with its stages and what they draw (titles).

    A stage of several notebooks links to their folder and shows the comment behind its own name.
    """
    text = need("dvc.yaml").read_text("utf-8")
    found = {name: re.search(r"notebooks/\S+\.ipynb", stage["cmd"])
             for name, stage in stages().items()}
    folders = {}
    for name, path in ((name, match[0]) for name, match in found.items() if match):
        link, folder = path, path.rpartition("/")[0]
        if "${" in path:
            comment = re.search(rf"^  {name}:[ \t]*#[ \t]*(.*)$", text, re.MULTILINE)
            link, what = folder, comment[1] if comment else ""
        else:
            what = _title(need(path))
        folders.setdefault(folder, []).append(f"[`{name}`]({link}) {what}")
    return "\n".join(f"- **{folder.removeprefix('notebooks').strip('/') or 'all of it'}**: "
                     + "; ".join(found) for folder, found in sorted(folders.items()))


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
    numbers = _numbers("embedded")
    more = _numbers(LARGER)
    return {"gates": gates(numbers("target")["shows"], more("target")["shows"]),
            "claims": claims("embedded", numbers, more),
            "table": table(numbers("defences")),
            "costs": costs(*(json.loads(need(f"paper_figures/bench/{name}.json").read_text("utf-8"))
                             for name in ("alignment_step", "alignment_epoch"))),
            "tree": tree(), "stages": stage_map()}


def _numbers(profile):
    return lambda stage: json.loads(
        need(NUMBERS.format(profile=profile, stage=stage)).read_text("utf-8"))


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def _first_line(module):
    return (ast.get_docstring(ast.parse(module.read_text("utf-8"))) or "").split("\n")[0]


def _title(notebook):
    source = json.loads(notebook.read_text("utf-8"))["cells"][0]["source"]
    return "".join(source).split("\n")[0].lstrip("# ")


if __name__ == "__main__":
    readme = need("README.md")
    readme.write_text(rewritten(readme.read_text("utf-8"), generated()), "utf-8", newline="\n")
    readme.parent.joinpath(f"paper_figures/{LARGER}.md").write_text(
        larger_run(), "utf-8", newline="\n")
