"""TAP, tree of attacks with pruning (Mehrotra et al., NeurIPS 2024, arXiv 2312.02119), as in
RICommunity/TAP 7bcdad3, re-implemented.

Each leaf of a tree is a prompt and how it came about. A round grows every leaf by `branching`
changed prompts, drops those that no longer ask for the behaviour, asks the target, scores the
responses from 1 to 10, and keeps the best `width`; a 10 ends the search. With one branch and no
topic check it is PAIR.

Two of the released code's quirks are not repeated: what the evaluator leaves unreadable counts as
no score there, and as a 1; and where all scores are 0 its fallback indexes prompts by score.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mosa.pipeline.params import Amount, Count, Section


class Config(Section):
    """The published setting (Demo.ipynb, HarmBench); the command line's own default is a branching
    of 1."""

    depth: Count = 10
    width: Count = 10
    branching: Count = 4
    streams: Count = 1
    keep: Count = 3  # last turns of a leaf's history that the attacker sees
    seed: Amount = 0


@dataclass(frozen=True)
class Turn:
    """One try of a leaf's history."""

    prompt: Any  # as the helper has it
    text: str  # of the response
    score: int


class Helper(Protocol):
    """What TAP needs of its attacker and evaluator; generators, for they may ask a model."""

    def improve(self, behaviour: dict, history: Sequence[Turn], n: int,
                seed: str) -> Generator[Any, list, list[Any]]:
        """Up to n prompts to try next."""

    def asked(self, prompt: Any, behaviour: dict) -> list[dict[str, str]]:
        """A prompt as chat messages."""

    def on_topic(self, prompts: list[Any], behaviour: dict) -> Generator[Any, list, list[bool]]:
        """Whether each prompt still asks for the behaviour."""

    def scores(self, rows: list[dict], behaviour: dict) -> Generator[Any, list, list[int]]:
        """1 to 10 for each response."""


def attack(behaviour: dict, helper: Helper, cfg: Config) -> Generator[Any, list, list[dict]]:
    """The best response found (mosa.attacks.drive runs this); none if no prompt was on topic.

    A row says in its `request` at which `depth` it was asked and, of the search, its `score`.
    """
    leaves: list[tuple[Turn, ...]] = [()] * cfg.streams
    best: dict | None = None
    for depth in range(cfg.depth):
        grown = []
        for i, leaf in enumerate(leaves):
            prompts = yield from helper.improve(behaviour, leaf[-cfg.keep :], cfg.branching,
                                                f"{cfg.seed}-{behaviour['id']}-{depth}-{i}")
            grown += [(leaf, prompt) for prompt in prompts]
        topical = yield from helper.on_topic([prompt for _, prompt in grown], behaviour)
        grown = [pair for pair, on in zip(grown, topical, strict=True) if on][: cfg.width]
        if not grown:
            break
        rows = yield [{"messages": helper.asked(prompt, behaviour), "depth": depth}
                      for _, prompt in grown]
        scores = yield from helper.scores(rows, behaviour)
        ranked = sorted(range(len(rows)), key=lambda i: -scores[i])[: cfg.width]
        top = rows[ranked[0]]
        top = top | {"request": top["request"] | {"score": scores[ranked[0]]}}
        best = max(filter(None, [best, top]), key=lambda row: row["request"]["score"])
        if best["request"]["score"] == 10:
            break
        leaves = [(*grown[i][0], Turn(grown[i][1], rows[i]["response"]["text"], scores[i]))
                  for i in ranked]
    return [best] if best else []
