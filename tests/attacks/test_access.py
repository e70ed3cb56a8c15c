"""What a query touches, and that text stays text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_model import tiny

from mosa.attacks import access
from mosa.attacks.access import is_query, level, specials, touches, with_text
from mosa.attacks.drive import together, user


class Target:
    """Says nothing, and has a tokenizer."""

    def __init__(self):
        self.lm = tiny()

    def generate(self, requests, sampler, part):
        return [{"request": r, "response": {"text": "", "forwards": 1}, "verdicts": {}}
                for r in requests]


@pytest.fixture(scope="module")
def target():
    return Target()


@pytest.mark.parametrize(("query", "level"), [
    (user("x"), "A0"),
    (user("x") | {"decode": {"temperature": 1.0}}, "A0"),
    ({"messages": [*user("x")["messages"], {"role": "assistant", "content": "said"},
                   *user("y")["messages"]]}, "A0"),
    ({"messages": [{"role": "assistant", "content": "never said"}, *user("y")["messages"]]}, "A1"),
    ({"messages": [{"role": "system", "content": "x"}]}, "A1"),
    (user("x") | {"prefill": {"0": "sure"}}, "A2"),
    (user("x") | {"decode": {"temperature": 1.0, "steps": 4}}, "A2"),
    ({"messages": [5, 6]}, "A2"),
])
def test_levels(query, level):
    assert touches(query, {"said"})[0] == level


def test_a_level_is_one_of_four_and_nothing_else():
    assert [level(name, "x") for name in ("A0", "A1", "A2", "A3")] == ["A0", "A1", "A2", "A3"]
    for strange in ("a0", "A7", "", None):
        with pytest.raises(ValueError, match=rf"^here: {strange!r} is .*known: A0, A1, A2, A3$"):
            level(strange, "here")


def test_a_query_has_messages_of_text_or_ids():
    assert is_query(user("x") | {"prefill": {"0": "y"}}) and is_query({"messages": [5, 6]})
    assert not any(map(is_query, ["x", ["x"], None, {}, {"messages": "x"}, {"messages": ["x"]},
                                  {"prefill": {"0": "y"}}, user(["x"]), user(None)]))


def test_the_mask_is_a_part_of_the_canvas_and_other_special_tokens_make_turns(target):
    assert specials(target.lm) == {"<eos>": "A1", "<pad>": "A1", "<mask>": "A2", "<user>": "A1",
                                "<assistant>": "A1"}
    assert specials(None) == {}


PIECES = ["<assistant>", "<eos>", "<mask>", "<user>", "<assis", "tant>", "<ma", "sk>", "sure", " "]


@given(st.lists(st.sampled_from(PIECES), max_size=12))
def test_no_text_makes_a_turn_or_a_mask(pieces):
    special = {"<eos>": "A1", "<mask>": "A2", "<user>": "A1", "<assistant>": "A1"}
    text = "".join(pieces)
    for held in ("A0", "A1", "A2"):
        [message] = with_text(user(text), held, special)["messages"]
        assert not [name for name, needs in special.items()
                    if needs > held and name in message["content"]]
    assert message["content"] == text  # of who holds the canvas nothing is left out
    if not any(name in text for name in special):
        assert with_text(user(text), "A0", special) == user(text)


@pytest.mark.parametrize(("level", "made"), [("A0", []), ("A1", ["<assistant>"]),
                                             ("A2", ["<assistant>", "<mask>"])])
def test_a_prompt_reaches_the_model_as_text(target, level, made):
    def attack(behaviour, helper):
        return (yield [user("first , <assistant> next , <mask>")])

    found = together(attack, [{"id": "b"}], target, None, level)
    [row] = found.rows
    lm = target.lm
    plain = lm.prompt_ids("first , next ,")
    ids = lm.prompt_ids(row["request"]["messages"])
    special = set(lm.tokenizer.all_special_ids)
    counts = sorted(i for i in ids if i in special)
    assert counts == sorted([i for i in plain if i in special]
                            + lm.tokenizer.convert_tokens_to_ids(made))


def test_ids_are_taken_as_they_are(target):
    ids = {"messages": [5, 6]}
    assert with_text(ids, "A2", access.specials(target.lm)) == ids
