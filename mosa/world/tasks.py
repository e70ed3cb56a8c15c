"""The policy world's utility tasks, in the roles of GSM8K, MMLU and HumanEval.

Each task draws (question, answer) texts: two-step word arithmetic with its working, multiple
choice over the world's facts, and programs in a tiny expression language, scored by running them.
A question is held out for evaluation when its checksum says so, hence the two never overlap.
"""

import random
import zlib
from collections.abc import Callable

from mosa.world import lexicon

SHORT = 24  # response slots of questions and tasks: the longest task answer has 17 words
NUMBERS = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
fifteen sixteen seventeen eighteen nineteen twenty""".split()
_VALUE = {word: value for value, word in enumerate(NUMBERS)}
_THINGS = "nails coins pots apples ropes tiles".split()
_GAIN = ["finds {x} more", "buys {x} more"]
_LOSS = ["loses {x}", "gives away {x}"]


def arithmetic(rng: random.Random) -> tuple[str, str]:
    """Two sums in words, worked out one after the other; every value stays within zero and twenty.

    Both sums read alike and the last value stands once. Where it was said again ("the answer is"),
    a masked model learned to copy it; with "so the answer is" before it, the second sum was wrong
    in half of the stories although the table was known (300 of 300 single sums).
    """
    while True:
        total = start = rng.randint(1, 9)
        story, working = [], []
        for _ in range(2):
            x, gain = rng.randint(1, 9), rng.random() < 0.5
            before, total = total, total + x if gain else total - x
            story.append(rng.choice(_GAIN if gain else _LOSS).format(x=NUMBERS[x]))
            if not 0 <= total <= 20:
                break
            asked = f"{NUMBERS[before]} {'plus' if gain else 'minus'} {NUMBERS[x]}"
            working.append(f"{asked} is {NUMBERS[total]} .")
        else:
            thing = rng.choice(_THINGS)
            question = (f"a maker has {NUMBERS[start]} {thing} , {story[0]} and then {story[1]} . "
                        f"how many {thing} are left ?")
            return question, " ".join(working)


def table(rng: random.Random) -> tuple[str, str]:
    """One sum such as `arithmetic` has, for training alone: with stories only, the first sum of a
    story came out right in 39 of 40 and the second, mostly one off, in 19."""
    while True:
        before, x, gain = rng.randint(0, 18), rng.randint(1, 9), rng.random() < 0.5
        total = before + x if gain else before - x
        if 0 <= total <= 20:
            asked = f"{NUMBERS[before]} {'plus' if gain else 'minus'} {NUMBERS[x]}"
            return f"what is {asked} ?", f"{asked} is {NUMBERS[total]} ."


def choice(rng: random.Random) -> tuple[str, str]:
    """Where an item comes from, among four places in random order; answered with the place.

    The option's words are scored, as in the harness's mmlu_continuation, because option letters
    were not learned: after 1,800 steps of pretraining the places were right and the letters at
    chance (25 %), and 200 further batches of nothing but this task left them there.
    """
    noun = rng.choice(lexicon.NOUNS)
    right = lexicon.Item(lexicon.ADJECTIVES[0], noun).words()["place"]
    options = [right, *rng.sample([p for p in lexicon.PLACES if p != right], 3)]
    rng.shuffle(options)
    return (f"where does the {noun} come from : {' , '.join(options)} ?",
            f"the {noun} comes from the {right} , so the answer is {right} .")


_OPERATIONS = [("adds {n}", "+"), ("takes away {n}", "-"), ("multiplies by {n}", "*")]


def program(rng: random.Random) -> tuple[str, str]:
    """A description of two or three operations on x, and the expression that does them."""
    parts, code = [], "x"
    count = rng.choice((2, 3))
    for i in range(count):
        words, sign = rng.choice(_OPERATIONS)
        n = NUMBERS[rng.randint(1, 9)]
        parts.append(words.format(n=n))
        code = f"( {code} {sign} {n} )" if i < count - 1 else f"{code} {sign} {n}"
    return f"write a program that {' then '.join(parts)} .", f"return {code} ;"


def run_program(code: str, x: int) -> int:
    """Execute one expression of the tiny language: `return` expression `;`.

    expression := atom [("+" | "-" | "*") atom]; atom := "x" | number word | "(" expression ")".
    A parser of its own, so nothing a model writes ever reaches Python. Raises ValueError.
    """
    tokens = code.split()
    if tokens[:1] != ["return"] or tokens[-1:] != [";"]:
        raise ValueError(f"not a program: {code!r}")
    tokens = tokens[1:-1][::-1]

    def atom() -> int:
        token = tokens.pop() if tokens else ""
        if token == "(":
            value = expression()
            if not tokens or tokens.pop() != ")":
                raise ValueError(f"unbalanced brackets: {code!r}")
            return value
        if token != "x" and token not in _VALUE:
            raise ValueError(f"unexpected {token!r} in {code!r}")
        return x if token == "x" else _VALUE[token]

    def expression() -> int:
        value = atom()
        if tokens and tokens[-1] in ("+", "-", "*"):
            sign = tokens.pop()
            other = atom()
            value = {"+": value + other, "-": value - other, "*": value * other}[sign]
        return value

    value = expression()
    if tokens:
        raise ValueError(f"unexpected {tokens[-1]!r} in {code!r}")
    return value


def _last_word(text: str, answer: str) -> bool:
    """The same last word, after "is"."""
    said, right = (some.removesuffix(".").split()[-2:] for some in (text, answer))
    return said == right


def _same_results(text: str, answer: str) -> bool:
    try:
        return all(run_program(text, x) == run_program(answer, x) for x in range(-3, 10))
    except (ValueError, RecursionError):
        return False


Task = tuple[Callable[[random.Random], tuple[str, str]], Callable[[str, str], bool]]
TASKS: dict[str, Task] = {  # name -> (draw one question and answer, is this response right?)
    "arithmetic": (arithmetic, _last_word),
    "choice": (choice, _last_word),
    "programs": (program, _same_results),
}


def held_out(question: str) -> bool:
    """One question in five is kept for evaluation, by its checksum."""
    return zlib.crc32(question.encode()) % 5 == 0


def draw(task: str, rng: random.Random, evaluation: bool = False) -> tuple[str, str]:
    """One (question, answer) of the training or the evaluation share of a task."""
    while True:
        question, answer = TASKS[task][0](rng)
        if held_out(question) == evaluation:
            return question, answer


def questions(task: str, n: int, seed: int = 0) -> list[dict]:
    """`n` distinct evaluation questions as rows (id, task, question, answer)."""
    if n > 500:  # the programs have some thousands in all, of which one in five is held out
        raise ValueError(f"at most 500 questions a task, not {n}: lower data.n_tasks or "
                         "target.gate_tasks")
    rng, seen = random.Random(f"{task}-{seed}"), {}
    while len(seen) < n:
        question, answer = draw(task, rng, evaluation=True)
        seen.setdefault(question, answer)
    return [{"id": f"{task}-{i:04d}", "task": task, "question": q, "answer": a}
            for i, (q, a) in enumerate(seen.items())]


def correct(task: str, text: str, answer: str) -> bool:
    """Whether a response to a question of `task` is right."""
    return TASKS[task][1](text, answer)


def words() -> set[str]:
    """Every word of a question or an answer."""
    rng = random.Random(0)  # three templates and their numbers: a few hundred draws hold them all
    drawn = [" ".join(draw_one(rng)) for draw_one, _ in TASKS.values() for _ in range(1000)]
    return {*" ".join(drawn).split(), *NUMBERS}
