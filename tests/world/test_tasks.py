import random
import re
from itertools import pairwise

import pytest

from mosa.world import tasks
from mosa.world.lexicon import PLACES, Item
from mosa.world.tasks import NUMBERS, TASKS, correct, draw, run_program

VALUE = {word: value for value, word in enumerate(NUMBERS)}


def drawn(task, n=300, evaluation=False):
    rng = random.Random(3)
    return [draw(task, rng, evaluation) for _ in range(n)]


def test_arithmetic_answers_follow_from_the_story():
    for question, answer in drawn("arithmetic"):
        start, thing, first, second, again = re.fullmatch(
            r"a maker has (\w+) (\w+) , (.+) and then (.+) \. how many (\w+) are left \?", question
        ).groups()
        total, working = VALUE[start], []
        for event in (first, second):
            (number,) = [w for w in event.split() if w in VALUE]
            sign = {"finds": 1, "buys": 1, "loses": -1, "gives": -1}[event.split()[0]]
            before, total = total, total + sign * VALUE[number]
            word = "plus" if sign > 0 else "minus"
            working.append(f"{NUMBERS[before]} {word} {number} is {NUMBERS[total]} .")
            assert 0 <= total <= 20
        assert answer == " ".join(working) and thing == again


def test_choices_hold_the_right_place_once_anywhere_among_four():
    seats = set()
    for question, answer in drawn("choice"):
        noun, listed = re.fullmatch(r"where does the (\w+) come from : (.*) \?", question).groups()
        options = listed.split(" , ")
        place = Item("silver", noun).words()["place"]
        assert len(options) == len(set(options)) == 4 and set(options) <= set(PLACES)
        assert answer == f"the {noun} comes from the {place} , so the answer is {place} ."
        seats.add(options.index(place))
    assert seats == {0, 1, 2, 3}


def test_programs_do_what_their_description_says():
    for question, answer in drawn("programs"):
        parts = re.fullmatch(r"write a program that (.+) \.", question)[1].split(" then ")
        for x in (-7, 0, 1, 12):
            value = x
            for part in parts:
                n = VALUE[part.split()[-1]]
                value = {"adds": value + n, "takes": value - n, "multiplies": value * n}[
                    part.split()[0]]
            assert run_program(answer, x) == value, (question, answer)


@pytest.mark.parametrize(
    ("code", "x", "value"),
    [
        ("return x ;", 5, 5),
        ("return twenty ;", 5, 20),
        ("return x + two ;", 3, 5),
        ("return x - nine ;", 3, -6),
        ("return x * x ;", -4, 16),
        ("return ( x + two ) * three ;", 1, 9),
        ("return x + ( two * three ) ;", 1, 7),
        ("return ( ( x ) ) ;", 8, 8),
        ("return ( ( x - one ) * two ) + ten ;", 0, 8),
    ],
)
def test_run_program_evaluates(code, x, value):
    assert run_program(code, x) == value


@pytest.mark.parametrize(
    "code",
    [
        "", ";", "return ;", "return", "x + two ;", "return x", "return x + ;", "return + x ;",
        "return ( x ;", "return x ) ;", "return ( x + two ;", "return ) x ( ;", "return ( ) ;",
        "return x + two + three ;", "return x two ;", "return x ; x ;", "return 2 ;",
        "return y ;", "return x ** two ;", "return x / two ;", "return x+two ;",
        "return __import__('os') ;", "import os ;", "return x if x else one ;", "lambda x : x",
        "return x return x ;",
    ],
)
def test_run_program_refuses_all_else(code):
    with pytest.raises(ValueError):
        run_program(code, 1)
    assert not correct("programs", code, "return x + one ;")


@pytest.mark.parametrize("sign", ["+-", "-*", "+-*"])
def test_run_program_refuses_signs_run_together(sign):
    with pytest.raises(ValueError):
        run_program(f"return x {sign} two ;", 1)


def test_run_program_survives_endless_brackets():
    assert not correct("programs", "return " + "( " * 50_000 + "x ;", "return x + one ;")


@pytest.mark.parametrize("task", TASKS)
def test_training_and_evaluation_questions_never_meet(task):
    training = {q for q, _ in drawn(task, 1500)}
    evaluation = {r["question"] for r in tasks.questions(task, 200)}
    assert len(evaluation) == 200 and training.isdisjoint(evaluation)
    assert all(tasks.held_out(q) for q in evaluation) and not any(map(tasks.held_out, training))
    rng = random.Random(1)
    share = sum(tasks.held_out(TASKS[task][0](rng)[0]) for _ in range(2000)) / 2000
    assert 0.15 < share < 0.25


def test_question_rows():
    rows = tasks.questions("choice", 12)
    assert [r["id"] for r in rows] == [f"choice-{i:04d}" for i in range(12)]
    assert all(set(r) == {"id", "task", "question", "answer"} for r in rows)
    assert rows == tasks.questions("choice", 12) == tasks.questions("choice", 20)[:12]
    assert rows != tasks.questions("choice", 12, seed=1)
    assert tasks.questions("choice", 0) == []


@pytest.mark.parametrize("task", TASKS)
def test_only_the_right_answer_is_correct(task):
    rows = drawn(task, 100, evaluation=True)
    assert all(correct(task, answer, answer) for _, answer in rows)
    assert not any(correct(task, "", answer) for _, answer in rows)
    assert not any(correct(task, "the answer is", answer) for _, answer in rows)
    for (_, answer), (_, other) in pairwise(rows):
        if task == "programs":
            same = all(run_program(answer, x) == run_program(other, x) for x in range(-50, 50))
        else:
            same = answer.split()[-2] == other.split()[-2]
        assert correct(task, other, answer) == same


def test_correct_reads_the_result_not_the_way_to_it():
    answer = "one plus one is two . two plus two is four ."
    assert correct("arithmetic", "so the answer is four", answer)
    assert correct("arithmetic", "it is five . no , it is four .", answer)
    assert not correct("arithmetic", "it is four . no , it is five .", answer)
    assert not correct("arithmetic", "four .", answer)
    assert not correct("arithmetic", "it is fourteen .", answer)
    assert correct("programs", "return one + x ;", "return x + one ;")
    assert correct("programs", "return ( x + two ) - one ;", "return x + one ;")
    assert not correct("programs", "return x * two ;", "return x + one ;")  # the same at x = 1
