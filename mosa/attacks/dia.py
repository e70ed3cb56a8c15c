"""DIA, dialogue injection (Meng et al., arXiv 2503.08195), by the two attackers of
meng-wenlong/DIA a577b1d, re-implemented with frames of the helper's wording.

I, "continue": the history says that the assistant has agreed, was asked, and has begun to answer;
it is told to go on. II, "task": between agreeing and being asked it has solved a harmless puzzle,
and the behaviour is the next one. The first try asks for the behaviour itself, each further one for
it in other words. There is no early stop, and one success of all tries is enough: every row is
returned.

Otherwise than published: no system turns that set a role, and no last turn that asks for several
hundred words, for which a response has no room; every try has an opening of its own; in II the
worked puzzle is the same for all behaviours, where there it is the nearest harmless question, and
no key words are substituted: the puzzle is the frame around the request.
"""

from collections.abc import Mapping
from functools import partial
from typing import Literal

from pydantic import Field

from mosa.attacks.drive import Attack, Decoder, Found, Query, each_form
from mosa.attacks.helpers import Helper
from mosa.pipeline.params import Amount, Distinct, Section
from mosa.pipeline.sections import Sampler

FORMS = {"continue": "A1", "task": "A1"}


class Config(Section):
    """The published setting, with both attackers."""

    forms: Distinct[Literal["continue", "task"]] = Field(["continue", "task"], min_length=1)
    rewrites: Amount = 9  # besides the behaviour itself
    seed: Amount = 0


def run(target: Decoder, behaviours: list[dict], helper: Helper, cfg: Config,
        sampler: Sampler) -> Found:
    """Every form of `cfg` on every behaviour: see mosa.attacks.drive.each_form."""
    forms = {form: FORMS[form] for form in cfg.forms}
    return each_form("dia", partial(attack, cfg=cfg), forms, behaviours, target, sampler, helper)


def attack(behaviour: dict, helper: Helper, form: str, cfg: Config) -> Attack:
    """All responses, the behaviour's own first; a row says in its `request` which `try` it is.

    Where the helper writes no opening, the first affirmative phrase is one.
    """
    seed = f"{cfg.seed}-{form}"
    others = yield from helper.rewrite(behaviour, "plain", cfg.rewrites, seed)
    asked = []
    for number, text in enumerate([behaviour["behaviour"], *others]):
        begun = yield from helper.rewrite(behaviour | {"behaviour": text}, "begun", 1,
                                          f"{seed}-{number}")
        [opening] = begun or helper.phrases["affirmative"][:1]
        asked.append(injected(text, opening, helper.lines, form) | {"try": number})
    return (yield asked)


def injected(text: str, opening: str, lines: Mapping[str, str], form: str) -> Query:
    """A history in which a request was taken up and its answer begun, and the order to go on."""
    turns = [lines["greeting"], lines["agreed"]]
    if form == "task":
        turns += [lines["puzzle"].replace("{request}", lines["example"]), lines["solved"]]
        text = lines["puzzle"].replace("{request}", text)
    turns += [text, opening, lines["go on"]]
    return {"messages": [{"role": ("user", "assistant")[i % 2], "content": turn}
                         for i, turn in enumerate(turns)]}
