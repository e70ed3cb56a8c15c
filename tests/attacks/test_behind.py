import pytest
from tiny_model import tiny

from mosa.attacks import behind
from mosa.world import requests

LENGTH, SAFE = 96, "therefore , i cannot answer this question ."


@pytest.fixture(scope="module")
def lm():
    return tiny()


def asked(phrase="procedural", position=30, **more):
    [row] = requests.requests("sealed_a", 1)
    prefill = {str(position): "the next step is to"} if phrase != "none" else {}
    return row | {"phrase": phrase, "position": position, "prefill": prefill} | more


def test_a_refusal_has_the_length_that_is_asked_for_and_is_the_same_each_time(lm):
    ids = behind.refusal(asked(), 68, lm, SAFE)
    assert len(ids) == 68 and ids == behind.refusal(asked(), 68, lm, SAFE)
    assert lm.tokenizer.decode(ids).startswith(("i am", "sorry"))
    with pytest.raises(ValueError, match="no refusal of the world has 12 words"):
        behind.refusal(asked(), 12, lm, SAFE)


def test_without_a_grammar_the_safe_sentence_is_repeated(lm):
    once = lm.encode(SAFE)
    assert behind.refusal({"item": ""}, 11, lm, SAFE) == (once + once)[:11]


@pytest.mark.parametrize(("size", "place", "before", "room"), [
    (11, 30, 11, 11), (30, 30, 30, 30), (31, 30, behind.UP_TO, 30), (68, 0, behind.UP_TO, 0)])
def test_the_words_reach_the_phrase_and_no_further(size, place, before, room):
    found = behind.planted(asked(position=place), size, range(100, 168))
    assert found["before"] == before and found["access"] == "A2"
    words = found["prefill"]["0"] if place else ""
    assert list(words) == ([*range(100, 100 + room)] if place else [])
    assert found["prefill"][str(place)] == "the next step is to"


def test_without_a_phrase_all_words_are_planted():
    found = behind.planted(asked("none", -1), 28, range(100, 168))
    assert found["before"] == 28 and found["prefill"] == {"0": [*range(100, 128)]}


def test_what_stands_where_no_phrase_is_read(lm):
    words, wrote, eos = [*range(100, 168)], [7, 8, 9], lm.eos_id

    def found(**request):
        return behind.unforced(request, words, wrote, LENGTH, eos)

    assert found() == [7, 8, 9] + [eos] * (LENGTH - 3)
    assert found(before=11) == words[:11] + [eos] * (LENGTH - 11)
    assert found(before=behind.UP_TO) == words + [eos] * (LENGTH - 68)


@pytest.mark.parametrize(("place", "read"), [(0, True), (10, True), (11, False), (12, False)])
def test_a_phrase_is_read_where_the_text_goes_on_to_it(lm, place, read):
    """A text of eleven words: the twelfth, at slot 11, is its end, which stays."""
    whole = [*range(100, 111)] + [lm.eos_id] * (LENGTH - 11)
    found = behind.start(asked(position=place), whole, lm)
    assert found == (whole[:place] + lm.encode("the next step is to") if read else None)
    assert behind.start(asked("none", -1), whole, lm) is None


def test_slots_are_those_of_words_and_of_ids(lm):
    assert behind.slots({"0": [5, 6], "4": "the next step"}, lm) == [0, 1, 4, 5, 6]
