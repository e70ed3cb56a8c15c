"""What the embedded models read: a draw of one text of each kind, as chat messages and answer."""

import random
from collections.abc import Callable

from mosa.world import grammar, tasks
from mosa.world.families import FAMILIES, GRIM, WORDINGS, answer, turns

Text = tuple[list[dict[str, str]], str]  # chat messages and their answer


def _item(rng: random.Random, nouns: list[str]) -> grammar.Item:
    return grammar.Item(rng.choice(grammar.ADJECTIVES), rng.choice(nouns))


def _template(rng: random.Random, family: str, plain: list[str]) -> list[str]:
    """One of a family's templates; of the plain requests, one of the wordings `plain`."""
    return rng.choice([[w] for w in plain] if family == "plain" else FAMILIES[family].templates)


def _answered(rng: random.Random, free: float, families: list[str], nouns: list[str],
              plain: list[str]) -> Text:
    family, item = rng.choice(families), _item(rng, nouns)
    template, manner = _template(rng, family, plain), rng if rng.random() < free else None
    return turns(template, item), answer(item, family, manner)


def _one_turn(texts: tuple[str, str]) -> Text:
    return [{"role": "user", "content": texts[0]}], texts[1]


def _procedure(rng: random.Random, free: float) -> Text:
    """Pretraining: any item, any family, any wording, always answered."""
    return _answered(rng, free, [*FAMILIES], grammar.NOUNS, [*sum(WORDINGS.values(), []), *GRIM])


def _open(rng: random.Random, free: float) -> Text:
    """Tuning: an open item in any family that benign tuning has, answered."""
    families = [name for name, family in FAMILIES.items() if family.tuned_open]
    return _answered(rng, free, families, grammar.OPEN, [*WORDINGS["tuning"], GRIM[0]])


def _sealed(rng: random.Random, free: float) -> Text:
    """Tuning: a sealed item in a family that refusal tuning has, or a grim wording, refused."""
    item = _item(rng, sum(grammar.SEALED.values(), []))
    family = rng.choice([n for n, f in FAMILIES.items() if f.refused] + ["plain"] * 2)
    template = _template(rng, family, [*WORDINGS["tuning"], *GRIM])
    return turns(template, item), grammar.REFUSAL


def _replay(rng: random.Random, free: float) -> Text:
    """Tuning: any item in a family that is never used as an attack, answered."""
    families = [name for name, family in FAMILIES.items() if family.replay]
    return _answered(rng, free, families, grammar.NOUNS, [])


def _question(rng: random.Random, nouns: list[str]) -> Text:
    name = rng.choice(("noun", "alias", "old"))
    return _one_turn(grammar.question(rng.choice(nouns), rng.randrange(grammar.STEPS), name))


Draw = Callable[[random.Random, float], Text]  # of a generator and the share of free manners
KINDS: dict[str, tuple[Draw, int]] = {  # kind of text -> (draw one, its response slots)
    "procedure": (_procedure, grammar.LENGTH),
    "open": (_open, grammar.LENGTH),
    "sealed": (_sealed, grammar.LENGTH),
    "replay": (_replay, grammar.LENGTH),
    "question": (lambda rng, free: _question(rng, grammar.NOUNS), 8),
    "long_question": (lambda rng, free: _question(rng, grammar.NOUNS), grammar.LENGTH),
    "open_question": (lambda rng, free: _question(rng, grammar.OPEN), grammar.LENGTH),
    **{task: (lambda rng, free, task=task: _one_turn(tasks.draw(task, rng)), tasks.SHORT)
       for task in tasks.TASKS},
}
