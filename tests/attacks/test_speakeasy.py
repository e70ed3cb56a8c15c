"""Speakeasy asks every part in every language, and joins the best answer to each part."""

import pytest

from mosa.attacks import speakeasy
from mosa.attacks.drive import user

EOS = 0


class Target:
    """Answers with the question's words in reverse; one id a word, then padding."""

    def __init__(self):
        self.waves = []

    def generate(self, requests, sampler, part):
        self.waves.append([r["messages"][-1]["content"] for r in requests])
        return [{"request": r, "response": answer(r["messages"][-1]["content"], i),
                 "verdicts": {}} for i, r in enumerate(requests)]


def answer(question, i):
    text = " ".join(reversed(question.split()))
    ids = [len(word) for word in text.split()]
    return {"text": text, "own": [text], "ids": [*ids, EOS, EOS], "tokens": len(ids),
            "reveal_step": list(range(len(ids) + 2)), "ended": "torn" not in text,
            "forwards": 10 + i, "model": "scripted", "seed": i}


class Helper:
    """Parts "p0", "p1", ...; a language's word stands before a question, and goes on the way
    back."""

    phrases, lines = {}, {}

    def __init__(self, best=lambda part: "en", most=9):
        self.best, self.most, self.read = best, most, None

    def decompose(self, behaviour, n, seed):
        yield from ()
        return [f"p{i}" for i in range(min(n, self.most))]

    def translate(self, behaviour, texts, language, back=False):
        yield from ()
        if back:
            assert all(text.endswith(f" {language}") for text in texts)  # of this language alone
            return [f"{text.removesuffix(f' {language}')} from {language}" for text in texts]
        return [f"{language} {text}" for text in texts]

    def score(self, behaviour, texts):
        yield from ()
        self.read = texts
        return [0.5 if text == f"{text.split()[0]} from {self.best(text.split()[0])}" else 0.2
                for text in texts]


B = {"id": "b", "behaviour": "x", **user("x")}


def run(helper, **values):
    target = Target()
    found = speakeasy.run(target, [B], helper, speakeasy.Config(**values), None)
    return target.waves, found


def test_the_published_setting_asks_three_parts_in_six_languages_at_once():
    helper = Helper()
    [wave], found = run(helper)
    assert sorted(wave) == sorted(f"{language} p{part}" for part in range(3) for language in
                                  ("en", "zh-Hans", "uk", "tr", "th", "zu"))
    [row] = found.rows
    assert row["response"]["search_queries"] == 17 and row["response"]["judge_calls"] == 18
    assert row["response"]["helper_calls"] == 3 + 18 + 18 and len(helper.read) == 18
    assert {query["request"]["access"] for query in found.queries} == {"A0"}


@pytest.mark.parametrize("best, wanted", [
    ({"p0": "uk", "p1": "en", "p2": "zu"}, ["p0 from uk", "p1 from en", "p2 from zu"]),
    ({"p0": "none", "p1": "none", "p2": "none"}, ["p0 from en", "p1 from en", "p2 from en"]),
])
def test_of_every_part_the_best_answer_is_taken_the_first_of_equals(best, wanted):
    _, found = run(Helper(best.get))
    [row] = found.rows
    assert row["response"]["own"] == wanted and row["response"]["text"] == " ".join(wanted)
    taken = [found.queries[query]["request"] for query in row["request"]["parts"]]
    assert [request["part"] for request in taken] == [0, 1, 2]
    assert [f"p{r['part']} from {r['language']}" for r in taken] == wanted


def test_the_joined_row_holds_the_targets_words_of_all_parts():
    _, found = run(Helper({"p0": "uk", "p1": "en"}.get), parts=2, languages=["en", "uk"])
    [row] = found.rows
    response, parts = row["response"], [found.queries[i]["response"]
                                        for i in row["request"]["parts"]]
    assert response["ids"] == [2, 2, 2, 2] and EOS not in response["ids"]
    assert response["tokens"] == len(response["ids"]) == sum(one["tokens"] for one in parts)
    assert response["reveal_step"] == [0, 1, 0, 1] and response["ended"]
    assert response["forwards"] == sum(one["forwards"] for one in parts)
    assert row["request"]["messages"] == B["messages"] and row["request"]["access"] == "A0"
    assert not {"part", "language"} & row["request"].keys()


def test_no_query_and_no_forward_is_counted_twice():
    _, found = run(Helper({"p0": "tr", "p1": "en", "p2": "th"}.get))
    [row] = found.rows
    response = row["response"]
    assert len(found.queries) == 18 == response["search_queries"] + 1
    assert response["search_forwards"] + response["forwards"] == sum(
        query["response"]["forwards"] for query in found.queries)


def test_one_answer_without_an_end_leaves_the_whole_without():
    helper = Helper({"p0": "en", "p1": "torn", "p2": "en"}.get)
    _, found = run(helper, languages=["torn", "en"])
    assert found.rows[0]["response"]["ended"] is False


def test_fewer_parts_are_asked_where_the_helper_finds_fewer():
    [wave], found = run(Helper(most=1), languages=["en", "uk"])
    assert wave == ["en p0", "uk p0"] and found.rows[0]["request"]["parts"] == [0]


def test_a_behaviour_without_parts_counts_as_the_plain_request():
    [wave], found = run(Helper(most=0))
    assert wave == ["x"] and found.rows[0]["response"]["search_queries"] == 0
