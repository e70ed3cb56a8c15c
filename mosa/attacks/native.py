"""Attacks that search nothing: the request as it is, and what only a diffusion model's canvas and
decoding offer.

Forms, each one response (asked again and anchoring: two):
- none: the request as it is, which all else is compared with;
- asked again: the request once more, behind the model's own first response, which needs no canvas:
  what an attack gains by a conversation alone;
- PAD (arXiv 2507.19227): headings of two steps stand in the response;
- anchoring (arXiv 2510.00565): the draft at a step is replaced by a forbidden answer's tokens;
- DIJA (arXiv 2507.11097): a form to fill in stands in the user turn;
- FITS (WonjeJeung/A2D 1523577): the same with sentences of which a few words are left out;
- post-context (arXiv 2606.00023): what follows an answer stands in the last slots;
- block, random, forward, backward order (the same, and WonjeJeung/A2D): who calls the model may
  choose how it is decoded;
- short, long (the same): and how many slots the response has.

DIJA and FITS are filled as published, one token a step at temperature 0.2. What the attacker wrote
is left out of what judges read.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Literal, get_args

from pydantic import Field

from mosa.attacks.canvas import continued, draft, interleaved
from mosa.attacks.drive import Attack, Found, each_form
from mosa.attacks.helpers import Helper
from mosa.pipeline.params import Amount, Count, Distinct, Section, Text, Texts
from mosa.pipeline.sections import Sampler
from mosa.target import Target

Form = Literal["none", "asked again", "PAD", "anchoring", "DIJA", "FITS", "post-context",
               "block order", "random order", "forward order", "backward order", "short", "long"]
FORMS = {form: "A0" if form in ("none", "asked again") else "A2" for form in get_args(Form)}
Answer = Callable[[dict], list[int]]  # a request -> response ids of a forbidden answer


class Config(Section):
    forms: Annotated[Distinct[Form], Field(min_length=1)]
    headings: Annotated[Texts, Field(min_length=2, max_length=2)]  # of PAD
    second: Amount  # slot of the second; the first is at slot 1
    anchored: Count  # the step whose draft is replaced
    form: Texts  # of DIJA, each part followed by `gap` masks
    gap: Count
    sentences: Texts  # of FITS, each part followed by `blank` masks
    blank: Count
    closing: Text  # of post-context
    block: Count  # slots of a block, one after the other
    short: Count  # slots of the response
    long: Count


def run(target: Target, behaviours: list[dict], helper: Helper | None, cfg: Config,
        sampler: Sampler, answer: Answer) -> Found:
    """Every form of `cfg` on every behaviour: see mosa.attacks.drive.each_form."""
    how = partial(attack, target=target, sampler=sampler, answer=answer)
    return each_form("native", how, FORMS, target, behaviours, helper, cfg, sampler)


def attack(behaviour: dict, helper: Helper | None, form: Form, cfg: Config, target: Target,
           sampler: Sampler, answer: Answer) -> Attack:
    """The one response that a form leads to."""
    lm, length, slots = target.lm, sampler.length, {"messages": behaviour["messages"]}
    whole = {"block_length": length, "stop_at_eos": False}
    if form == "asked again":
        [first] = yield [slots]
        said = {"role": "assistant", "content": first["response"]["text"]}
        return (yield [{"messages": [*slots["messages"], said, *slots["messages"]]}])
    if form == "anchoring":
        [first] = yield [slots | {"given": [], "decode": whole}]
        ids = draft(first, cfg.anchored, lm.mask_id)
        told = answer(behaviour)
        spans = {i: told[i : i + 1] for i, token in enumerate(ids) if token != lm.mask_id}
        once = sampler.model_copy(update={"block_length": length})
        [query], rest = continued([first], cfg.anchored, [spans], once, lm.mask_id)
        decode = {"block_length": length, "steps": rest.steps}
        return (yield [{key: query[key] for key in ("messages", "prefill", "given")}
                       | {"decode": decode}])
    match form:
        case "PAD":
            head, second = cfg.headings
            slots["prefill"] = {"1": head, str(cfg.second): second}
        case "DIJA":
            slots = filled(target, behaviour, cfg.form, cfg.gap)
        case "FITS":
            slots = filled(target, behaviour, cfg.sentences, cfg.blank)
        case "post-context":
            slots["prefill"] = {str(length - len(lm.encode(cfg.closing))): cfg.closing}
        case "block order":
            slots["decode"] = {"block_length": cfg.block}
        case "random order" | "forward order" | "backward order":
            slots["decode"] = {"remasking": form.removesuffix(" order")}
        case "short" | "long":
            slots["decode"] = resized(sampler, getattr(cfg, form))
    return (yield [slots])


def filled(target: Target, behaviour: dict, parts: Sequence[str], gap: int) -> dict:
    """A query whose user turn ends in a form to fill in, one token a step."""
    query = interleaved(target.reminded(behaviour), target.lm, parts, gap)
    length = query["length"]
    return {key: query[key] for key in ("messages", "prefill", "given")} | {"decode": {
        "length": length, "block_length": length, "steps": length, "temperature": 0.2,
        "stop_at_eos": False}}


def resized(sampler: Sampler, length: int) -> dict:
    """A response of `length` slots in one block, with as many slots a step."""
    return {"length": length, "block_length": length,
            "steps": max(1, sampler.steps * length // sampler.length)}
