"""DIA, dialogue injection (Meng et al., arXiv 2503.08195), as in meng-wenlong/DIA a577b1d, by its
two attackers, re-implemented with frames of our own wording.

I, "continue": the history says that the assistant has agreed and begun; it is told to go on.
II, "task": the history holds a worked example of a word puzzle, then the behaviour as the next one.
The first try asks for the behaviour itself, each further one for it in other words; there is no
early stop, and one success of all tries is enough.
"""

from collections.abc import Generator
from typing import Any, Literal, Protocol

from mosa.pipeline.params import Amount, Section


class Config(Section):
    form: Literal["continue", "task"] = "continue"
    rewrites: Amount = 9  # besides the behaviour itself
    seed: Amount = 0


class Helper(Protocol):
    """What DIA needs of its auxiliary model."""

    def rewritten(self, behaviour: dict, n: int, seed: str) -> Generator[Any, list, list[str]]:
        """The behaviour in other words, n times."""

    def begun(self, text: str, behaviour: dict) -> Generator[Any, list, str]:
        """How an assistant that complies would begin."""

    def puzzle(self, text: str, behaviour: dict) -> Generator[Any, list, list[dict[str, str]]]:
        """A chat: a harmless puzzle, its solution, and the text as the next puzzle, begun."""

    frame: dict[str, str]  # greeting, agreed, go on


def attack(behaviour: dict, helper: Helper, cfg: Config) -> Generator[Any, list, list[dict]]:
    """One row a try (mosa.attacks.drive runs this; access A1); all are judged."""
    texts = yield from helper.rewritten(behaviour, cfg.rewrites,
                                        f"{cfg.seed}-{behaviour['id']}")
    asked = []
    for number, text in enumerate([behaviour["behaviour"], *texts]):
        if cfg.form == "continue":
            chat = continued(text, (yield from helper.begun(text, behaviour)), helper.frame)
        else:
            chat = yield from helper.puzzle(text, behaviour)
        asked.append({"messages": chat, "try": number})
    return (yield asked)


def continued(text: str, begun: str, frame: dict[str, str]) -> list[dict[str, str]]:
    """The history of form I, which ends with the order to go on."""
    turns = [("user", frame["greeting"]), ("assistant", frame["agreed"]), ("user", text),
             ("assistant", begun), ("user", frame["go on"])]
    return [{"role": role, "content": content} for role, content in turns]
