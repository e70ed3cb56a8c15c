"""TAP prunes, branches and stops as published."""

from mosa.attacks import tap
from mosa.attacks.drive import together


class Target:
    def __init__(self):
        self.asked = []

    def generate(self, requests, sampler, part):
        self.asked.append([r["messages"][-1]["content"] for r in requests])
        return [{"request": r, "response": {"text": f"re {r['messages'][-1]['content']}",
                                            "forwards": 4}, "verdicts": {}} for r in requests]


class Helper:
    """A prompt is a path of branches, such as "a03"; scores and topics are scripted."""

    def __init__(self, scores=lambda prompt: 1, topical=lambda prompt: True):
        self.score, self.topical, self.seen = scores, topical, []

    def improve(self, behaviour, history, n, seed):
        yield from ()
        self.seen.append([turn.prompt for turn in history])
        start = history[-1].prompt if history else "a"
        return [f"{start}{i}" for i in range(n)]

    def asked(self, prompt, behaviour):
        return [{"role": "user", "content": prompt}]

    def on_topic(self, prompts, behaviour):
        yield from ()
        return [self.topical(prompt) for prompt in prompts]

    def scores(self, rows, behaviour):
        yield from ()
        return [self.score(row["request"]["messages"][-1]["content"]) for row in rows]


def run(helper, **values):
    target = Target()
    rows = together(lambda behaviour: tap.attack(behaviour, helper, tap.Config(**values)),
                    [{"id": "b"}], target, None, "A0")
    return target.asked, rows


def test_the_published_setting_asks_at_most_94_times():
    asked, _ = run(Helper())
    assert [len(wave) for wave in asked] == [4] + [10] * 9 and sum(map(len, asked)) == 94


def test_the_best_leaves_grow_on():
    asked, [row] = run(Helper(lambda prompt: 1 + prompt.count("2")), depth=3, width=2, branching=3)
    assert asked[0] == ["a0", "a1"]  # the first `width` on topic
    asked, [row] = run(Helper(lambda prompt: 1 + prompt.count("2")), depth=3, width=3, branching=3)
    assert asked == [["a0", "a1", "a2"], ["a20", "a21", "a22"], ["a220", "a221", "a222"]]
    assert row["request"]["messages"][-1]["content"] == "a222" and row["request"]["score"] == 4


def test_what_is_off_topic_is_never_asked():
    asked, _ = run(Helper(topical=lambda prompt: not prompt.endswith("0")), depth=2, width=9,
                       branching=2)
    assert asked == [["a1"], ["a11"]]
    assert run(Helper(topical=lambda prompt: False))[1] == []


def test_a_ten_ends_the_search():
    asked, [row] = run(Helper(lambda prompt: 10 if prompt == "a01" else 2), depth=5, width=4,
                       branching=2)
    assert len(asked) == 2 and row["response"]["text"] == "re a01"
    assert row["response"]["search_queries"] == 2 + 4 - 1 and row["request"]["depth"] == 1


def test_the_best_of_all_rounds_is_returned():
    _, [row] = run(Helper(lambda prompt: 9 - len(prompt)), depth=3, width=1, branching=1)
    assert row["request"]["messages"][-1]["content"] == "a0"


def test_the_attacker_sees_the_last_turns_alone():
    helper = Helper()
    run(helper, depth=6, width=1, branching=1, keep=2)
    assert [len(seen) for seen in helper.seen] == [0, 1, 2, 2, 2, 2]
    assert helper.seen[-1] == ["a0000", "a00000"]


def test_streams_are_trees_of_their_own():
    asked, _ = run(Helper(), depth=1, streams=3, branching=2)
    assert asked == [["a0", "a1"] * 3]
