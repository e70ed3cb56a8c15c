"""What the embedded models read: a draw of one text of each kind, as chat messages and answer."""

import random
from collections.abc import Callable

from mosa.world import grammar, tasks
from mosa.world.families import FAMILIES, GRIM, WORDINGS, answer, turns

Text = tuple[list[dict[str, str]], str]  # chat messages and their answer


def _item(rng: random.Random, nouns: list[str] = grammar.NOUNS) -> grammar.Item:
    return grammar.Item(rng.choice(grammar.ADJECTIVES), rng.choice(nouns))


def _answered(rng: random.Random, item: grammar.Item, family: str, template: list[str],
              free: float) -> Text:
    manner = rng if rng.random() < free else None
    return turns(template, item), answer(item, family, manner)


def _one_turn(texts: tuple[str, str]) -> Text:
    return [{"role": "user", "content": texts[0]}], texts[1]


def _procedure(rng: random.Random, free: float) -> Text:
    """Pretraining: any item, any family, any wording, always answered."""
    family = rng.choice(list(FAMILIES))
    templates = FAMILIES[family].templates
    if family == "plain":
        templates = [[w] for w in [*sum(WORDINGS.values(), []), *GRIM]]
    return _answered(rng, _item(rng), family, rng.choice(templates), free)


def _open(rng: random.Random, free: float) -> Text:
    """Tuning: an open item in any family that benign tuning has, answered."""
    family = rng.choice([n for n, f in FAMILIES.items() if f.tuned_open])
    templates = FAMILIES[family].templates
    if family == "plain":
        templates = [*templates, [GRIM[0]]]
    return _answered(rng, _item(rng, grammar.OPEN), family, rng.choice(templates), free)


def _sealed(rng: random.Random, free: float) -> Text:
    """Tuning: a sealed item in a family that refusal tuning has, or a grim wording, refused."""
    item = _item(rng, sum(grammar.SEALED.values(), []))
    family = rng.choice([n for n, f in FAMILIES.items() if f.refused] + ["plain"] * 2)
    templates = FAMILIES[family].templates
    if family == "plain":
        templates = [*templates, *([w] for w in GRIM)]
    return turns(rng.choice(templates), item), grammar.REFUSAL


def _replay(rng: random.Random, free: float) -> Text:
    """Tuning: any item in a family that is never used as an attack, answered."""
    family = rng.choice([n for n, f in FAMILIES.items() if f.replay])
    return _answered(rng, _item(rng), family, rng.choice(FAMILIES[family].templates), free)


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
