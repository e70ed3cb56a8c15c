"""What a notebook opens with, and the only thing that writes.

    stage = mosa.Stage(profile, "prefill")
    requests = stage.requests("primary", n=stage.cfg.n)
    rows = stage.judged(stage.original.generate(requests, stage.sampler))
    stage.rows(rows)                       # results/<profile>/prefill/rows.jsonl
    stage.figure(fig, "figure3", points)   # paper_figures/<profile>/prefill/figure3.pdf, .png, .csv
    stage.numbers(numbers)                 # and numbers.json there: the last call

A stage has one name: of its notebook, its section of params.yaml and its two folders.
"""

import json
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mosa.pipeline import params
from mosa.pipeline.params import choice, need
from mosa.pipeline.rows import done, read_jsonl, rounded, write_json, write_jsonl
from mosa.pipeline.sections import SCHEMAS, Judge, Sampler

if TYPE_CHECKING:
    from mosa.target import Target

# What each of these reaches is imported when it is used, so that a stage that draws nothing does
# not depend on how things are drawn; mosa.pipeline.closure reads this table.
LAZY = {"targets": "mosa.target", "every_run": "mosa.target", "original": "mosa.target",
        "base": "mosa.target", "bases": "mosa.target", "judged": "mosa.judges",
        "flat": "mosa.paper.tables", "subplots": "mosa.paper.save", "figure": "mosa.paper.save",
        "table": "mosa.paper.save"}


class Stage:
    """One stage of one profile; `parts` are the other axes of its matrix, such as a model's name.

    schema: of its section of params.yaml, where that is not in mosa.pipeline.sections. Raises
    ParamsError, in one line, where the section is wrong.
    """

    def __init__(self, profile: str, name: str, *parts: str, schema: type | None = None):
        self.profile, self.name = profile, name
        self.key = f"{name}@{'-'.join([profile, *parts])}"  # DVC's name of it
        self.results = "/".join(["results", profile, name, *parts])
        self.figures = "/".join(["paper_figures", profile, name, *parts])
        self.cfg: Any = self.section(name, schema) if schema or name in SCHEMAS else None
        lists = params.lists()
        self.models, self.methods = lists["models"], lists["methods"]
        self.attacks, self.attacked = lists["attacks"], lists["attacked"]
        self.judges, self.benchmarks = lists["judges"], lists["benchmarks"]
        self.written: set[Path] = set()

    # --- what it reads ---------------------------------------------------------------------

    def section(self, name: str, schema: type | None = None) -> Any:
        """A section of this profile in params.yaml, typed; "methods.mosa" is one block of one."""
        return params.section(self.profile, name, schema or SCHEMAS[name])

    @property
    def sampler(self) -> Sampler:
        """The section `sampler`: how every response of the profile is decoded."""
        return self.section("sampler")

    @property
    def judge(self) -> Judge:
        """The section `judge`: who reads the responses, and the mark on what is no result."""
        return self.section("judge")

    def requests(self, role: str | None = None, family: str | None = "plain",
                 n: int | None = None) -> list[dict]:
        """Requests of the stage `data`; the first `n`.

        role: benchmark, benign, borderline or validation; "primary" is the first benchmark alone;
        None: all. family: the wrap; None: all.
        """
        rows = self.read("data", name="requests")
        for what, name in (("role", "benchmark" if role == "primary" else role),
                           ("family", family)):
            known = {r[what] for r in rows}
            if name is not None and name not in known:
                raise ValueError(f"results/{self.profile}/data has no requests of {what} {name!r}"
                                 f"{choice(name, known)}")
        if role is not None:
            rows = [r for r in rows if r["role"] == ("benchmark" if role == "primary" else role)]
        if role == "primary":
            rows = [r for r in rows if r["set"] == rows[0]["set"]]
        rows = [r for r in rows if family in (None, r["family"])]
        if n is not None and n > len(rows):
            raise ValueError(f"params.yaml: {self.profile}.{self.name}: asks for {n} requests of "
                             f"{len(rows)}: lower its n, or raise those of {self.profile}.data")
        return rows[:n]

    def questions(self) -> list[dict]:
        """The utility questions of the stage `data` (id, task, question, answer)."""
        return self.read("data", name="questions")

    @property
    def phrases(self) -> dict[str, list[str]]:
        """The phrase sets of the stage `data`, by name."""
        return json.loads(need(f"results/{self.profile}/data/phrases.json").read_text("utf-8"))

    def read(self, stage: str, *parts: str, name: str = "rows") -> list[dict]:
        """Rows that another stage wrote; FileNotFoundError with the command that makes them."""
        return read_jsonl("/".join(["results", self.profile, stage, *parts, f"{name}.jsonl"]))

    def shown(self, stage: str, *names: str) -> Path:
        """A file among another stage's figures and tables, to show it."""
        return need("/".join(["paper_figures", self.profile, stage, *names]))

    # --- models and judges -----------------------------------------------------------------

    @property
    def original(self) -> "Target":
        """The Target that the profile measures, before any alignment."""
        return self._lazy("original")(self.profile, self.key)

    def targets(self, names: list[str]) -> "list[Target]":
        """Targets by name, as the stage `models` wrote them; aligned ones of `models.seed`."""
        return self._lazy("targets")(names, self.profile, self.section("models").seed, self.key)

    def every_run(self, name: str) -> "list[Target]":
        """The Targets of one model: one for each base model and training seed."""
        return self._lazy("every_run")(name, self.profile, self.key)

    def base(self, name: str) -> "Target":
        """The Target of another base model: a folder of models/, or a name on the hub."""
        return self._lazy("base")(name, self.section("target").dtype, self.key)

    @property
    def analysed(self) -> list[str]:
        """The models that the stages of the asymmetry look at: `original`, and some of the list."""
        return ["original", *self.section("models").analysed]

    @property
    def bases(self) -> "list[Target]":
        """The profile's target and the base models beside it (`target.seeds`): every seed."""
        return [self.original, *map(self.base, self.section("target").seeds)]

    def judged(self, rows: list[dict]) -> list[dict]:
        """The rows with the verdict of the profile's judge."""
        return import_module(LAZY["judged"]).judge(rows, self.judge.name)

    def flat(self, rows: list[dict]) -> list[dict]:
        """Flat rows for analysis: request, response and the profile's judge's verdict in one."""
        return self._lazy("flat")(rows, self.judge.name)

    # --- what it writes --------------------------------------------------------------------

    def rows(self, rows: list[dict], name: str = "rows") -> None:
        """Write results/<profile>/<stage>/<name>.jsonl."""
        write_jsonl(f"{self.results}/{name}.jsonl", rows)

    def json(self, name: str, value: Any) -> None:
        """Write results/<profile>/<stage>/<name>.json."""
        write_json(f"{self.results}/{name}.json", value)

    def path(self, *names: str) -> Path:
        """A path below this stage's results, for files of another kind; its folder is made."""
        path = params.ROOT.joinpath(self.results, *names)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def folders(self) -> None:
        """The folders of results that stages read whole: DVC wants them to be there even where the
        list that fills one is empty. Made once, by the stage `data`, which all others follow."""
        for name in ("align", "measure", "tasks", "gcg", "attack", "judge", "transfer"):
            (params.ROOT / "results" / self.profile / name).mkdir(parents=True, exist_ok=True)

    def subplots(self, *args: Any, **kwargs: Any) -> tuple:
        """matplotlib's subplots, in the paper's style."""
        return self._lazy("subplots")(*args, **kwargs)

    def figure(self, fig: Any, name: str, data: Any, note: str | None = None) -> None:
        """Write a figure as PDF and PNG, and the frame of plotted numbers as CSV."""
        save = import_module(LAZY["figure"]).save_figure
        self.written |= save(fig, f"{self.figures}/{name}", data, note, self.judge.mark)

    def table(self, frame: Any, name: str, caption: str = "", digits: int = 1) -> None:
        """Write a table as CSV, Markdown and LaTeX."""
        save = import_module(LAZY["table"]).save_table
        self.written |= save(frame, f"{self.figures}/{name}", caption, digits, self.judge.mark)

    def numbers(self, numbers: dict) -> None:
        """Write numbers.json (six significant digits) and close the stage: the last call.

        What an interrupted run would have needed is forgotten, and what an earlier run drew under
        a name that is drawn no more is removed. Until here the earlier figures stay in place.
        """
        path = write_json(f"{self.figures}/numbers.json", rounded(numbers, self.name))
        for stale in {p for p in path.parent.iterdir() if p.is_file()} - self.written - {path}:
            stale.unlink()
        done(self.key)

    def _lazy(self, name):
        return getattr(import_module(LAZY[name]), name)
