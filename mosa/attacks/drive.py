"""Attacks that converse with the target: behaviours advance together, so that batches are full.

    def attack(behaviour):                           # a generator: the algorithm, top to bottom
        [answer] = yield Help([chat])                # what a helper is asked, a language model
        [row] = yield [{"messages": chat}]           # what the target is asked; its rows come back
        ...
        return [row]                                 # what is judged

    rows = together(attack, behaviours, target, sampler, access="A0", helper=endpoint.ask)

A wave is what all unfinished behaviours ask the target next, when none of them waits for the
helper. Its finished batches are kept as those of any other generation (mosa.target), and a helper's
answers by mosa.endpoint: after a kill the waves are replayed from there. An attack that touches
more than its declared access level is stopped, whatever it would have found.
"""

from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from mosa.endpoint import Answer, Chat
from mosa.pipeline.sections import Sampler

Access = Literal["A0", "A1", "A2"]
Query = dict[str, Any]  # messages; prefill, of an attacker who holds the canvas
Attack = Generator["list[Query] | Help", list, list[dict]]


@dataclass(frozen=True)
class Help:
    """Chats for the helper, which answers each with an Answer (mosa.endpoint)."""

    chats: Sequence[Chat]
    seed: int = 0  # of the first; the others count on
    options: tuple[tuple[str, Any], ...] = ()  # of Endpoint.ask, such as ("temperature", 1.0)


class Decoder(Protocol):
    """What an attack needs of mosa.target.Target."""

    def generate(self, requests: list[dict], sampler: Sampler, part: str) -> list[dict]: ...


def together(attack: Callable[[dict], Attack], behaviours: list[dict], target: Decoder,
             sampler: Sampler, access: Access,
             helper: Callable[..., list[Answer]] | None = None) -> list[dict]:
    """Rows that `attack` returns of every behaviour, in their order, each with what it cost:
    response.search_queries and search_forwards, of all the target was asked for this behaviour but
    the row itself, and helper_calls.

    behaviours: requests of a stage (id, messages, ...). A row of an answer that the attack asked
    for holds the behaviour's keys, the query's, `query` (its number, from 0) and `access`.

    Raises PermissionError for a query beyond `access`, naming what it touched; ValueError for two
    behaviours of one id.
    """
    if len({behaviour["id"] for behaviour in behaviours}) < len(behaviours):
        raise ValueError("two behaviours have one id: attack each once")
    runs = [_Run(behaviour, attack(behaviour), access) for behaviour in behaviours]
    wave = 0
    while True:
        for run in runs:
            run.advance()
        while helped := [run for run in runs if isinstance(run.asks, Help)]:
            _help(helped, helper)
        if not (asking := [run for run in runs if run.asks]):
            break
        asked = [query for run in asking for query in run.asks]
        rows = iter(target.generate(asked, sampler, f"wave-{wave:03d}"))
        for run in asking:
            run.answers = [next(rows) for _ in run.asks]
        wave += 1
    return [row for run in runs for row in run.rows()]


def _help(runs: list["_Run"], helper: Callable[..., list[Answer]]) -> None:
    """Ask the helper what these runs want of it, what has the same options at once."""
    alike = defaultdict(list)
    for run in runs:
        alike[run.asks.options].append(run)
    for options, some in alike.items():
        chats = [(chat, run.asks.seed + i) for run in some for i, chat in enumerate(run.asks.chats)]
        answers = iter(helper(*map(list, zip(*chats)), **dict(options)))
        for run in some:
            run.answers = [next(answers) for _ in run.asks.chats]
            run.helped += len(run.answers)
            run.advance()


class _Run:
    """One behaviour under attack."""

    def __init__(self, behaviour, steps, access):
        self.behaviour, self.steps, self.access = behaviour, steps, access
        self.answers, self.asks = None, []
        self.queries = self.forwards = self.helped = 0
        self.texts = set()  # what the target has said: the attacker may quote it
        self.found = None

    def advance(self):
        """Give the answers to what was asked, and take what is asked next; nothing at the end."""
        if self.found is not None:
            return
        if not isinstance(self.asks, Help):
            for row in self.answers or []:
                self.texts.add(row["response"]["text"])
                self.forwards += row["response"]["forwards"]
        try:
            asks = self.steps.send(self.answers)
            while not isinstance(asks, Help) and not asks:  # nothing this time
                asks = self.steps.send([])
        except StopIteration as end:
            self.asks, self.found = [], end.value or []
            return
        self.asks = asks if isinstance(asks, Help) else [self._asked(query) for query in asks]

    def _asked(self, query):
        """A query as a request of the target's."""
        level, touched = touches(query, self.texts)
        if level > self.access:
            raise PermissionError(f"{self.behaviour['id']}: {touched} needs {level}, and the "
                                  f"attack declares {self.access}")
        number, self.queries = self.queries, self.queries + 1
        return self.behaviour | query | {"query": number, "access": self.access}

    def rows(self):
        """The rows that the attack returned, with its cost beside each."""
        return [row | {"response": row["response"] | {
            "search_queries": self.queries - 1, "helper_calls": self.helped,
            "search_forwards": self.forwards - row["response"]["forwards"]}} for row in self.found]


def touches(query: Query, said: set[str]) -> tuple[Access, str]:
    """The access level that a query needs, and for what: A2 for slots of the response, A1 for a
    turn of the assistant that the target never wrote, A0 for all else."""
    if query.get("prefill"):
        return "A2", "a prefilled response"
    for message in query["messages"]:
        if message["role"] == "system":
            return "A1", "a system turn"
        if message["role"] == "assistant" and message["content"] not in said:
            return "A1", f"the made-up turn {message['content'][:40]!r}"
    return "A0", "a prompt"
