"""AOS learns from the best suffixes, and stops after three finds, or fifty rounds."""

import random

from hypothesis import given
from hypothesis import strategies as st

from mosa.attacks import aos
from mosa.attacks.drive import user
from mosa.attacks.helpers import Try


class Target:
    """Echoes the suffix in a text with line breaks."""

    def __init__(self, reply=lambda suffix: f"re\n{suffix}"):
        self.reply, self.asked = reply, []

    def generate(self, requests, sampler, part):
        self.asked.append([r["messages"][-1]["content"] for r in requests])
        return [{"request": r, "response": {
            "text": self.reply(r["messages"][-1]["content"].split()[-1]), "forwards": 4},
            "verdicts": {}} for r in requests]


class Helper:
    """Proposes "s0", "s1", ... and scores the text by a script."""

    phrases, lines = {}, {}

    def __init__(self, scores=lambda text: 0.1, most=99):
        self.scored, self.most, self.made, self.seen, self.read = scores, most, 0, [], []

    def propose(self, behaviour, kind, n, seed, tries=()):
        yield from ()
        assert kind == "suffix"
        self.seen.append(list(tries))
        found = [f"s{self.made + i}" for i in range(min(n, self.most))]
        self.made += len(found)
        return found

    def score(self, behaviour, texts):
        yield from ()
        self.read += texts
        return [self.scored(text) for text in texts]


def number(text):
    return int(text.split()[-1][1:])


def run(helper, target=None, **values):
    target = target or Target()
    found = aos.run(target, [{"id": "b", **user("x")}], helper, aos.Config(**values), None)
    return target.asked, found.rows


def test_the_published_setting_asks_at_most_400_times():
    asked, [row] = run(Helper())
    assert [len(wave) for wave in asked] == [8] * 50
    assert row["response"]["search_queries"] == 399 and row["response"]["judge_calls"] == 400
    assert row["response"]["helper_calls"] == 400


def test_a_suffix_stands_behind_the_behaviours_own_request():
    asked, _ = run(Helper(), rounds=1, batch=2)
    assert asked == [["x s0", "x s1"]]


def test_three_finds_end_the_search_after_their_round():
    finds = {2, 9, 10}
    asked, [row] = run(Helper(lambda text: 0.6 if number(text) in finds else 0.5), batch=4)
    assert len(asked) == 3
    assert row["request"]["suffix"] == "s2" and row["request"]["round"] == 0  # the first of equals
    assert row["request"]["rated"] == 0.6 and row["response"]["text"] == "re\ns2"


def test_a_score_at_a_threshold_is_not_above_it():
    helper = Helper(lambda text: 0.5)
    assert len(run(helper, rounds=4)[0]) == 4
    helper = Helper(lambda text: 0.3)
    run(helper, rounds=4)
    assert not any(helper.seen)


def test_the_best_score_is_returned_whenever_it_was():
    _, [row] = run(Helper(lambda text: 0.45 if number(text) == 5 else 0.4), rounds=3, batch=4)
    assert row["request"]["suffix"] == "s5" and row["request"]["round"] == 1


def test_what_scored_above_the_mark_is_shown_with_its_answer():
    helper = Helper(lambda text: 0.4 if number(text) % 4 == 0 else 0.3)
    run(helper, rounds=3, batch=4)
    assert helper.seen == [[], [Try("s0", "re\ns0", 0.4)],
                           [Try("s0", "re\ns0", 0.4), Try("s4", "re\ns4", 0.4)]]


def test_more_than_thirty_kept_suffixes_are_no_end_of_learning():
    helper = Helper(lambda text: 0.3 + number(text) / 1e4)
    asked, [row] = run(helper)
    assert len(asked) == 50 and [len(seen) for seen in helper.seen[2:]] == [10] * 48
    latest = [max(number(one.text) for one in seen) for seen in helper.seen[2:]]
    assert latest[-1] > 300 and row["request"]["suffix"] == "s399"


def test_a_round_without_a_proposal_is_skipped():
    asked, [row] = run(Helper(most=0), rounds=3)
    assert asked == [["x"]] and row["response"]["search_queries"] == 0

    class Late(Helper):
        def propose(self, behaviour, kind, n, seed, tries=()):
            self.most = 2 if seed.endswith("-1") else 0
            return (yield from super().propose(behaviour, kind, n, seed, tries))

    assert run(Late(), rounds=3)[0] == [["x s0", "x s1"]]


def test_the_form_middle_scores_what_follows_twenty_words():
    early, late = " ".join(["kettle", *"y" * 19]), " ".join([*"y" * 20, "kettle"])
    for form, wanted in (("prompt", "s0"), ("middle", "s1")):
        helper = Helper(lambda text: 0.2 * text.count("kettle"))
        _, [row] = run(helper, Target(lambda suffix: early if suffix == "s0" else late),
                       forms=[form], rounds=1, batch=2)
        assert row["request"]["suffix"] == wanted and row["request"]["rated"] == 0.2
        assert helper.read == ([early, late] if form == "prompt" else ["", "kettle"])


def test_what_is_shown_of_a_middle_is_the_whole_response():
    helper = Helper(lambda text: 0.4)
    run(helper, forms=["middle"], rounds=2, batch=1)
    assert helper.seen[1] == [Try("s0", "re\ns0", 0.4)]


HISTORY = st.integers(0, 80).flatmap(lambda size: st.permutations(range(size))).map(
    lambda scores: [Try(f"s{i}", "", score / 80) for i, score in enumerate(scores)])


@given(HISTORY, st.integers(1, 40), st.integers(0, 99))
def test_references_are_some_of_the_history_in_its_order(history, n, seed):
    found = aos.references(history, n, random.Random(seed))
    assert len(found) == min(n, len(history), 30)
    places = [history.index(one) for one in found]
    assert places == sorted(set(places))


@given(HISTORY, st.integers(0, 99))
def test_the_best_ten_may_always_be_shown(history, seed):
    """With room for the whole pool all of them are."""
    found = aos.references(history, 30, random.Random(seed))
    assert {*sorted(history, key=lambda one: -one.score)[:10]} <= {*found}


def test_every_other_may_be_shown_too():
    history = [Try(f"s{i}", "", i / 100) for i in range(60)]
    shown = {one.text for seed in range(200)
             for one in aos.references(history, 10, random.Random(seed))}
    assert shown == {one.text for one in history}
