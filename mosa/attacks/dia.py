"""DIA, dialogue injection (Meng et al., arXiv 2503.08195), by the two attackers of
meng-wenlong/DIA a577b1d, re-implemented with frames of the helper's wording.

I, "continue": the history says that the assistant has agreed, was asked, and has begun to answer;
it is told to go on. II, "task": between agreeing and being asked it has solved a harmless puzzle,
and the behaviour is the next one. The first try asks for the behaviour itself, each further one for
it in other words. There is no early stop, and one success of all tries is enough: every row is
returned.

Otherwise than published: no system turns that set a role, and no last turn that asks for several
hundred words, for which a response has no room; every try has an opening of its own; in II the
worked puzzle is drawn for each behaviour from the helper's examples, so that not all hangs on one
text, where there it is the nearest harmless question, and no key words are substituted: the puzzle
is the frame around the request.
"""

import random
from functools import partial
from typing import Literal

from pydantic import Field

from mosa.attacks.drive import Attack, Query, each_form
from mosa.attacks.helpers import Helper
from mosa.pipeline.params import Amount, Distinct, Section

FORMS = {"continue": "A1", "task": "A1"}


class Config(Section):
    """The published setting, with both attackers."""

    forms: Distinct[Literal["continue", "task"]] = Field(["continue", "task"], min_length=1)
    rewrites: Amount = 9  # besides the behaviour itself
    seed: Amount = 0


def attack(behaviour: dict, helper: Helper, form: str, cfg: Config) -> Attack:
    """All responses, the behaviour's own first; a row says in its `request` which `try` it is, and
    which `example` of the helper's was worked before it: one for all tries, None in "continue".

    Where the helper writes no opening, the first affirmative phrase is one.
    """
    seed = f"{cfg.seed}-{form}"
    example = drawn(behaviour, helper, cfg) if form == "task" else None
    others = yield from helper.rewrite(behaviour, "plain", cfg.rewrites, seed)
    asked = []
    for number, text in enumerate([behaviour["behaviour"], *others]):
        begun = yield from helper.rewrite(behaviour | {"behaviour": text}, "begun", 1,
                                          f"{seed}-{number}")
        [opening] = begun or helper.phrases["affirmative"][:1]
        asked.append(injected(text, opening, helper, example)
                     | {"try": number, "example": example})
    return (yield asked)


run = partial(each_form, "dia", attack, FORMS)


def drawn(behaviour: dict, helper: Helper, cfg: Config) -> int:
    """Which of the helper's examples this behaviour has in "task"."""
    rng = random.Random(f"{cfg.seed}-task-{behaviour['id']}")
    return rng.randrange(len(helper.examples))


def injected(text: str, opening: str, helper: Helper, example: int | None = None) -> Query:
    """A history in which a request was taken up and its answer begun, and the order to go on; with
    the number of an example, in which that was solved and the request is the next puzzle."""
    lines = helper.lines
    turns = [lines["greeting"], lines["agreed"]]
    if example is not None:
        question, solved = helper.examples[example]
        turns += [lines["puzzle"].replace("{request}", question), solved]
        text = lines["puzzle"].replace("{request}", text)
    turns += [text, opening, lines["go on"]]
    return {"messages": [{"role": ("user", "assistant")[i % 2], "content": turn}
                         for i, turn in enumerate(turns)]}
