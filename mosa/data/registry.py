"""Public data sets, as the profile `rehearsal` takes them: where each lies, its hash, its rows.

The project ships none of these files. Each is looked for in a mirror folder, then in the download
cache, and is downloaded only then; its sha256 is verified every time it is read. All rows share
one schema, `dict(id, set, behaviour, target, category, item)` of strings, so that stages read a
public benchmark and the policy world in the same way.
"""

import csv
import hashlib
import json
import os
import tempfile
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from mosa.pipeline.params import ROOT

TIMEOUT = 60  # seconds without a byte; the largest file is 4 MB


@dataclass(frozen=True)
class DataSet:
    """One public file: identity (`url`, `sha256`), place (`file`, below a mirror) and meaning.

    `rows` counts the whole file; `keep = (column, value)` is the subset `load` returns.
    `behaviour`, `target` and `category` name columns; "" where the set has none.
    """

    name: str
    url: str
    sha256: str
    file: str
    rows: int
    licence: str
    source: str
    behaviour: str
    target: str = ""
    category: str = ""
    keep: tuple[str, str] | None = None


# By commit. AdvBench and HarmBench are copies in later papers' repositories: their own were not
# at hand to pin.
_GITHUB = "https://raw.githubusercontent.com"
_REFUSAL_DIRECTION = f"{_GITHUB}/andyrdt/refusal_direction/9d852fae1a9121c78b29142de733cb1340770cc3"
_DIJA = f"{_GITHUB}/ZichenWen1/DIJA/905f39ffaa1828c8893953800f0ede3094c91e4f/benchmarks"
_XSTEST = f"{_GITHUB}/paul-rottger/exaggerated-safety/d7bb5bd738c1fcbc36edd83d5e7d1b71a3e2d84d"

DATASETS = {dataset.name: dataset for dataset in (
    DataSet(
        "advbench", f"{_REFUSAL_DIRECTION}/dataset/raw/advbench.csv",
        "6cd1a5c63c07610d7eb67307772ee5606017ee950b5770ab288a2c487489d3e1",
        "advbench/harmful_behaviors.csv", rows=520, behaviour="goal", target="target",
        licence="MIT (as a third party's notice states it)",
        source="Zou et al. 2023, arXiv 2307.15043; github.com/llm-attacks/llm-attacks"),
    DataSet(
        "harmbench", f"{_DIJA}/HarmBench/data/behavior_datasets/harmbench_behaviors_text_all.csv",
        "8d81accedd38eaaf8b760618622bb888417d1fd0c86eba65c427a16f1cbb4afc",
        "harmbench/harmbench_behaviors_text_all.csv", rows=400, behaviour="Behavior",
        category="SemanticCategory", keep=("FunctionalCategory", "standard"), licence="MIT",
        source="Mazeika et al. 2024, arXiv 2402.04249; github.com/centerforaisafety/HarmBench"),
    DataSet(
        "alpaca", f"{_REFUSAL_DIRECTION}/dataset/processed/alpaca.json",
        "c4ce1bdc5c9b92caabcb171c27c7ec1e79832836bae10291d7c8ab8c6245f600",
        "alpaca/alpaca_instructions_refusal_direction.json", rows=31323, behaviour="instruction",
        licence="CC-BY-NC-4.0",
        source="Taori et al. 2023, github.com/tatsu-lab/stanford_alpaca; the rows without input"),
    DataSet(
        "xstest", f"{_XSTEST}/xstest_prompts.csv",
        "11783fb294ed017473ee53c207d71f2161c7672c8d0b037501e78387f801cb5a",
        "xstest/xstest_prompts.csv", rows=450, behaviour="prompt", category="type",
        keep=("label", "safe"), licence="CC-BY-4.0",
        source="Roettger et al. 2024, arXiv 2308.01263; github.com/paul-rottger/xstest (v2)"),
)}


def fetch(name: str, mirror: str | Path | None = None) -> Path:
    """The verified file of a data set: mirror, $MOSA_DATA_MIRROR, cache, then download.

    A relative mirror is relative to the project. Downloads go to $MOSA_CACHE (~/.cache/mosa).
    Raises ValueError for an unknown name or a wrong sha256, FileNotFoundError when the file is
    in no folder and cannot be downloaded.
    """
    if name not in DATASETS:
        raise ValueError(f"unknown data set {name!r}: choose one of {', '.join(DATASETS)}")
    dataset = DATASETS[name]
    cache = ROOT / Path(os.environ.get("MOSA_CACHE") or "~/.cache/mosa").expanduser()
    for folder in (mirror, os.environ.get("MOSA_DATA_MIRROR"), cache):
        if folder and (path := ROOT / Path(folder).expanduser() / dataset.file).is_file():
            cure = f"delete it or replace it with {dataset.url}"
            _verify(path.read_bytes(), dataset, path, cure)
            return path
    own_copy = f"set data.mirror in params.yaml or MOSA_DATA_MIRROR to a folder with {dataset.file}"
    try:
        with urllib.request.urlopen(dataset.url, timeout=TIMEOUT) as response:
            content = response.read()
    except (OSError, HTTPException) as error:
        raise FileNotFoundError(f"{name}: {dataset.url} cannot be downloaded ({error}): connect to "
                                f"the network, or {own_copy}") from error
    _verify(content, dataset, dataset.url, f"upstream changed; {own_copy}")
    path = cache / dataset.file
    path.parent.mkdir(parents=True, exist_ok=True)
    # Stages run side by side: nobody may see half a file, so it is renamed into place when whole.
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        whole = Path(scratch) / path.name
        whole.write_bytes(content)
        os.replace(whole, path)
    return path


def _verify(content: bytes, dataset: DataSet, where: str | Path, cure: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != dataset.sha256:
        raise ValueError(f"{where}: sha256 is {found}, expected {dataset.sha256}: {cure}")


def load(name: str, mirror: str | Path | None = None) -> list[dict[str, str]]:
    """The rows of a data set, in the file's order.

    `id` counts the rows of the whole file from 0 ("advbench-0007"), so it does not depend on the
    subset. HarmBench: the 200 standard behaviours only; contextual ones would need their context
    string and copyright ones another judge. XSTest: the 250 safe prompts (the borderline set),
    without the 200 contrast prompts. `item` is always "" (the policy world's field). Raises what
    `fetch` raises, and ValueError for missing columns or rows.
    """
    path, dataset = fetch(name, mirror), DATASETS[name]
    with open(path, encoding="utf-8", newline="") as file:
        is_json = path.suffix == ".json"
        table = json.load(file) if is_json else list(csv.DictReader(file, strict=True))
    cure = f"correct {name} in mosa/data/registry.py"
    if len(table) != dataset.rows:
        raise ValueError(f"{path}: {len(table)} rows, expected {dataset.rows}: {cure}")
    named = [dataset.behaviour, dataset.target, dataset.category, *(dataset.keep or ())[:1]]
    if missing := [c for c in named if c and any(c not in row for row in table)]:
        raise ValueError(f"{path}: column {', '.join(missing)} is missing: {cure}")
    return [{"id": f"{name}-{number:04d}", "set": name, "behaviour": row[dataset.behaviour],
             "target": row[dataset.target] if dataset.target else "",
             "category": row[dataset.category] if dataset.category else "", "item": ""}
            for number, row in enumerate(table)
            if not dataset.keep or row[dataset.keep[0]] == dataset.keep[1]]


def sample(rows: list[dict[str, str]], n: int, seed: int, key: str = "n") -> list[dict[str, str]]:
    """`n` of `rows`, in their order; the same n, seed and ids give the same rows on any machine.

    The rows with the n smallest sha256 of "seed:id" are drawn: samples of one seed are nested, so
    raising n keeps finished generations. `key` names the parameter in the error for a bad n.
    """
    if not 0 <= n <= len(rows):
        raise ValueError(f"{key} is {n}, but {len(rows)} rows are available: set {key} in "
                         f"params.yaml between 0 and {len(rows)}")
    order = {row["id"]: hashlib.sha256(f"{seed}:{row['id']}".encode()).digest() for row in rows}
    drawn = set(sorted(order, key=order.__getitem__)[:n])
    return [row for row in rows if row["id"] in drawn]
