import pytest

from mosa.data import public


def test_phrases_are_two_disjoint_sets_of_eight():
    assert {kind: len(set(phrases)) for kind, phrases in public.PHRASES.items()} == {
        "affirmative": 8,
        "procedural": 8,
    }
    assert not set(public.PHRASES["affirmative"]) & set(public.PHRASES["procedural"])


@pytest.mark.parametrize("name", public.WRAPS)
def test_a_wrap_ends_in_one_user_turn_with_the_exact_behaviour(name):
    behaviour = "Bake {bread}\nwith \\n 100 % rye"
    messages = public.WRAPS[name].messages(behaviour)
    assert all(set(message) == {"role", "content"} for message in messages)
    assert messages[-1]["role"] == "user" and messages[-1]["content"].count(behaviour) == 1
    assert not any(behaviour in message["content"] for message in messages[:-1])
    assert "{behaviour}" not in str(messages)


def test_access_is_a1_exactly_where_turns_are_invented():
    assert list(public.WRAPS) == ["plain", "story", "opening", "page", "history"]
    for wrap in public.WRAPS.values():
        assert wrap.access == ("A1" if len(wrap.messages("x")) > 1 else "A0")
    roles = [message["role"] for message in public.WRAPS["history"].messages("x")]
    assert roles == ["user", "assistant", "user"]


def test_wraps_differ_and_plain_adds_nothing():
    assert public.WRAPS["plain"].messages("x") == [{"role": "user", "content": "x"}]
    assert len({str(wrap.messages("x")) for wrap in public.WRAPS.values()}) == 5
