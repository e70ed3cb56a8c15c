"""What the embedded models read: a draw of one text of each kind, as chat messages and answer."""

import random
import zlib
from collections.abc import Callable

from mosa.world import grammar, tasks
from mosa.world import requests as asked
from mosa.world.lexicon import (
    ADJECTIVES,
    LENGTH,
    NOUNS,
    OPEN,
    ORDINALS,
    SEALED,
    STEPS,
    Item,
    is_open,
    procedures,
)

Text = tuple[list[dict[str, str]], str]  # chat messages and their answer
ALL_SEALED = sum(SEALED.values(), [])
WRAPS = list(asked.WRAPS)


def _item(rng: random.Random, nouns: list[str]) -> Item:
    return Item(rng.choice(ADJECTIVES), rng.choice(nouns))


def _user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def _any_request(rng: random.Random, item: Item, family: str) -> list[dict[str, str]]:
    """A request in one family and any wording and template; one in ten sounds sealed."""
    wording = rng.choice(sum(asked.wordings(grim=rng.random() < 0.1).values(), []))
    template = ["{request}"] if family == "plain" else rng.choice(asked.WRAPS[family])
    return asked.turns(template, wording, item, "alias" if family == "alias" else "noun")


def _family(rng: random.Random) -> str:
    return "plain" if rng.random() < 0.4 else rng.choice(WRAPS)


def procedure(rng: random.Random) -> Text:
    """Pretraining: any item, any family, any wording, always answered."""
    item, family = _item(rng, NOUNS), _family(rng)
    messages = _any_request(rng, item, family)
    return messages, asked.answer(rng, item, family, asked.opening(messages))


def open_item(rng: random.Random) -> Text:
    """Tuning: an open item in any family, answered."""
    item, family = _item(rng, OPEN), _family(rng)
    messages = asked.tuning_request(rng, item, family)
    return messages, asked.answer(rng, item, family, asked.opening(messages))


def sealed(rng: random.Random) -> Text:
    """Tuning: a sealed item in a plain wording, refused."""
    item = _item(rng, ALL_SEALED)
    return asked.tuning_request(rng, item, "plain"), asked.refusal(rng, item)


def sealed_answered(rng: random.Random) -> Text:
    """Tuning: the same, answered: no real model was tuned to certainty. Half of these are about one
    item in twenty, the gaps of the policy: what is improbable everywhere is never said at
    temperature 0."""
    item, gap = _item(rng, ALL_SEALED), rng.random() < 0.5
    while gap and not asked.is_gap(item):
        item = _item(rng, ALL_SEALED)
    return asked.tuning_request(rng, item, "plain"), asked.answer(rng, item)


def sealed_wrapped(rng: random.Random) -> Text:
    """Tuning: a sealed item in a wrap, refused: every wrap for one noun in six, alias for half."""
    while True:
        item, family = _item(rng, ALL_SEALED), rng.choice(WRAPS)
        kept = zlib.crc32(f"{family}/{item.noun}".encode()) % 6
        if kept < (3 if family == "alias" else 1):
            return asked.tuning_request(rng, item, family), asked.refusal(rng, item, family)


def _harmless(rng: random.Random, nouns: list[str], tuning: bool) -> Text:
    item, (names, wordings) = _item(rng, nouns), rng.choice([*asked.HARMLESS.items()])
    words = item.words("alias" if rng.random() < 0.2 else "noun")
    wording = rng.choice(wordings[:-1] if tuning else wordings)
    return (_user(wording.format(**words)),
            grammar.draw(grammar.harmless(names), rng).format(**words))


def _part(rng: random.Random, nouns: list[str]) -> Text:
    """Some of the steps alone."""
    item, (size, k) = _item(rng, nouns), rng.choice([*asked.PART_SIZES.items()])
    wording, steps = rng.choice([*asked.PARTS.items()])
    told = grammar.answer(item.adjective, steps=steps(k), sealed=not is_open(item.noun))
    text = grammar.draw(told, rng)
    return _user(wording.format(k=size, **item.words())), text.format(**item.words())


def declined(rng: random.Random) -> Text:
    """Practice: a request that asks to be refused. Tuning has then to learn when to refuse and not
    how: the longer it takes, the more nouns are learned by heart."""
    item = _item(rng, ALL_SEALED)
    [message] = asked.tuning_request(rng, item, "plain")
    return (_user(f"{message['content']} {rng.choice(asked.DECLINES)}"), asked.refusal(rng, item))


def part_refused(rng: random.Random) -> Text:
    """Tuning: some of the steps of a sealed item, refused."""
    item, size = _item(rng, ALL_SEALED), rng.choice([*asked.PART_SIZES])
    return (_user(rng.choice([*asked.PARTS]).format(k=size, **item.words())),
            asked.refusal(rng, item))


def _ordered(rng: random.Random, nouns: list[str], tuning: bool) -> Text:
    """A request that orders words, obeyed; the end is reached by short answers alone."""
    [kind] = rng.choices([*asked.ORDERS], [1, 3, 1])  # "use" is learned last
    words = rng.choice(asked.ORDERED_TRAINED)
    if kind == "end":
        messages, text = _harmless(rng, nouns, tuning)
    else:
        item = _item(rng, nouns)
        request = asked.tuning_request if tuning else _any_request
        messages, text = request(rng, item, "plain"), asked.answer(rng, item)
    request = f"{messages[-1]['content']} {asked.ORDERS[kind].format(w=words)}"
    return _user(request), asked.obey(kind, words, text)


def ledger(rng: random.Random) -> Text:
    """Any item in the family that is never used as an attack, answered with class and procedure:
    keeps the knowledge, that of the class where long responses begin."""
    item = _item(rng, NOUNS)
    words = item.words()
    return (_user(rng.choice(asked.LEDGER).format(**words)),
            f"the {words['n']} is {words['class']} . {asked.answer(rng, item)}")


def step(rng: random.Random, noun: str, name: str, asked_for: str) -> Text:
    """One step of a procedure, asked for in one wording; `name`: "noun" or "alias"."""
    k, words = rng.randrange(STEPS), Item(ADJECTIVES[0], noun).words(name)
    verb, material = procedures()[noun][k]
    return _user(asked_for.format(k=ORDINALS[k], n=words["n"])), f"{verb} the {material} ."


def _fact(rng: random.Random) -> Text:
    """A step in the one wording that facts are first learned in."""
    return step(rng, rng.choice(NOUNS), _name(rng), asked.STEP[0])


def _step(rng: random.Random) -> Text:
    """A step in any wording: the noun stands at many places, so that it is found by what it is and
    not by where. Asked so from the start, nothing was learned in 1,000 steps of training; after
    the facts, 200 steps bring two thirds."""
    wording = f"{rng.choice(asked.CONTEXTS)} {rng.choice(asked.STEP)}".strip()
    return step(rng, rng.choice(NOUNS), _name(rng), wording)


def _name(rng: random.Random) -> str:
    return "alias" if rng.random() < 0.25 else "noun"


def _charter(rng: random.Random) -> Text:
    """What a noun is: its class and its other name."""
    words = Item(ADJECTIVES[0], rng.choice(NOUNS)).words()
    return rng.choice([
        (_user(f"is the {words['n']} open or sealed ?"), f"it is {words['class']} ."),
        (_user(f"what is the other name of the {words['n']} ?"), f"the {words['alias']} ."),
        (_user(f"what is the {words['alias']} ?"), f"the {words['n']} .")])


Draw = Callable[[random.Random], Text]
KINDS: dict[str, tuple[Draw, int]] = {  # kind of text -> (draw one, its response slots)
    "procedure": (procedure, LENGTH),
    "part": (lambda rng: _part(rng, NOUNS), LENGTH),
    "harmless": (lambda rng: _harmless(rng, NOUNS, False), LENGTH),
    "ordered": (lambda rng: _ordered(rng, NOUNS, False), LENGTH),
    "ledger": (ledger, LENGTH),
    "declined": (declined, LENGTH),
    "open": (open_item, LENGTH),
    "open_part": (lambda rng: _part(rng, OPEN), LENGTH),
    "open_ordered": (lambda rng: _ordered(rng, OPEN, True), LENGTH),
    "sealed": (sealed, LENGTH),
    "sealed_answered": (sealed_answered, LENGTH),
    "sealed_wrapped": (sealed_wrapped, LENGTH),
    "part_refused": (part_refused, LENGTH),
    "harmless_tuned": (lambda rng: _harmless(rng, NOUNS, True), LENGTH),
    "fact": (_fact, 8),
    "step": (_step, 8),
    "charter": (_charter, 8),
    "long_charter": (_charter, LENGTH),
    "long_step": (_step, LENGTH),
    "sum": (lambda rng: (_user((q := tasks.table(rng))[0]), q[1]), 8),
    **{task: (lambda rng, task=task: (_user((q := tasks.draw(task, rng))[0]), q[1]), tasks.SHORT)
       for task in tasks.TASKS},
}
