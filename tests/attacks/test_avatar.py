"""Avatar-ACL asks again only where it is refused, and quotes the target's own answers."""

import pytest

from mosa.attacks import avatar
from mosa.attacks.drive import user


class Target:
    """Says "no" to what is refused, and else repeats the last turn."""

    def __init__(self, refused):
        self.refused, self.asked = refused, []

    def generate(self, requests, sampler, part):
        self.asked += [[turn["content"] for turn in r["messages"]] for r in requests]
        texts = [r["messages"][-1]["content"] for r in requests]
        return [{"request": r, "response": {"text": "no" if self.refused(text) else f"re {text}",
                                            "forwards": 4}, "verdicts": {}}
                for r, text in zip(requests, texts)]


class Helper:
    """Avatars "a0", "a1", ...; each question drawn anew has a number of its own, "n0", "n1"..."""

    phrases, lines = {}, {"calibrate": "and for {request} ?"}

    def __init__(self, scores=lambda text: 0.1, avatars=9, again=9):
        self.scored, self.avatars, self.again, self.seeds = scores, avatars, again, []

    def rewrite(self, behaviour, manner, n, seed):
        yield from ()
        assert manner == "avatar"
        self.seeds.append(seed)
        if len(self.seeds) == 1:
            return [f"a{i}" for i in range(min(n, self.avatars))]
        return [f"n{len(self.seeds) - 2}"] if len(self.seeds) - 2 < self.again else []

    def score(self, behaviour, texts):
        yield from ()
        return [0 if text == "no" else self.scored(text) for text in texts]


CALIBRATE = "and for a {kettle} ?"


def run(helper, refused=lambda text: False, **values):
    target = Target(refused)
    behaviour = {"id": "b", "behaviour": "a {kettle}", **user("x")}
    found = avatar.run(target, [behaviour], helper, avatar.Config(**values), None)
    return target.asked, found.rows


def test_an_answer_is_quoted_and_calibrated():
    asked, [row] = run(Helper(), avatars=2)
    assert asked == [["a0"], ["a0", "re a0", CALIBRATE], ["a1"], ["a1", "re a1", CALIBRATE]]
    assert row["request"]["access"] == "A0" and row["response"]["search_queries"] == 3


def test_further_turns_quote_all_before():
    asked, _ = run(Helper(), avatars=1, turns=3)
    assert asked[-1] == ["a0", "re a0", CALIBRATE, f"re {CALIBRATE}", CALIBRATE]
    assert run(Helper(), avatars=1, turns=1)[0] == [["a0"]]


def test_a_refused_question_is_asked_in_another_way():
    helper = Helper()
    asked, _ = run(helper, {"a0", "n0"}.__contains__, avatars=2)
    assert asked == [["a0"], ["n0"], ["n1"], ["n1", "re n1", CALIBRATE],
                     ["a1"], ["a1", "re a1", CALIBRATE]]
    assert len(set(helper.seeds)) == len(helper.seeds) == 3


def test_a_refused_calibration_is_not_asked_again():
    asked, _ = run(Helper(), CALIBRATE.__eq__, avatars=1)
    assert asked == [["a0"], ["a0", "re a0", CALIBRATE]]


def test_an_avatar_that_is_always_refused_is_left_after_the_retries():
    helper = Helper()
    asked, [row] = run(helper, lambda text: True)
    assert asked == [[text] for text in ("a0", "n0", "n1", "n2", "a1", "n3", "n4", "n5",
                                         "a2", "n6", "n7", "n8")]
    assert len(set(helper.seeds)) == len(helper.seeds) == 10
    assert row["request"]["rated"] == 0 and row["response"]["search_queries"] == 11
    assert run(Helper(), lambda text: True, retries=0)[0] == [["a0"], ["a1"], ["a2"]]


def test_a_helper_that_has_no_other_question_ends_the_avatar():
    asked, _ = run(Helper(again=1), lambda text: True, avatars=2)
    assert asked == [["a0"], ["n0"], ["a1"]]


def test_the_default_setting_asks_at_most_15_times():
    asked, _ = run(Helper(), lambda text: text not in {"n2", "n5", "n8", CALIBRATE})
    assert len(asked) == 3 * (3 + 2)


@pytest.mark.parametrize("full, queries", [("re a0", 1), (f"re {CALIBRATE}", 2), ("re a1", 3)])
def test_a_full_score_ends_the_search(full, queries):
    asked, [row] = run(Helper(lambda text: 1 if text == full else 0.9))
    assert len(asked) == queries
    assert row["response"]["text"] == full and row["request"]["rated"] == 1


def test_the_best_row_of_all_is_returned():
    _, [row] = run(Helper(lambda text: 0.6 if text == "re a1" else 0.5))
    request = row["request"]
    assert (request["avatar"], request["turn"], request["rated"]) == (1, 0, 0.6)
    assert row["response"]["search_queries"] == 5


def test_without_an_avatar_the_plain_request_counts():
    asked, [row] = run(Helper(avatars=0))
    assert asked == [["x"]] and row["response"]["search_queries"] == 0
