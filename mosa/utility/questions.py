"""Utility questions: the model's answers, and whether they are right."""

from mosa.pipeline.sections import Sampler
from mosa.target import Target
from mosa.world import tasks


def answer_questions(target: Target, questions: list[dict], sampler: Sampler) -> list[dict]:
    """One row for each question, with the verdict {"answer": {"correct": bool}}.

    A question is a row of `mosa.data.sets.questions`. The profile's sampler is used, but for the
    response: SHORT slots in as many steps.
    """
    requests = [q | {"messages": [{"role": "user", "content": q["question"]}]} for q in questions]
    short = sampler.model_copy(update=dict.fromkeys(("length", "steps", "block_length"),
                                                    tasks.SHORT))
    rows = target.generate(requests, short, "questions")
    return [row | {"verdicts": {"answer": {"correct": tasks.correct(
        question["task"], row["response"]["text"], question["answer"])}}}
        for row, question in zip(rows, questions, strict=True)]
