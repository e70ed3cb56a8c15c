"""Attacks that converse with the target: behaviours advance together, so that batches are full.

    def attack(behaviour, helper):                      # a generator: the algorithm, top to bottom
        texts = yield from helper.propose(behaviour, "prompt", 4, "0")
        rows = yield [user(text) for text in texts]     # what the target is asked; its rows
        nats = yield Likely([user(texts[0]) | {"phrase": "sure ,", "position": 0}])    # floats
        ...
        return [row]                                    # what is judged

    found = together(attack, behaviours, target, sampler, access="A0", helper=helper)

A wave is what all unfinished behaviours ask the target next, when none of them waits for the
helper. Its finished batches are kept as those of any other generation (mosa.target), and a helper's
answers by mosa.endpoint: after a kill the waves are replayed from there. An attack that touches
more than its declared access level (mosa.attacks.access) is stopped, whatever it would have found.
"""

from collections import defaultdict
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from mosa.attacks.access import Access, Query, is_query, level, specials, touches, with_text
from mosa.attacks.helpers import Asking, Counted, Helper, T
from mosa.endpoint import Answer, Chat
from mosa.lm.diffusion import first_step_loglik
from mosa.pipeline.rows import fingerprint
from mosa.pipeline.sections import Sampler

Attack = Generator["list[Query] | Help | Likely", list, list[dict]]
AT_ONCE = 64  # rows of one forward


@dataclass(frozen=True)
class Help:
    """Chats for the helper's model, which answers each with an Answer (mosa.endpoint)."""

    chats: Sequence[Chat]
    seed: int = 0  # of the first; the others count on
    options: tuple[tuple[str, Any], ...] = ()  # of Endpoint.ask, such as ("temperature", 1.0)


@dataclass(frozen=True)
class Likely:
    """Queries with `phrase` (text) and `position`: how likely is it there, in nats, before the
    first step? One forward each, and access A3."""

    queries: Sequence[Query]


class Decoder(Protocol):
    """What an attack needs of mosa.target.Target."""

    def generate(self, requests: list[dict], sampler: Sampler, part: str) -> list[dict]: ...


@dataclass
class Found:
    """What attacks on several behaviours brought."""

    rows: list[dict]  # what each attack returned: these are judged as its success
    queries: list[dict]  # every row that the target was asked for, in the order of each behaviour
    tally: list[dict] = field(default_factory=list)  # of a helper that asks a model: its tally()


def user(text: str) -> Query:
    """A query of one user turn."""
    return {"messages": [{"role": "user", "content": text}]}


def answered(asking: Asking[T], ask: Callable[..., list[Answer]] | None = None) -> T:
    """What a helper's method returns, asked alone: for a look at one step of an attack."""
    answers = None
    try:
        while True:
            wanted = asking.send(answers)
            if ask is None:
                raise ValueError("the helper wants to ask a model and has none: it needs `ask`")
            seeds = [wanted.seed + i for i in range(len(wanted.chats))]
            answers = ask(list(wanted.chats), seeds, **dict(wanted.options))
    except StopIteration as end:
        return end.value


def first_step(target: Any, queries: Sequence[Query], sampler: Sampler) -> list[float]:
    """log p of each query's phrase at its position, summed over its tokens, from one forward."""
    lm, found = target.lm, []
    for i in range(0, len(queries), AT_ONCE):
        some = [target.reminded(query) for query in queries[i : i + AT_ONCE]]
        canvas = lm.canvas([query["messages"] for query in some], sampler.length,
                           [query.get("prefill", {}) for query in some])
        spans = [lm.encode(query["phrase"]) for query in some]
        values = first_step_loglik(lm, canvas, spans, [q["position"] for q in some]).tolist()
        # what shares a forward moves the fifth decimal; searches compare these numbers
        found += [round(value, 3) for value in values]
    return found


def together(attack: Callable[[dict, Any], Attack], behaviours: list[dict], target: Decoder,
             sampler: Sampler, access: Access, helper: Helper | None = None,
             likely: Callable[..., list[float]] = first_step, part: str = "") -> Found:
    """What `attack` finds of every behaviour, in their order, each row with what it cost:
    response.search_queries and search_forwards, of all the target was asked for this behaviour but
    the row itself; helper_calls and judge_calls, texts that the helper made, and read.

    behaviours: requests of a stage (id, messages, ...). A row of an answer that the attack asked
    for holds the behaviour's keys, the query's, `query` (its number, from 0) and `access`. Of an
    attack that returns nothing the row is the behaviour as it is, asked at the end: a failed
    search counts. part: which of several calls of a stage this is.

    Raises PermissionError for a query beyond `access`, naming what it touched; ValueError for two
    behaviours of one id, an unknown level, and a helper that asks a model and has none; TypeError
    for an attack that yields no queries or returns no rows.
    """
    level(access, "access")
    if len({behaviour["id"] for behaviour in behaviours}) < len(behaviours):
        raise ValueError("two behaviours have one id: attack each once")
    special = specials(getattr(target, "lm", None))
    runs = [_Run(behaviour, attack, access, helper, special) for behaviour in behaviours]
    wave = 0
    while True:
        for run in runs:
            run.advance()
        while (chats := _waiting(runs, Help)) or (odds := _waiting(runs, Likely)):
            if chats:
                _help(chats, helper and helper.ask)
            else:
                _weigh(odds, target, sampler, likely)
        if not (asking := [run for run in runs if run.asks]):
            break
        asked = [query for run in asking for query in run.asks]
        rows = iter(_decoded(asked, target, sampler, f"{part}wave-{wave:03d}"))
        for run in asking:
            run.answers = [next(rows) for _ in run.asks]
        wave += 1
    return Found([row for run in runs for row in run.rows()],
                 [row for run in runs for row in run.asked])


def each_form(name: str, attack: Callable[..., Attack], forms: Mapping[str, Access],
              target: Decoder, behaviours: list[dict], helper: Helper | None, cfg: Any,
              sampler: Sampler, **more: Any) -> Found:
    """together() of attack(behaviour, helper, form, cfg) for each form of cfg.forms, one after the
    other, each with its access level; a row's request has the attack's `name` as `attack`, and the
    form as `goal`. With its first three arguments it is the `run` of an attack's module.

    Raises ValueError for a form that `forms` lacks, or has with an unknown level.
    """
    for form in cfg.forms:
        if form not in forms:
            raise ValueError(f"mosa.attacks.{name}: FORMS has no {form!r}; known: "
                             f"{', '.join(forms)}")
        level(forms[form], f"mosa.attacks.{name}: FORMS: {form}")
    found = Found([], [])
    for form in cfg.forms:
        some = [behaviour | {"attack": name, "goal": form} for behaviour in behaviours]
        one = together(partial(attack, form=form, cfg=cfg), some, target, sampler, forms[form],
                       helper, part=f"{form}-", **more)
        found.rows += one.rows
        found.queries += one.queries
    found.tally = getattr(helper, "tally", list)()
    return found


def _waiting(runs: list["_Run"], kind: type) -> list["_Run"]:
    return [run for run in runs if isinstance(run.asks, kind)]


def _decoded(asked: list[Query], target: Decoder, sampler: Sampler, part: str) -> list[dict]:
    """Rows of the queries in their order; those of one `decode` share batches."""
    alike = defaultdict(list)
    for i, query in enumerate(asked):
        alike[fingerprint(query.get("decode", {})) if query.get("decode") else ""].append(i)
    found = {}
    for name, some in alike.items():
        how = sampler.model_copy(update=asked[some[0]].get("decode", {})) if name else sampler
        rows = target.generate([asked[i] for i in some], how, f"{part}{name and '-' + name[:8]}")
        found |= dict(zip(some, unseeded(rows), strict=True))
    return [found[i] for i in range(len(asked))]


def unseeded(rows: list[dict]) -> list[dict]:
    """The rows with their seed in the response alone, which says it of every row: a flat row has
    one key for it."""
    return [row | {"request": {key: value for key, value in row["request"].items()
                               if key != "seed"}} for row in rows]


def _help(runs: list["_Run"], ask: Callable[..., list[Answer]] | None) -> None:
    """Ask the helper's model what these runs want of it, what has the same options at once."""
    if ask is None:
        raise ValueError("the helper wants to ask a model and has none: it needs `ask`")
    alike = defaultdict(list)
    for run in runs:
        alike[run.asks.options].append(run)
    for options, some in alike.items():
        chats = [chat for run in some for chat in run.asks.chats]
        seeds = [run.asks.seed + i for run in some for i in range(len(run.asks.chats))]
        answers = iter(ask(chats, seeds, **dict(options)))
        for run in some:
            run.answers = [next(answers) for _ in run.asks.chats]
            run.advance()


def _weigh(runs: list["_Run"], target: Decoder, sampler: Sampler,
           likely: Callable[..., list[float]]) -> None:
    """Likelihoods of all that these runs ask for, together."""
    queries = [query for run in runs for query in run.asks.queries]
    values = iter(likely(target, queries, sampler))
    for run in runs:
        run.answers = [next(values) for _ in run.asks.queries]
        run.forwards += len(run.answers)
        run.advance()


class _Run:
    """One behaviour under attack."""

    def __init__(self, behaviour, attack, access, helper, special):
        self.behaviour, self.access, self.special = behaviour, access, special
        self.helper = helper and Counted(helper, behaviour["id"])
        self.steps = attack(behaviour, self.helper)
        self.answers, self.asks = None, []
        self.number = self.forwards = 0
        self.asked = []  # rows
        self.texts = set()  # what the target has said: the attacker may quote it
        self.found = None

    def advance(self):
        """Give the answers to what was asked, and take what is asked next; nothing at the end."""
        if self.asks is None:
            return
        if isinstance(self.asks, list):
            for row in self.answers or []:
                self.asked.append(row)
                self.texts.add(row["response"]["text"])
                self.forwards += row["response"]["forwards"]
        if self.found is not None:  # the behaviour as it is has been asked
            self.found, self.asks = self.found or self.answers, None
            return
        try:
            asks = self.steps.send(self.answers)
            while asks == []:  # nothing this time
                asks = self.steps.send([])
        except StopIteration as end:
            self.found, self.answers = end.value or [], None
            self._all(self.found, lambda row: isinstance(row, dict) and "response" in row,
                      "return a list of rows, the target's answers")
            self.asks = None if self.found else self._queries([self.behaviour])
            return
        if isinstance(asks, Likely):
            self._allowed("A3", "a likelihood")
        if isinstance(asks, Likely | Help):
            self.asks = asks
            return
        self._all(asks, is_query, "yield a list of queries, such as [user(text)], and a helper's "
                  "methods by `yield from`")
        self.asks = self._queries(asks)

    def _queries(self, queries):
        """Queries as requests of the target's."""
        for query in queries:
            self._allowed(*touches(query, self.texts))
        found = []
        for query in queries:
            query = self.behaviour | {"seed": self._seed()} | query
            query = with_text(query, self.access, self.special)
            found.append(query | {"query": self.number, "access": self.access})
            self.number += 1
        return found

    def _seed(self):
        """Of the next query, where it has none of its own: whatever else is asked beside it."""
        name = self.behaviour["id"], self.behaviour.get("goal"), self.number
        return int(fingerprint(*name)[:8], 16)

    def _allowed(self, level, touched):
        if level > self.access:
            raise PermissionError(f"{self.behaviour['id']}: {touched} needs {level}, and the "
                                  f"attack declares {self.access}")

    def _all(self, values, are, wanted):
        if not (isinstance(values, list) and all(map(are, values))):
            raise TypeError(f"{self.behaviour['id']}: the attack must {wanted}; it is "
                            f"{values!r:.60}")

    def rows(self):
        """The rows that the attack returned, with its cost beside each."""
        helper = self.helper
        return [row | {"response": row["response"] | {
            "search_queries": self.number - 1,
            "search_forwards": self.forwards - row["response"]["forwards"],
            "helper_calls": helper.calls if helper else 0,
            "judge_calls": helper.judged if helper else 0}} for row in self.found]
