"""How much: params.yaml as typed, frozen objects; where: ROOT and need().

papermill passes a notebook *which* profile, model or method it runs; params.yaml holds *how much*:
the lists of what is run, then one block per profile with one section per stage. A wrong value or
name stops a stage in its first second, with one line that names the file, the key and the cure.

The file is read as DVC reads it, by ruamel.yaml: equal keys are refused, and 1e-3 is a number. No
schema is known here: who reads a section brings its own (mosa.pipeline.sections, or the Config
beside an algorithm).
"""

import json
import re
from collections.abc import Iterable
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from ruamel.yaml import YAML, YAMLError

ROOT = Path(__file__).resolve().parents[2]

T = TypeVar("T")

Count = Annotated[int, Field(gt=0)]
Amount = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Text = Annotated[str, Field(pattern=r"\S")]  # not blank
Texts = Annotated[list[Text], Field(min_length=1)]


def _once(values: list) -> list:
    if twice := [value for i, value in enumerate(values) if value in values[:i]]:
        shown = getattr(twice[0], "model_dump", lambda: twice[0])()
        raise ValueError(f"{shown!r} is listed twice, and would be counted twice")
    return values


Distinct = Annotated[list[T], AfterValidator(_once)]  # conditions, sets or models
Names = Annotated[Distinct[Text], Field(min_length=1)]

LISTS = ("profiles", "models", "methods", "attacks", "attacked", "judges", "benchmarks", "searches")
# what YAML 1.1 or `papermill -p` turns into a truth value, nothing or a number
NOT_NAMES = "true false yes no y n on off null none nan inf infinity".split()

class ParamsError(ValueError):
    """params.yaml is wrong; the message is one line naming the key and the cure."""


class Section(BaseModel):
    """Base of the schemas: frozen, no unknown key, no value changed on the way.

    Strict: "32" is no int and true is no int; an int where a float belongs is fine.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def section(profile: str, name: str, schema: type[T]) -> T:
    """One section of params.yaml as an object of `schema`: section("embedded", "sampler", Sampler).

    `profile` may also be a base model ("base-0"); a dotted name goes deeper ("methods.mosa").
    Raises ParamsError, in one line, for a missing block or section, a missing or unknown key and a
    value of the wrong type.
    """
    values, path = read(), []
    for key in (profile, *name.split(".")):
        path.append(key)
        where = f"params.yaml: {'.'.join(path)}"
        if key not in values:
            raise ParamsError(f"{where}: is missing{choice(key, values)}")
        values = values[key]
        if not isinstance(values, dict):
            raise ParamsError(f"{where}: must be a mapping; it is {values!r:.60}")
    try:
        # as JSON: strict types then take all that YAML can say, a list for a tuple
        return TypeAdapter(schema).validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        # a misspelt key is reported twice, as unknown and as missing: unknown has the cure
        first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    known = getattr(schema, "model_fields", ()) if len(first["loc"]) == 1 else ()
    key = ".".join([*path, *map(str, first["loc"])])
    raise ParamsError(f"params.yaml: {key}: {_reason(first, known)}") from None


def lists() -> dict[str, list[str]]:
    """The lists at the top of params.yaml: what `dvc repro` runs, by name.

    Raises ParamsError for a list that is missing, no list, or holds a name twice or a name that
    YAML, the shell, DVC or papermill would read as something else.
    """
    return {name: names(name, read().get(name)) for name in LISTS}


def names(key: str, value: Any) -> list[str]:
    """`value` if it is what the list `key` may be, else ParamsError. See lists()."""
    where = f"params.yaml: {key}"
    if not isinstance(value, list) or (key == "profiles" and not value):
        few = "[embedded]" if key == "profiles" else "[]"
        raise ParamsError(f"{where}: must be a list of names, such as {few}; it is {value!r:.60}")
    for name in value:
        text = name if isinstance(name, str) else ""
        if key == "models" and text.startswith("models/"):
            raise ParamsError(f"{where}: {text!r} is a folder: list {text.removeprefix('models/')}")
        if key == "models" and "/" in text:
            folder = text.split("/")[-1]
            raise ParamsError(f"{where}: {name!r} is no name: `hf download {name} --local-dir "
                              f"models/{folder}`, and list {folder}")
        # a dot would split the key of a section; models have none
        pattern = r"[A-Za-z][A-Za-z0-9_.-]*" if key == "models" else r"[A-Za-z][A-Za-z0-9_-]*"
        if not re.fullmatch(pattern, text) or text.lower() in NOT_NAMES:
            raise ParamsError(f"{where}: {name!r} is no name: a letter, then letters, digits, _ "
                              "and -, and nothing that YAML reads as a number or a truth value")
        if value.count(name) > 1:
            raise ParamsError(f"{where}: {name!r} is listed twice")
    if key == "profiles" and "code" in value:
        raise ParamsError(f"{where}: 'code' is taken: results/code holds the notebooks' code")
    return value


def need(path: str | Path) -> Path:
    """ROOT/path if it exists; else a FileNotFoundError that names the command which makes it."""
    full = ROOT / path
    if full.exists():
        return full
    raise FileNotFoundError(f"{path} is missing: {cure(path)}")


def cure(path: str | Path) -> str:
    """What makes a file of this project anew: "run `dvc repro prefill@embedded`"."""
    full = ROOT / path
    match full.relative_to(ROOT).parts if full.is_relative_to(ROOT) else ():
        case ["results", "code", *_]:
            return "run `dvc repro code`"
        case ["results", profile, stage, *parts]:
            return f"run `dvc repro {_target(stage, [profile, *parts])}`"
        case ["models", *_]:
            return "run `git checkout models` (the shipped one) or `make retrain`"
        case ["paper_figures", *_]:
            return "run `make figures`"
    return "check the path"


def read() -> dict[str, Any]:
    """params.yaml, parsed. Raises ParamsError if it is missing or no mapping."""
    params = _yaml("params.yaml")
    if not isinstance(params, dict):
        raise ParamsError("params.yaml: must hold `profiles` and one block per profile")
    return params


def stages() -> dict[str, dict[str, Any]]:
    """The stages of dvc.yaml as they are written, `matrix` not filled in. Raises ParamsError."""
    return _yaml("dvc.yaml")["stages"]


def axes(stage: str, given: dict[str, list[str]] | None = None) -> dict[str, list[str]]:
    """The axes of a stage's matrix in dvc.yaml, the lists of params.yaml or those that are given
    filled in: {"profile": [..]}.

    Raises ParamsError for an axis that is neither a list nor `${list}`.
    """
    filled = {}
    for axis, value in stages()[stage].get("matrix", {}).items():
        known = lists() if given is None else given
        words = known.get(value[2:-1]) if isinstance(value, str) else value  # "${profiles}"
        if not isinstance(words, list):
            raise ParamsError(f"dvc.yaml: {stage}.matrix.{axis}: must be a list, or one of "
                              f"params.yaml by name, such as ${{profiles}}; it is {value!r:.60}")
        filled[axis] = [str(word) for word in words]
    return filled


def profiles() -> list[str]:
    """Names of the blocks that are profiles, and no base models."""
    return [name for name, block in read().items()
            if isinstance(block, dict) and not str(name).startswith("base-")]


def choice(word: Any, known: Iterable[Any]) -> str:
    """The end of an error message: what `word` was probably meant to be."""
    known = [str(k) for k in known]
    close = get_close_matches(str(word), known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"


def _yaml(name: str) -> Any:
    path = ROOT / name
    try:
        return _parsed(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParamsError(f"{path} is missing: run `git checkout {name}`") from None
    except (YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}:" if mark else ""
        what = " ".join(str(getattr(error, "problem", None) or error).split())
        raise ParamsError(f"{name}:{where} is not readable YAML: {what}") from None


@lru_cache(maxsize=4)  # half a second, and every section is read alone
def _parsed(text: str) -> Any:
    return YAML(typ="safe").load(text)


def _target(stage: str, parts: list[str]) -> str:
    """DVC's name of a stage: as many parts of the path belong to it as its matrix has axes."""
    try:
        axes = len(stages()[stage].get("matrix", {}))
    except (ParamsError, KeyError):
        axes = 1
    return f"{stage}@{'-'.join(parts[:axes])}" if len(parts) >= axes > 0 else stage


def _reason(error: dict[str, Any], known: Iterable[str]) -> str:
    match error["type"]:
        case "extra_forbidden":
            return f"unknown key{choice(error['loc'][-1], known) if known else ''}"
        case "missing":
            return "missing key"
    what = error["msg"].replace("Input should be", "must be").removeprefix("Value error, ")
    if not error["loc"]:  # of the section as a whole, which would fill the line
        return what
    text = isinstance(error["input"], str) and error["type"] in ("int_type", "float_type")
    return f"{what}; it is {error['input']!r:.60}" + ", text: write it without quotes" * text
