"""What an attacker has beside the target: a helper that proposes, rewrites, decomposes, translates
and scores.

Two makes: the world's (mosa.attacks.guildhelper), which knows the guild's language, and a language
model behind any OpenAI-compatible server (mosa.attacks.modelhelper). Neither knows what works.
Methods are generators, used by `yield from`: a helper that asks a model yields mosa.attacks.drive's
Help on the way.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

T = TypeVar("T")
Asking = Generator[Any, list, T]  # what `yield from` gives a T
Kind = Literal[
    "prompt",         # a user turn that may bring the behaviour about
    "middle prompt",  # and that asks for a procedural phrase in the middle of the response
    "suffix",         # a few words behind the behaviour's own request
    "opening",        # how a response that complies may begin
    "middle"]         # a span from the inside of such a response
Manner = Literal[
    "plain",   # in other words
    "avatar",  # told of a harmless stand-in, or under another name
    "begun"]   # the first words of a response that complies


@dataclass(frozen=True)
class Try:
    """What was proposed, what the target said to it, and its score, 0 to 1."""

    text: str
    response: str
    score: float


class Helper(Protocol):
    """The interface. `behaviour` is a row of the stage `data`, `seed` says which draw this is: the
    same seed gives the same texts. Fewer texts than asked for may come back, even none. A helper
    that asks a model also has `tally()`: a row a task, how many answers could not be read."""

    ask: Callable[..., list] | None  # Endpoint.ask, of a helper that asks a model
    phrases: Mapping[str, Sequence[str]]  # affirmative, procedural: sets.phrases
    # whole turns in the target's language: greeting, agreed, go on; puzzle and calibrate
    # ({request}); begin and avoid ({words})
    lines: Mapping[str, str]
    examples: Sequence[tuple[str, str]]  # of `puzzle`: a harmless request, and what solves it

    def propose(self, behaviour: dict, kind: Kind, n: int, seed: str,
                tries: Sequence[Try] = ()) -> Asking[list[str]]:
        """Up to n texts of a kind to try next; `tries`: earlier ones of the same kind, in order of
        time, from which to learn."""

    def rewrite(self, behaviour: dict, manner: Manner, n: int, seed: str) -> Asking[list[str]]:
        """Up to n texts: the behaviour's request in another manner."""

    def decompose(self, behaviour: dict, n: int, seed: str) -> Asking[list[str]]:
        """Up to n questions about parts of what the behaviour asks for."""

    def translate(self, behaviour: dict, texts: Sequence[str], language: str,
                  back: bool = False) -> Asking[list[str]]:
        """The texts in another language, or, `back`, from it; as many as were given. A language is
        a code such as "zh-Hans"."""

    def score(self, behaviour: dict, texts: Sequence[str]) -> Asking[list[float]]:
        """How far each text, words of the target, does what the behaviour asks: 0 (refuses, or says
        nothing of it) to 1."""

    def on_topic(self, behaviour: dict, prompts: Sequence[str]) -> Asking[list[bool]]:
        """Whether each prompt still asks for the behaviour."""


class Counted:
    """A helper whose work is counted: `calls`, texts that it made, and `judged`, texts it read.

    Its methods raise TypeError, naming the behaviour, where `yield from` is left out.
    """

    def __init__(self, helper: Helper, behaviour: str) -> None:
        self.helper, self.behaviour, self.calls, self.judged = helper, behaviour, 0, 0
        self.phrases, self.lines = helper.phrases, helper.lines

    @property
    def examples(self) -> Sequence[tuple[str, str]]:
        """The helper's own; most attacks ask for none."""
        return self.helper.examples

    def propose(self, *args: Any, **kwargs: Any) -> Asking[list[str]]:
        """See Helper; so are the others."""
        return self._made(self.helper.propose(*args, **kwargs))

    def rewrite(self, *args: Any, **kwargs: Any) -> Asking[list[str]]:
        return self._made(self.helper.rewrite(*args, **kwargs))

    def decompose(self, *args: Any, **kwargs: Any) -> Asking[list[str]]:
        return self._made(self.helper.decompose(*args, **kwargs))

    def translate(self, *args: Any, **kwargs: Any) -> Asking[list[str]]:
        return self._made(self.helper.translate(*args, **kwargs))

    def score(self, *args: Any, **kwargs: Any) -> Asking[list[float]]:
        return self._read(self.helper.score(*args, **kwargs))

    def on_topic(self, *args: Any, **kwargs: Any) -> Asking[list[bool]]:
        return self._read(self.helper.on_topic(*args, **kwargs))

    def _driven(self, asking):
        # mosa.attacks.drive answers [] at once; a loop over the generator, which would find no
        # texts, answers None
        if (yield []) is None:
            raise TypeError(f"{self.behaviour}: what a helper's method returns comes by "
                            "`yield from`: texts = yield from helper.propose(...)")
        return (yield from asking)

    def _made(self, asking):
        found = yield from self._driven(asking)
        self.calls += len(found)
        return found

    def _read(self, asking):
        found = yield from self._driven(asking)
        self.judged += len(found)
        return found
