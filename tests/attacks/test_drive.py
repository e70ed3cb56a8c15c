"""Behaviours advance together, each sees its own answers alone, and levels are kept."""

import pytest

from mosa.attacks.drive import Help, together
from mosa.endpoint import Answer


class Scripted:
    """A target that echoes; it notes its waves."""

    def __init__(self):
        self.waves = []

    def generate(self, requests, sampler, part):
        self.waves.append((part, [(r["id"], r["messages"][-1]["content"]) for r in requests]))
        return [{"request": r, "response": {"text": f"echo {r['messages'][-1]['content']}",
                                            "forwards": 8}, "verdicts": {}} for r in requests]


def user(text):
    return {"role": "user", "content": text}


def counting(behaviour):
    """Asks as many times as its id says; two at once the first time."""
    first = yield [{"messages": [user("a")]}, {"messages": [user("b")]}]
    rows = [first[1]]
    for i in range(int(behaviour["id"]) - 1):
        rows = yield [{"messages": [user(f"{behaviour['id']}.{i}")]}]
    return rows


def behaviours(*ids):
    return [{"id": str(i), "messages": [user("x")]} for i in ids]


def test_waves_hold_all_that_is_asked_at_once():
    target = Scripted()
    rows = together(counting, behaviours(1, 3, 2), target, None, "A0")
    assert [len(asked) for _, asked in target.waves] == [6, 2, 1]
    assert [part for part, _ in target.waves] == ["wave-000", "wave-001", "wave-002"]
    assert [row["request"]["id"] for row in rows] == ["1", "3", "2"]
    assert [row["response"]["text"] for row in rows] == ["echo b", "echo 3.1", "echo 2.0"]


def test_costs_are_counted_by_behaviour():
    rows = together(counting, behaviours(1, 3), Scripted(), None, "A0")
    assert [row["response"]["search_queries"] for row in rows] == [1, 3]
    assert [row["response"]["search_forwards"] for row in rows] == [8, 24]
    assert [row["request"]["query"] for row in rows] == [1, 3]


def test_what_one_behaviour_gets_does_not_depend_on_the_others():
    alone = together(counting, behaviours(3), Scripted(), None, "A0")
    among = together(counting, behaviours(2, 3, 1), Scripted(), None, "A0")
    assert alone == [row for row in among if row["request"]["id"] == "3"]


def test_an_attack_may_find_nothing_and_may_skip_a_wave():
    def quiet(behaviour):
        yield []
        [row] = yield [{"messages": [user("a")]}]
        return [] if behaviour["id"] == "1" else [row]

    rows = together(quiet, behaviours(1, 2), Scripted(), None, "A0")
    assert [row["request"]["id"] for row in rows] == ["2"]


@pytest.mark.parametrize("query, level, what", [
    ({"messages": [user("a")], "prefill": {3: "b"}}, "A2", "prefilled"),
    ({"messages": [user("a"), {"role": "assistant", "content": "of course"}, user("b")]}, "A1",
     "of course"),
    ({"messages": [{"role": "system", "content": "be kind"}, user("a")]}, "A1", "system"),
])
def test_a_query_beyond_the_declared_level_is_stopped(query, level, what):
    def attack(behaviour):
        rows = yield [query]
        return rows

    below = {"A1": "A0", "A2": "A1"}[level]
    with pytest.raises(PermissionError, match=f"{what}.*needs {level}.*declares {below}"):
        together(attack, behaviours(1), Scripted(), None, below)
    assert together(attack, behaviours(1), Scripted(), None, level)


def test_what_the_target_said_may_be_quoted_at_level_0():
    def converse(behaviour):
        [row] = yield [{"messages": [user("a")]}]
        rows = yield [{"messages": [user("a"), {"role": "assistant", "content":
                                                row["response"]["text"]}, user("b")]}]
        return rows

    assert together(converse, behaviours(1), Scripted(), None, "A0")


def test_an_id_is_attacked_once():
    with pytest.raises(ValueError, match="one id"):
        together(counting, behaviours(1, 1), Scripted(), None, "A0")


def test_the_helper_is_asked_for_all_at_once_between_two_waves():
    calls = []

    def helper(chats, seeds, **options):
        calls.append((len(chats), seeds, options))
        return [Answer(f"{chat[-1]['content']}?", "stop", 1) for chat in chats]

    def attack(behaviour):
        warm = (("temperature", 1.0),)
        first, second = yield Help([[user("p")], [user("q")]], 7, warm)
        [third] = yield Help([[user(second.text)]])
        rows = yield [{"messages": [user(first.text + third.text)]}]
        return rows

    target = Scripted()
    rows = together(attack, behaviours(1, 2), target, None, "A0", helper)
    assert calls == [(4, [7, 8, 7, 8], {"temperature": 1.0}), (2, [0, 0], {})]
    assert len(target.waves) == 1
    assert [row["response"]["text"] for row in rows] == ["echo p?q??"] * 2
    assert [row["response"]["helper_calls"] for row in rows] == [3, 3]
