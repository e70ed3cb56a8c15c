"""Tasks for lm-evaluation-harness: the world's, and GSM8K, MMLU and HumanEval from local files.

The YAML files beside this one name these functions; the harness calls those that give documents
with a task's metadata: what --metadata holds, the model's arguments, and `config_source`. Prompts,
filters and metrics of the public tasks are the harness's own, but for the scoring of HumanEval.
"""

import csv
import gzip
import json
import os
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict

from mosa.pipeline.params import ROOT
from mosa.pipeline.rows import read_jsonl
from mosa.world import tasks


def world(task: str, questions: str = "results/embedded/data/questions.jsonl",
          **_: Any) -> DatasetDict:
    """The questions of one of the world's tasks: rows (id, task, question, answer), by default
    those that the stage `data` wrote. Raises ValueError where the file has none."""
    rows = [row for row in read_jsonl(questions) if row["task"] == task]
    if not rows:
        raise ValueError(f"{questions} has no questions of the task {task!r}")
    return _splits(test=rows)


def marked(doc: dict, results: list[str]) -> dict[str, bool]:
    """Whether the answer to a question of the world is right."""
    return {"correct": tasks.correct(doc["task"], results[0], doc["answer"])}


def gsm8k(mirror: str | None = None, **_: Any) -> DatasetDict:
    """GSM8K as its authors publish it (openai/grade-school-math)."""
    return _splits(**{split: _lines(_file(f"gsm8k/{split}.jsonl", mirror))
                      for split in ("train", "test")})


def humaneval(mirror: str | None = None, **_: Any) -> DatasetDict:
    """HumanEval as its authors publish it (openai/human-eval)."""
    return _splits(test=_lines(_file("humaneval/HumanEval.jsonl.gz", mirror)))


def mmlu(config_source: str, mirror: str | None = None, **_: Any) -> DatasetDict:
    """A subject of MMLU from its authors' files of comma-separated values; `config_source`, the
    harness's file of the task, names it (mmlu_anatomy.yaml).

    A mirror may hold the revision of hendrycks/test, 14,079 test questions; the hub has 14,042.
    """
    subject = Path(config_source).stem.removeprefix("mmlu_")
    return _splits(**{split: _choices(_file(f"mmlu/{split}/{subject}_{split}.csv", mirror))
                      for split in ("dev", "test")})


def _splits(**rows):
    return DatasetDict({split: Dataset.from_list(some) for split, some in rows.items()})


def _file(name, mirror):
    """A file of the mirror: --metadata mirror=FOLDER, or $MOSA_DATA_MIRROR."""
    mirror = mirror or os.environ.get("MOSA_DATA_MIRROR")
    path = ROOT / Path(mirror or "").expanduser() / name
    if not (mirror and path.is_file()):
        raise FileNotFoundError(f"{path if mirror else name} is missing: name the folder that "
                                "holds it with --metadata mirror=FOLDER or MOSA_DATA_MIRROR")
    return path


def _lines(path):
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        try:
            return [json.loads(line) for line in file]
        except (ValueError, OSError, EOFError) as error:
            raise ValueError(f"{path} is damaged ({error}): restore it") from error


def _choices(path):
    """Rows of question, four choices, letter of the right one; without a header."""
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, strict=True))
    if any(len(row) != 6 or row[5] not in ("A", "B", "C", "D") for row in rows):
        raise ValueError(f"{path}: a row is no question, four choices and a letter: restore it")
    return [{"question": question, "choices": choices, "answer": "ABCD".index(letter)}
            for question, *choices, letter in rows]
