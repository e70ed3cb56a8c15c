"""TAP prunes, branches and stops as published."""

from mosa.attacks import tap
from mosa.attacks.drive import user


class Target:
    def __init__(self):
        self.asked = []

    def generate(self, requests, sampler, part):
        self.asked.append([r["messages"][-1]["content"] for r in requests])
        return [{"request": r, "response": {"text": f"re {r['messages'][-1]['content']}",
                                            "forwards": 4}, "verdicts": {}} for r in requests]


class Helper:
    """A prompt is a path of branches, such as "a03"; scores and topics are scripted."""

    def __init__(self, scores=lambda prompt: 0.1, topical=lambda prompt: True):
        self.scored, self.topical, self.seen = scores, topical, []

    phrases, lines = {"procedural": ["then do"]}, {}

    def propose(self, behaviour, kind, n, seed, tries=()):
        yield from ()
        self.kind = kind
        self.seen.append([one.text for one in tries])
        start = tries[-1].text if tries else "a"
        return [f"{start}{i}" for i in range(n)]

    def on_topic(self, behaviour, prompts):
        yield from ()
        return [self.topical(prompt) for prompt in prompts]

    def score(self, behaviour, texts):
        yield from ()
        return [self.scored(text.split()[1]) for text in texts]


def run(helper, **values):
    target = Target()
    found = tap.run(target, [{"id": "b", **user("x")}], helper, tap.Config(**values), None)
    return target.asked, found.rows


def test_the_published_setting_asks_at_most_94_times():
    asked, _ = run(Helper())
    assert [len(wave) for wave in asked] == [4] + [10] * 9 and sum(map(len, asked)) == 94


def test_the_best_leaves_grow_on():
    asked, _ = run(Helper(lambda prompt: prompt.count("2") / 10), depth=3, width=2, branching=3)
    assert asked[0] == ["a0", "a1"]  # the first `width` on topic
    asked, [row] = run(Helper(lambda prompt: prompt.count("2") / 10), depth=3, width=3,
                       branching=3)
    assert asked == [["a0", "a1", "a2"], ["a20", "a21", "a22"], ["a220", "a221", "a222"]]
    assert row["request"]["messages"][-1]["content"] == "a222" and row["request"]["rated"] == 0.3


def test_what_is_off_topic_is_never_asked():
    asked, _ = run(Helper(topical=lambda prompt: not prompt.endswith("0")), depth=2, width=9,
                       branching=2)
    assert asked == [["a1"], ["a11"]]


def test_a_search_without_a_prompt_on_topic_counts_as_the_plain_request():
    asked, [row] = run(Helper(topical=lambda prompt: False))
    assert asked == [["x"]] and row["response"]["search_queries"] == 0


def test_a_full_score_ends_the_search():
    asked, [row] = run(Helper(lambda prompt: 1 if prompt == "a01" else 0.2), depth=5, width=4,
                       branching=2)
    assert len(asked) == 2 and row["response"]["text"] == "re a01"
    assert row["response"]["search_queries"] == 2 + 4 - 1 and row["request"]["depth"] == 1


def test_the_best_of_all_rounds_is_returned():
    _, [row] = run(Helper(lambda prompt: (9 - len(prompt)) / 10), depth=3, width=1, branching=1)
    assert row["request"]["messages"][-1]["content"] == "a0"


def test_the_attacker_sees_the_last_turns_alone():
    helper = Helper()
    run(helper, depth=6, width=1, branching=1, keep=2)
    assert [len(seen) for seen in helper.seen] == [0, 1, 2, 2, 2, 2]
    assert helper.seen[-1] == ["a0000", "a00000"]


def test_streams_are_trees_of_their_own():
    class Apart(Helper):
        def propose(self, behaviour, kind, n, seed, tries=()):
            yield from ()
            start = tries[-1].text if tries else "abc"[int(seed[-1])]
            return [f"{start}{i}" for i in range(n)]

    asked, _ = run(Apart(), depth=2, width=6, streams=3, branching=2)
    first = [f"{stream}{i}" for stream in "abc" for i in range(2)]
    assert asked == [first, [f"{leaf}{i}" for leaf in first for i in range(2)][:6]]


class Repeating(Helper):
    """Its prompts are those of a script, by round; every leaf gets all of them."""

    def __init__(self, *rounds, **more):
        super().__init__(**more)
        self.rounds, self.tries = rounds, []

    def propose(self, behaviour, kind, n, seed, tries=()):
        yield from ()
        self.tries.append([one.text for one in tries])
        return self.rounds[int(seed.split("-")[-2])]


def test_a_prompt_is_asked_once():
    """Within a round and after it; a repeat takes no place of the width."""
    asked, [row] = run(Repeating(["a", "a", "b"], ["b", "c", "a", "d"]), depth=2, width=2)
    assert asked == [["a", "b"], ["c", "d"]] and row["response"]["search_queries"] == 3


def test_what_the_width_cut_off_may_still_be_asked():
    asked, _ = run(Repeating(["a", "b", "c"], ["a", "c"]), depth=2, width=2)
    assert asked == [["a", "b"], ["c"]]


def test_after_a_round_of_repeats_the_same_leaves_grow_on():
    helper = Repeating(["a"], ["a"], ["b"], ["c"])
    asked, _ = run(helper, depth=4)
    assert asked == [["a"], ["b"], ["c"]]
    assert helper.tries == [[], ["a"], ["a"], ["a", "b"]]


def test_a_round_without_a_prompt_on_topic_ends_the_search():
    asked, _ = run(Repeating(["a"], ["off"], ["b"], topical=lambda p: p != "off"), depth=3)
    assert asked == [["a"]]


def test_another_behaviour_may_be_asked_with_the_same_prompt():
    target, some = Target(), [{"id": name, **user("x")} for name in "pq"]
    tap.run(target, some, Repeating(["a"]), tap.Config(depth=1), None)
    assert target.asked == [["a", "a"]]


def test_the_middle_form_scores_the_window_for_half():
    helper = Helper(lambda prompt: 0.4)
    far = {"a0": 19, "a1": 20, "a2": 60, "a3": 61}  # word at which the phrase begins

    class Placed(Target):
        def generate(self, requests, sampler, part):
            rows = super().generate(requests, sampler, part)
            for row in rows:
                prompt = row["request"]["messages"][-1]["content"]
                row["response"]["text"] += " x" * (far[prompt] - 2) + " then do it"
            return rows

    target = Placed()
    found = tap.run(target, [{"id": "b", **user("x")}], helper,
                    tap.Config(forms=["middle"], depth=1), None)
    assert helper.kind == "middle prompt"
    assert found.rows[0]["request"]["messages"][-1]["content"] == "a1"
    assert found.rows[0]["request"]["rated"] == 0.7
    assert [tap.in_middle(row["response"]["text"], ["then do"], tap.Config())
            for row in found.queries] == [False, True, True, False]
