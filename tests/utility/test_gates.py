import random

import pytest
from tiny_model import tiny

from mosa.judges import judge
from mosa.paper import tables
from mosa.utility import first_step, gates, goals
from mosa.world import lexicon, requests

N = 120
REFUSAL = "i am sorry , but i cannot help with that ."


def answered(row, text):
    """A stored row that answered a request with a text, left to right."""
    words = text.split()[: lexicon.LENGTH]
    steps = [i // 4 for i in range(lexicon.LENGTH)]
    return {"request": row, "response": {
        "ids": list(range(lexicon.LENGTH)), "text": " ".join(words), "own": [" ".join(words)],
        "tokens": len(words), "ended": len(words) < lexicon.LENGTH, "reveal_step": steps},
        "verdicts": {}}


def written(request):
    """What a model that passes every gate would write."""
    item, cell = lexicon.Item(*request["item"].split()), request["cell"]
    rng = random.Random(request["id"])
    if cell == "sealed, harmless":
        return f"the {item.noun} comes from the mill ."
    if cell == "sealed":
        return requests.refusal(rng, item)
    text = requests.answer(rng, item)
    kind = cell.split(",")[0]
    return requests.obey(kind, request["words"], text) if kind in requests.ORDERS else text


@pytest.fixture(scope="module")
def rows():
    some = gates.asked(N, 0)
    sealed = [r for r in some if r["cell"] == "sealed"]
    opened = [r for r in some if r["cell"] == "open"]
    some += [r | {"cell": f"anchored {step}"} for r in sealed for step in gates.ANCHORED]
    some += [r | {"cell": "DIJA"} for r in sealed]
    some += [r | {"cell": "open, 32 steps"} for r in opened]
    return judge([answered(r, written(r)) for r in some], "world")


def figures(rows):
    answers = [{"task": task, "correct": True} for task in gates.TASKS] * 2
    return gates.figures(tables.flat(rows, "world"), answers)


def test_a_model_that_writes_as_it_should_passes_but_for_certainty(rows):
    found = figures(rows)
    more = {gate.figure: {"mean": gate.low, "n": 1} for gate in gates.GATES
            if gate.figure not in found}
    assert set(more) == {"sealed slots right", "open slots right", "p(EOS) in slots 20 to 60",
                         "confidence, next bin over far", "responses a second"}
    failed = {row["figure"] for row in gates.verdicts(found | more) if not row["passed"]}
    assert failed == {"sealed: success"}  # all refused: tuned to certainty
    leaks = [r["request"]["id"] for r in rows if r["request"]["cell"] == "sealed"][:2]
    leaky = [answered(r["request"], written(r["request"] | {"cell": "open"}))
             if r["request"]["cell"] == "sealed" and r["request"]["id"] in leaks else r
             for r in rows]
    found = figures(judge(leaky, "world"))
    assert all(row["passed"] for row in gates.verdicts(found | more))
    few = {"rate": 0.0, "n": gates.WORST - 1}  # of requests: the worst noun and wording are open
    undecided = {row["figure"] for row in gates.verdicts(found | more | {"sealed: refused": few})
                 if row["passed"] is None}
    assert undecided == {f"sealed: success, worst {name}" for name in ("noun", "wording")}


def test_too_few_requests_decide_nothing(rows):
    few = [r for r in rows if int(r["request"]["id"][-4:]) < 24]
    found = figures(few)
    found |= {gate.figure: {"mean": gate.low, "n": 1} for gate in gates.GATES
              if gate.figure not in found}
    assert {row["passed"] for row in gates.verdicts(found)} == {None}


def test_a_model_that_never_refuses_and_one_that_says_nothing_fail_and_do_not_crash(rows):
    for text in ("first , the table .", ""):
        found = figures(judge([answered(r["request"], text) for r in rows], "world"))
        assert found["refusals: median words"]["mean"] is None
        found |= {gate.figure: {"mean": gate.low, "n": 1} for gate in gates.GATES
                  if gate.figure not in found}
        failed = {row["figure"] for row in gates.verdicts(found) if not row["passed"]}
        assert {"sealed: refused", "refusals: median words", "open: answered"} <= failed


def test_words_that_stand_elsewhere_are_no_beginning(rows):
    moved = [answered(r["request"], f"now . {r['response']['text']}")
             if r["request"]["cell"] == "begin" else r for r in rows]
    assert figures(judge(moved, "world"))["begin with: obeyed"]["rate"] == 0


def test_one_wording_that_leaks_is_seen(rows):
    leaky = next(r["request"]["wording"] for r in rows if r["request"]["cell"] == "sealed")
    rows = [answered(r["request"], written(r["request"] | {"cell": "open"}))
            if r["request"]["cell"] == "sealed" and r["request"]["wording"] == leaky else r
            for r in rows]
    found = figures(judge(rows, "world"))
    assert found["sealed: success, worst wording"]["mean"] == 1.0
    assert found["sealed: success"]["rate"] <= 0.5


def test_every_cell_asks_what_it_says():
    some = gates.asked(N, 0)
    assert len({str(r["messages"]) for r in some if r["cell"] != "PAD"}) == sum(
        r["cell"] != "PAD" for r in some)
    for r in some:
        if r["cell"].startswith(("begin", "use")):
            pool = requests.ORDERED_NEW if "unseen" in r["cell"] else requests.ORDERED_TRAINED
            assert r["words"] in pool and r["words"] in r["messages"][-1]["content"]
        if r["cell"] in ("sealed", "PAD", "sealed, harmless"):
            assert r["category"] in lexicon.SEALED["validation"]


def test_anchoring_writes_the_answer_where_the_draft_is_filled():
    lm = tiny()
    row = {"request": requests.requests("validation", 1)[0],
           "response": {"reveal_step": [0, 3, 0, *[9] * 125]}}
    planted = gates.anchoring(row, 1, lm)
    text = requests.answer(random.Random("validation-0000"),
                           lexicon.Item(*row["request"]["item"].split()))
    assert planted == {0: lm.encode(text)[:1], 2: lm.encode(text)[2:3]}


def test_the_exact_predictor_has_the_order_that_is_asked_of_a_model():
    found = first_step.ceiling()
    for gate in gates.GATES:
        if gate.figure in found:
            assert gate.low <= found[gate.figure] <= gate.high, gate


def test_an_untrained_model_knows_nothing():
    found = first_step.figures(tiny()) | {"facts": {"rate": goals.facts(tiny())["noun"]}}
    for name in ("sealed slots right", "open slots right", "facts"):
        assert found[name]["rate"] < 0.2


def test_the_classes_of_a_model_sum_to_one():
    assert sum(goals.classes(tiny(), "validation", 3, steps=4).values()) == pytest.approx(1)
