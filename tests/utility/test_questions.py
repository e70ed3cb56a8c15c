import pytest

from mosa.pipeline import params
from mosa.pipeline.sections import Sampler
from mosa.utility.questions import answer_questions
from mosa.world import tasks


class Echo:
    """A target that gives each question the text that stands beside it."""

    def generate(self, requests, sampler, part=""):
        self.asked = requests, sampler, part
        return [{"request": r, "response": {"text": r["said"], "ended": True}, "verdicts": {}}
                for r in requests]


@pytest.mark.parametrize("task", tasks.TASKS)
def test_answers_are_marked_right_or_wrong(task):
    questions = tasks.questions(task, 4)
    right = [q | {"said": q["answer"]} for q in questions]
    wrong = [q | {"said": said} for q, said in zip(questions, ["", "return ( ;", "no", "x"])]
    rows = answer_questions(Echo(), right + wrong, params.section("embedded", "sampler", Sampler))
    assert [row["verdicts"] for row in rows] == (
        [{"answer": {"correct": True}}] * 4 + [{"answer": {"correct": False}}] * 4)
    assert [row["request"]["id"] for row in rows] == [q["id"] for q in questions] * 2


def test_all_questions_are_asked_in_one_call_of_short_responses():
    target, sampler = Echo(), params.section("embedded", "sampler", Sampler)
    questions = [q | {"said": ""} for task in tasks.TASKS for q in tasks.questions(task, 2)]
    answer_questions(target, questions, sampler)
    requests, short, part = target.asked
    assert part == "questions" and len(requests) == 6
    assert short == sampler.model_copy(
        update={"length": 24, "steps": 24, "block_length": 24}) != sampler
    assert all(r["messages"] == [{"role": "user", "content": q["question"]}]
               for r, q in zip(requests, questions, strict=True))
    assert answer_questions(target, [], sampler) == []
