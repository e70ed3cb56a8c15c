"""The shared and the small sections of params.yaml. No defaults: what runs is what is written.

The Config of an algorithm stands beside it, with the published values as defaults:
mosa.alignment.method, mosa.attacks.gcg, mosa.world.training. Stages do not depend on this file,
because DVC tracks the values themselves; hence no validator may change one.
"""

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, field_validator

from mosa.pipeline.params import Amount, Count, Distinct, Names, NotNegative, Section, Texts

# Read by every stage that generates or judges


class Target(Section):
    model: str  # a folder of this project, or a name on the Hugging Face hub
    random_layers: Amount  # 0: `model` as it is; else LLaDA's layout with random weights
    dtype: Literal["float32", "bfloat16"]
    # requests of each cell of the gates, even; 0: none (no world, or measured by another profile)
    gates: Annotated[int, Field(ge=0, multiple_of=2)]
    gate_tasks: Annotated[int, Field(ge=0, le=500)]  # questions of each task
    seeds: Distinct[str]  # base models that are measured beside `model`, to see the seed's part


class Data(Section):
    source: Literal["world", "files"]
    mirror: str | None  # folder with the files of the registry; null: download them
    benchmarks: Names
    benign: str
    borderline: str
    validation: Distinct[str]
    tasks: Distinct[str]
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
    remasking: Literal["low_confidence", "random", "annealed", "forward", "backward"]
    cfg_scale: NotNegative
    stop_at_eos: bool
    batch_size: Count


class Judge(Section):
    name: Literal["world", "keywords"]
    mark: str  # drawn across figures and tables whose numbers are no results; "" for none


class Models(Section):
    seed: Amount  # of an aligned model, the training seed whose adapter the asymmetry looks at
    analysed: Distinct[str]  # models of the list that it looks at, beside original


class Guard(Section):  # a defence without training; what it leaves out stays as it is
    reminder: str | None = None  # what stands around a request, {request}, in the last user turn
    remasking: Literal["annealed"] | None = None  # in place of the sampler's

    @field_validator("reminder")
    @classmethod
    def _asks(cls, reminder: str | None) -> str | None:
        if reminder and reminder.count("{request}") != 1:
            raise ValueError("must hold {request} once, or the request is not asked")
        return reminder


# One stage each


class Size(Section):
    n: Count  # requests of each kind, or questions


class Baseline(Section):
    n: Count  # plain requests of each set, to every base model
    n_wrapped: Count  # requests of each set in each wrap, to the first


class Longer(Section):  # conditions in a response of more slots
    length: Count
    positions: Distinct[Amount]


class Prefill(Section):
    n: Count
    positions: Annotated[list[Amount], Field(min_length=1)]  # response slots, from 0; both phrases
    placebo: Distinct[Amount]  # those of a neutral phrase
    longer: Longer  # both phrases
    seed: int

    @field_validator("positions")
    @classmethod
    def increasing(cls, positions: list[int]) -> list[int]:
        if any(a >= b for a, b in pairwise(positions)):
            raise ValueError("positions must increase")
        return positions


class Decoding(Section):
    n: Count  # requests of each kind
    position: Amount  # of a forced procedural phrase
    # (steps, block length): the sampler's own, and others
    settings: Annotated[Distinct[tuple[Count, Count]], Field(min_length=2)]


class Order(Section):
    n: Count  # prompts of each set, for the target
    steps: Count  # of the whole response: the paper's, whatever else is measured with
    block_lengths: Annotated[Distinct[Count], Field(min_length=1)]
    compared: Count  # prompts of each kind, for every model
    also: Distinct[str]  # base models of other families
    tasks: Distinct[str]
    task_length: Count  # response slots and steps of a question


class Ordered(Section):  # a phrase that the prompt orders at a word of the response
    phrase: Literal["affirmative", "procedural", "followed"]
    word: Amount | None  # null: anywhere
    order: str  # what is said, with {phrase}


class Control(Section):
    n: Count
    orders: Annotated[Distinct[Ordered], Field(min_length=1)]
    slack: Amount  # words
    seed: Amount


class Steps(Section):
    n: Count  # requests to every base model
    n_aligned: Amount  # and to every aligned one; 0: these are left out
    positions: Annotated[Distinct[Amount], Field(min_length=2)]  # first slot that is planted
    steps: Annotated[Distinct[Amount], Field(min_length=2)]  # of the drafts; first: the reference
    width: Count  # planted slots: the same tokens at every position
    anchored: Distinct[Amount]  # steps whose whole draft is replaced
    anchors: Annotated[Texts, Field(min_length=2)]  # of the PAD attack
    pad_positions: Distinct[Amount]  # slot of its second anchor
    form: Texts  # of the DIJA attack, each part followed by `gap` masks
    gap: Count
    form_positions: Distinct[Amount]  # masks before the form


class Twin(Section):
    model: str  # the folder of an autoregressive model of the target's tokenizer
    lengths: Annotated[Distinct[Count], Field(min_length=1)]  # words of the refusal before a phrase


SCHEMAS: dict[str, type[Section]] = {
    "target": Target, "data": Data, "sampler": Sampler, "judge": Judge, "models": Models,
    "decoding": Decoding, "baseline": Baseline, "prefill": Prefill, "order": Order,
    "control": Control, "steps": Steps, "likelihood": Size, "twin": Twin, "tasks": Size,
}
