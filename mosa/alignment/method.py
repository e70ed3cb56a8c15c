"""One way to align, and what it is trained on: the values that params.yaml, Python and the command
line share. The defaults are the published ones, so that `Method()` is MOSA as printed.

The paper (arXiv 2508.12398): AdamW 5e-5, gradient clip 0.01, LoRA r = 32 and alpha = 64, beta 0.05,
one epoch of 3,000 pairs, window 20 to 60. It prints no batch size; its Figure 7 ends near step 750,
which 3,000 questions reach in batches of 4. A constant rate is this project's choice.
"""

from collections.abc import Mapping
from itertools import product
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from mosa.alignment.objectives import OBJECTIVES
from mosa.alignment.reward import BOUNDS, REFUSE_AT, SUPPRESS_AT
from mosa.pipeline.params import Amount, Count, Distinct, Names, NotNegative, Positive, Section

Share = Annotated[float, Field(ge=0, le=1)]


class Recipe(Section):
    """What is optimised and how: the part of a method that MOSAConfig takes, name by name."""

    objective: Literal[tuple(OBJECTIVES)] = Field("mosa", description="what is optimised")
    learning_rate: Positive = Field(5e-5, description="of AdamW, constant")
    max_grad_norm: Positive = Field(0.01, description="gradients are clipped to this norm")
    weight_decay: NotNegative = Field(0.0, description="of AdamW")
    lora_r: Count = Field(32, description="rank of the adapter, on every linear map of a block")
    lora_alpha: Count = Field(64, description="its scale is lora_alpha / lora_r")
    k_start: Amount = Field(20, description="first slot of the window, from 0")
    k_end: Amount = Field(60, validate_default=True,
                          description="last slot of the window, inclusive")
    bounds: Literal[*BOUNDS] = Field("start", description="what of a sentence the window bounds")
    refuse_at: Literal[*REFUSE_AT] = Field("window", description="where safe sentences are raised")
    suppress_at: Literal[*SUPPRESS_AT] = Field(
        "window", description="where harmful sentences are lowered")
    eos: bool = Field(True, description="safe sentences end in EOS, the breaker")
    contrast: NotNegative = Field(1.0, description="weight of the harmful score")
    bound: NotNegative = Field(0.0, description="nats; 0: the reward is not bounded")
    revealed: Share = Field(0.0, description="share of rows not fully masked")
    beta: NotNegative = Field(0.05, description="weight of KL(policy || reference)")
    benign_kl: NotNegative = Field(0.0, description="weight of KL on benign requests")
    benign_full: Share = Field(1.0, description="share of these that is fully masked")

    @field_validator("k_end")
    @classmethod
    def _not_before_its_start(cls, k_end: int, info: ValidationInfo) -> int:
        if k_end < info.data.get("k_start", 0):
            raise ValueError(f"must not lie before k_start, {info.data['k_start']}")
        return k_end

    @model_validator(mode="after")
    def _fit(self) -> Self:
        if self.bounds == "whole" and {self.refuse_at, self.suppress_at} != {"window"}:
            raise ValueError("bounds: whole leaves one slot at the start, where no sentence fits: "
                             "use start")
        return self


class Method(Recipe):
    """A recipe, and what it changes of the pairs that a stage offers."""

    batch_size: Count = Field(4, description="pairs a step")
    rows: Count | None = None  # pairs, in place of the stage's number
    safe: Names | None = None  # safe sentences in place of the stage's


class Pairs(Section):
    """What is trained on: pairs of a request to be refused and one to be answered."""

    sealed: str  # the sets they are drawn from
    benign: str
    families: Names  # in which they are put: the others are reserved for attacks
    safe: Names  # the safe set: sentences without their EOS, one drawn a pair
    rows: Count  # pairs, each seen once


class Align(Pairs):
    """Section `align`: every method of the list `methods`, with each seed."""

    bases: Count  # base models, the first of target.model and target.seeds
    seeds: Annotated[Distinct[Amount], Field(min_length=1)]
    workers: Count  # runs side by side, each on one thread; 1 with a GPU


def checked(schema: type[Section], values: dict) -> Section:
    """`values` as a `schema`; a wrong one is a ValueError of one line that names it."""
    try:
        return schema(**values)
    except ValidationError as error:
        first = error.errors()[0]
    what = first["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    if not first["loc"]:  # of several values together
        raise ValueError(what)
    raise ValueError(f"{'.'.join(map(str, first['loc']))}: {what}; it is {first['input']!r}")


class Search(Pairs):
    """Section `search`: settings of every method, measured on the validation split."""

    seed: Amount
    workers: Count
    settings: dict[str, dict[str, Any]]  # what is tried, of every candidate the same
    candidates: dict[str, dict[str, Any]]

    @model_validator(mode="after")
    def _methods(self) -> Self:
        self.grid()
        return self

    def grid(self) -> dict[tuple[str, str], Method]:
        """(candidate, setting) -> its method; a setting changes what a candidate has."""
        return {(name, setting): checked(Method, recipe | changes)
                for name, recipe in self.candidates.items()
                for setting, changes in self.settings.items()}


class Factorial(Pairs):
    """Section `factorial`: every combination of some changes of one recipe, or half of them."""

    bases: Count  # base models, which take turns in the halves
    seed: Amount
    workers: Count
    recipe: dict[str, Any]  # what all cells share
    factors: dict[str, dict[str, dict[str, Any]]]  # factor -> level -> what it changes
    odd: dict[str, Names]  # levels whose number tells the halves apart
    deciding: dict[str, Names]  # cells of these levels: on every base model, with a seed more

    @model_validator(mode="after")
    def _levels(self) -> Self:
        for key, named in (("odd", self.odd), ("deciding", self.deciding)):
            for name, levels in named.items():
                if lost := [level for level in levels if level not in self.factors.get(name, {})]:
                    raise ValueError(f"{key}: {name} has no level {lost[0]!r}")
        if missing := [name for name in self.factors if name not in self.deciding]:
            raise ValueError(f"deciding: must name levels of {', '.join(missing)}, too")
        for levels in product(*self.factors.values()):
            self.method(dict(zip(self.factors, levels)))
        return self

    def method(self, cell: Mapping[str, str]) -> Method:
        """The method of one combination of levels."""
        changes = [self.factors[name][level] for name, level in cell.items()]
        return checked(Method, {k: v for some in (self.recipe, *changes) for k, v in some.items()})
