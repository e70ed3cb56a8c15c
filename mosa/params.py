"""How much: params.yaml as typed, frozen objects; where: ROOT and need().

papermill passes a notebook *which* profile it runs; params.yaml holds *how much*, one block per
profile and one section per stage. `section` reads a section and checks it here, so that a wrong
value stops a stage in its first second, with one line that names the file, the key and the cure.

No field has a default and no validator changes a value: what a stage runs with is exactly what
params.yaml says. DVC tracks those values, so stages need not depend on this file.
"""

import sys
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

ROOT = Path(__file__).resolve().parents[1]

Count = Annotated[int, Field(gt=0)]
Amount = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Names = Annotated[list[str], Field(min_length=1)]


class ParamsError(ValueError):
    """params.yaml is wrong; the message is one line naming the key and the cure."""


class Section(BaseModel):
    # strict: "32" is no int and true is no int; an int where a float belongs is fine
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


# Sections of a profile: one per stage, or shared by the stages that generate and judge


class Target(Section):
    model: str  # a folder of this project, or a name on the Hugging Face hub
    random_layers: Amount  # 0: `model` as it is; else LLaDA's layout with random weights
    dtype: Literal["float32", "bfloat16"]


class Data(Section):
    source: Literal["world", "files"]
    mirror: str | None  # folder with the files of the registry; null: download them
    benchmarks: Names
    benign: str
    borderline: str
    validation: list[str]
    tasks: list[str]
    n_benchmark: Count  # rows of each benchmark
    n_benign: Count
    n_borderline: Amount
    n_validation: Amount
    n_tasks: Amount
    seed: int


class Sampler(Section):
    length: Count  # response tokens
    steps: Count  # denoising steps of the whole response
    block_length: Count
    temperature: NotNegative
    remasking: Literal["low_confidence", "random"]
    cfg_scale: NotNegative
    stop_at_eos: bool
    batch_size: Count


class Judge(Section):
    name: Literal["world", "keywords"]
    mark: str  # drawn across figures and tables whose numbers are no results; "" for none


class Model(Section):
    n_slots: Amount  # items whose procedure words are asked with the rest visible; 0: no world


class Baseline(Section):
    n: Count


class Prefill(Section):
    n: Count
    affirmative: Annotated[list[Amount], Field(min_length=1)]  # the paper's 0 and the controls
    positions: Annotated[list[Amount], Field(min_length=1)]  # response slots, from 0
    seed: int

    @field_validator("positions")
    @classmethod
    def increasing(cls, positions):
        if any(a >= b for a, b in pairwise(positions)):
            raise ValueError("positions must increase")
        return positions


class Order(Section):
    n: Count  # prompts of each set
    block_lengths: Annotated[list[Count], Field(min_length=1)]


class Method(Section):  # one way to align: what mosa.alignment.MOSAConfig does not leave alone
    objective: Literal["mosa", "refusal_sft", "a2d", "recovery"]
    rows: Count  # pairs of requests, each seen once
    batch_size: Count
    learning_rate: Positive
    max_grad_norm: Positive
    lora_r: Count
    lora_alpha: Count
    safe: Names  # the safe set: sentences, one drawn a row
    k_start: Amount  # the window's first and last slot, from 0
    k_end: Amount
    bounds: Literal["start", "whole"]
    eos: bool
    contrast: NotNegative
    bound: NotNegative
    revealed: NotNegative
    beta: NotNegative
    benign_kl: NotNegative
    benign_full: NotNegative


class Pairs(Section):
    sealed: str  # the sets that the training pairs are drawn from
    benign: str
    families: Names  # in which they are put: the others are reserved for attacks


class Align(Pairs):
    seeds: Annotated[list[Amount], Field(min_length=1)]
    workers: Count  # runs side by side, each on one thread; 1 with a GPU
    methods: Annotated[dict[str, Method], Field(min_length=1)]


class Alignment(Section):
    n: Count  # requests of each cell, shared out among a method's seeds


class Goal(Section):  # a phrase that a suffix is to bring about
    phrase: Literal["affirmative", "procedural"]
    position: Amount  # response slot of its first token


class SuffixSearch(Section):  # what mosa.gcg.search takes
    suffix: str  # what it starts from: as many tokens are optimised
    iterations: Count
    candidates: Count  # swaps tried at each iteration
    topk: Count  # tokens of the largest gradient they are drawn from
    samples: Amount  # 0: first-step likelihood; else states of a Monte-Carlo estimate
    earlier: Literal["masked", "drafted"]  # what stands before the phrase while it is optimised
    save_every: Count  # iterations
    batch_size: Count
    seed: Amount


class Gcg(Section):
    n: Count  # requests of the original model
    n_aligned: Count  # and of every other
    models: Names  # "original", methods of `align`, other models (a folder or a name on the hub)
    trained: Amount  # the seed whose adapters are taken
    goals: Annotated[list[Goal], Field(min_length=1)]
    slack: Amount  # slots by which a phrase may miss its place
    search: SuffixSearch
    workers: Count


class Ordered(Section):  # a phrase that the prompt orders at a word of the response
    phrase: Literal["affirmative", "procedural"]
    word: Amount
    order: str  # what is said, with {phrase}


class Control(Section):
    n: Count
    models: Names
    trained: Amount
    orders: Annotated[list[Ordered], Field(min_length=1)]
    slack: Amount  # words
    seed: Amount


class Orders(Section):
    n: Count  # prompts of each kind
    batch_size: Count
    models: Names
    trained: Amount
    tasks: list[str]
    task_length: Count  # response slots and steps of a question


class Steps(Section):
    n: Count
    batch_size: Count
    models: Names
    trained: Amount
    positions: Annotated[list[Amount], Field(min_length=2)]  # first slot that is planted
    steps: Annotated[list[Amount], Field(min_length=2)]  # steps of the draft it is planted in
    width: Count  # planted slots
    anchored: list[Amount]  # steps whose whole draft is replaced
    anchors: Names  # of the PAD attack
    pad_positions: list[Amount]  # slot of its second anchor
    form: Names  # of the DIJA attack, each part followed by `gap` masks
    gap: Count
    form_positions: list[Amount]  # masks before the form


class Likelihood(Section):
    n: Count  # requests of each kind
    models: Names
    trained: Amount


class Twin(Section):
    model: str  # the folder of an autoregressive model of the target's tokenizer


class Search(Pairs):
    n: Count  # validation requests of each cell
    seed: Amount
    workers: Count
    affirmative: list[Amount]
    procedural: list[Amount]
    grids: dict[str, dict[str, Method]]  # method -> its settings
    ablations: dict[str, dict[str, Method]]  # setting -> what changes one thing of it


class Confounds(Section):
    n: Count  # requests
    block_lengths: Annotated[list[Count], Field(min_length=1)]  # each response is decoded in each
    settings: Annotated[dict[str, SuffixSearch], Field(min_length=1)]  # the first: Figure 4's


PROFILE = {
    "target": Target,
    "data": Data,
    "sampler": Sampler,
    "judge": Judge,
    "model": Model,
    "baseline": Baseline,
    "prefill": Prefill,
    "order": Order,
    "align": Align,
    "alignment": Alignment,
    "gcg": Gcg,
    "control": Control,
    "orders": Orders,
    "steps": Steps,
    "likelihood": Likelihood,
    "twin": Twin,
}

# Sections of the blocks `base-<seed>`: how an embedded base model is trained


class Architecture(Section):
    hidden_size: Count
    layers: Count
    heads: Count
    intermediate_size: Count
    embedding_std: Positive
    weight_std: Positive
    causal: bool  # true: the autoregressive twin
    seed: Amount


class Training(Section):
    steps: Count
    batch_size: Count
    lr: Positive
    warmup: Amount  # steps
    decay: Positive  # share of the steps over which the rate falls to 2 %
    eos_weight: NotNegative  # of the EOS that fill the response after the text
    free: NotNegative  # share of answers of freely mixed manner
    full_share: NotNegative  # share of rows that are masked entirely
    prompt_share: NotNegative  # share of rows whose prompt is masked too
    mix: Annotated[dict[str, NotNegative], Field(min_length=1)]  # kind of row -> share


BASE = {
    "architecture": Architecture,
    "facts": Training,
    "pretraining": Training,
    "tuning": Training,
}


# Stages of ablation/dvc.yaml
BESIDE = ("search", "rivals", "rivals_measured", "gcg_more", "twin_more", "confounds")

# Sections of the blocks `ablation*`: what `dvc repro ablation/dvc.yaml` tries beside the paper's

ABLATION = {"search": Search, "rivals": Align, "gcg_more": Gcg, "confounds": Confounds}


def section(block, name):
    """One section of params.yaml as a frozen, typed object: `section("embedded", "sampler")`.

    `block` is a profile, a base model ("base-0") or an ablation. Raises ParamsError, in one line,
    for a missing block or section, a missing or unknown key and a value of the wrong type.
    """
    return _typed(_read(), block, name)


def validate():
    """Check all of params.yaml: `profiles`, then every section of every block, used or not."""
    params = _read()
    profiles = params.get("profiles")
    if not (isinstance(profiles, list) and profiles and all(isinstance(p, str) for p in profiles)):
        raise ParamsError("params.yaml: profiles: must be a list of profile names: [embedded]")
    for name in profiles:
        known = [block for block in _blocks(params) if _schema(block) is PROFILE]
        if name not in known:
            raise ParamsError(f"params.yaml: profiles: no profile {name!r}{_choice(name, known)}")
    for block in _blocks(params):
        for name in {**_schema(block), **_mapping(params, block)}:
            _typed(params, block, name)


def need(path):
    """ROOT/path if it exists; else a FileNotFoundError that names the command which makes it."""
    full = ROOT / path
    if full.exists():
        return full
    match full.relative_to(ROOT).parts if full.is_relative_to(ROOT) else ():
        case ["results", "code", *_]:
            cure = "run `dvc repro code`"
        case ["results", profile, stage, *_] if stage in BESIDE:
            cure = f"run `dvc repro ablation/dvc.yaml:{stage}@{profile}`"
        case ["results", profile, stage, *_]:
            cure = f"run `dvc repro {stage}@{profile}`"
        case ["models", *_]:
            cure = "run `git checkout models` (the shipped one) or `make retrain`"
        case ["paper_figures", *_]:
            cure = "run `make figures`"
        case _:
            cure = "check the path"
    raise FileNotFoundError(f"{path} is missing: {cure}")


class _Loader(yaml.SafeLoader):
    """PyYAML keeps the last of two equal keys without a word; DVC refuses the file."""

    def compose_mapping_node(self, anchor):
        node, seen = super().compose_mapping_node(anchor), set()
        for key, _ in node.value:  # here, before `<<` adds the keys of another mapping
            name = (key.tag, str(key.value))
            if name in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} appears twice", key.start_mark
                )
            seen.add(name)
        return node


def _read():
    path = ROOT / "params.yaml"
    try:
        params = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except FileNotFoundError:
        raise ParamsError(f"{path} is missing: run `git checkout params.yaml`") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}:" if mark else ""
        what = getattr(error, "problem", None) or error
        raise ParamsError(f"params.yaml:{where} is not readable YAML: {what}") from None
    if not isinstance(params, dict):
        raise ParamsError("params.yaml: must hold `profiles` and one block per profile")
    return params


def _typed(params, block, name):
    if block not in _blocks(params):
        raise ParamsError(f"params.yaml: no block {block!r}{_choice(block, _blocks(params))}")
    sections, schema = _mapping(params, block), _schema(block)
    if name not in schema:
        raise ParamsError(f"params.yaml: {block}.{name}: unknown section{_choice(name, schema)}")
    if name not in sections:
        raise ParamsError(
            f"params.yaml: {block}.{name}: missing section; needs {', '.join(_keys(schema[name]))}"
        )
    values = _mapping(sections, name, f"{block}.{name}")
    try:
        return schema[name].model_validate(values)
    except ValidationError as error:
        # a misspelt key is reported twice, as unknown and as missing: unknown has the cure
        first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    key = ".".join([block, name, *map(str, first["loc"])])
    raise ParamsError(f"params.yaml: {key}: {_reason(first, _keys(schema[name]))}") from None


def _reason(error, keys):
    match error["type"]:
        case "extra_forbidden":
            return f"unknown key{_choice(error['loc'][-1], keys)}"
        case "missing":
            return "missing key"
        case "value_error":
            return f"{error['ctx']['error']}; it is {error['input']!r}"
    reason = error["msg"].replace("Input should be", "must be") + f"; it is {error['input']!r}"
    if isinstance(error["input"], str) and error["type"] in ("int_type", "float_type"):
        reason += ", text: write it without quotes, and 1e-3 as 1.0e-3"  # YAML 1.1 needs the dot
    return reason


def _blocks(params):
    return [name for name in params if name != "profiles"]


def _schema(block):
    return {"base": BASE, "ablation": ABLATION}.get(block.split("-")[0], PROFILE)


def _keys(model):
    return list(model.model_fields)


def _mapping(parent, key, path=None):
    if not isinstance(parent[key], dict):
        raise ParamsError(f"params.yaml: {path or key}: must be a mapping; it is {parent[key]!r}")
    return parent[key]


def _choice(word, known):
    close = get_close_matches(str(word), [str(k) for k in known], n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(map(str, known))}"


if __name__ == "__main__":
    try:
        validate()
    except ParamsError as error:
        sys.exit(str(error))
    print("OK")
