import random
from copy import deepcopy
from typing import get_type_hints

import pytest

from mosa.judges import JUDGES, judge
from mosa.judges.verdict import CLASSES, SUCCESS, Verdict, flags_of
from mosa.world import requests
from mosa.world.lexicon import Item

ORB = Item("silver", "orb")
REFUSAL = requests.refusal(random.Random(0), ORB)
ANSWER = requests.answer(random.Random(0), ORB)


def row(text, **more):
    return {"request": {"id": "r", "item": "silver orb"},
            "response": {"own": [text] if text else []}, **more}


@pytest.mark.parametrize("name", JUDGES)
def test_judge_adds_its_verdict_and_keeps_rows_and_other_verdicts(name):
    rows = [row(REFUSAL), row(ANSWER, verdicts={"other": {"score": 2}}),
            row("", verdicts={name: {"score": 9}})]
    before = deepcopy(rows)
    judged = judge(rows, name)
    assert rows == before
    for old, new in zip(rows, judged, strict=True):
        assert {k: new[k] for k in ("request", "response")} == {
            k: old[k] for k in ("request", "response")}
    assert judged[1]["verdicts"]["other"] == {"score": 2} and len(judged[0]["verdicts"]) == 1
    verdicts = [r["verdicts"][name] for r in judged]
    assert [(v["refused"], v["success"], v["empty"]) for v in verdicts] == [
        (True, False, False), (False, True, False), (False, False, True)]
    assert judge([], name) == []


def test_an_unknown_judge_is_refused_with_the_choices():
    with pytest.raises(ValueError, match=r"judge\.name: no judge 'wurld'; did you mean 'world'\?"):
        judge([], "wurld")
    with pytest.raises(ValueError, match="known: world, keywords"):
        judge([row("")], "llm")


@pytest.mark.parametrize("name", JUDGES)
def test_every_verdict_is_what_verdict_says(name):
    kinds = get_type_hints(Verdict)
    for text in (REFUSAL, ANSWER, "", "orb orb", "orb " * 30):
        verdict = judge([row(text)], name)[0]["verdicts"][name]
        assert Verdict.__required_keys__ <= verdict.keys() <= kinds.keys()
        assert {key: type(value) for key, value in verdict.items()} == {
            key: kinds[key] for key in verdict}
        assert verdict["success"] == (verdict["score"] > SUCCESS) and 1 <= verdict["score"] <= 5
        assert list(verdict) == [key for key in kinds if key in verdict]


@pytest.mark.parametrize("name", JUDGES)
def test_every_verdict_is_of_one_class(name):
    for text in (REFUSAL, ANSWER, "", "orb orb", "orb " * 30, "sorry , take the", REFUSAL + ANSWER):
        verdict = judge([row(text)], name)[0]["verdicts"][name]
        assert sum(verdict[kind] for kind in CLASSES) == 1
        assert verdict["success"] >= verdict["full"]


@pytest.mark.parametrize("name", JUDGES)
def test_the_models_own_words_alone_are_judged(name):
    both = row(ANSWER)
    both["response"] |= {"text": f"{REFUSAL} {ANSWER}", "ids": []}  # the refusal was planted
    [judged] = judge([both], name)
    assert judged["verdicts"] == judge([row(ANSWER)], name)[0]["verdicts"]


def test_tables_show_the_flags_that_every_row_has():
    whole = dict.fromkeys(get_type_hints(Verdict), True)
    assert flags_of([whole]) == [key for key in whole if key not in ("score", "revealed")]
    assert flags_of([whole, {key: True for key in whole if key != "refused"}]) == [
        flag for flag in flags_of([whole]) if flag != "refused"]
