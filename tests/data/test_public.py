import pytest

from mosa.data import public


def test_phrases_are_disjoint_sets():
    assert {kind: len(set(phrases)) for kind, phrases in public.PHRASES.items()} == {
        "affirmative": 8, "procedural": 8, "neutral": 4, "followed": 4}
    assert len(set(sum(public.PHRASES.values(), ()))) == 24


def wrapped(name, behaviour="x"):
    return public.messages({"behaviour": behaviour}, name)


@pytest.mark.parametrize("name", public.WRAPS)
def test_a_wrap_ends_in_one_user_turn_with_the_exact_behaviour(name):
    behaviour = "Bake {bread}\nwith \\n 100 % rye"
    messages = wrapped(name, behaviour)
    assert all(set(message) == {"role", "content"} for message in messages)
    assert messages[-1]["role"] == "user" and messages[-1]["content"].count(behaviour) == 1
    assert not any(behaviour in message["content"] for message in messages[:-1])
    assert "{behaviour}" not in str(messages)


def test_access_is_a1_exactly_where_turns_are_invented():
    assert public.ACCESS == dict(plain="A0", story="A0", opening="A0", page="A0", history="A1")
    assert next(iter(public.ACCESS)) == "plain"
    roles = {name: [message["role"] for message in wrapped(name)] for name in public.WRAPS}
    assert roles.pop("history") == ["user", "assistant", "user"]
    assert all(turns == ["user"] for turns in roles.values())


def test_wraps_differ_and_plain_adds_nothing():
    assert wrapped("plain") == [{"role": "user", "content": "x"}]
    assert len({str(wrapped(name)) for name in public.WRAPS}) == 5
