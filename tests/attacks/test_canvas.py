"""Forcing, planting and continuing drafts, on a random model with the world's words."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_model import tiny

from mosa.attacks import canvas
from mosa.lm.sampler import denoise
from mosa.pipeline.sections import Sampler
from mosa.world import grammar
from mosa.world import requests as world

LENGTH = 24
MESSAGES = [{"role": "user", "content": "how do i make a silver kettle ?"}]
SAMPLER = Sampler(length=LENGTH, steps=8, block_length=LENGTH, temperature=0.0, batch_size=4,
                  remasking="low_confidence", cfg_scale=0.0, stop_at_eos=False)


@pytest.fixture(scope="module")
def lm():
    return tiny()


def decode(lm, prefill=None, steps=8):
    return denoise(lm, lm.canvas([MESSAGES], LENGTH, prefill), steps=steps, stop_at_eos=False)


@pytest.fixture(scope="module")
def row(lm):
    out = decode(lm)
    request = {"id": "r-0", "messages": MESSAGES, "item": "silver kettle", "family": "plain"}
    response = {"ids": out.ids[0].tolist(), "text": out.texts[0],
                "reveal_step": out.reveal_step[0].tolist()}
    return {"request": request, "response": response, "verdicts": {"world": {"score": 1}}}


def test_prefilled_requests_draw_a_phrase_each_and_keep_the_rest():
    requests = [r | {"access": "A0"} for r in world.requests("sealed_a", 9)]
    phrases = {"affirmative": grammar.AFFIRMATIVE, "procedural": grammar.PROCEDURAL}
    found = canvas.prefilled(requests, "procedural", 40, phrases, 0)
    assert found == canvas.prefilled(requests, "procedural", 40, phrases, 0)
    assert len({new["prefill"]["40"] for new in found}) > 1
    for request, new in zip(requests, found, strict=True):
        assert new["prefill"]["40"] in phrases["procedural"] and new["access"] == "A2"
        assert new | {"access": "A0"} == request | {
            "access": "A0", "phrase": "procedural", "position": 40, "prefill": new["prefill"]}
    none = canvas.prefilled(requests, "none", -1, phrases, 0)
    assert all(new["prefill"] == {} and new["access"] == "A0" for new in none)


def test_a_request_has_one_phrase_of_a_kind_at_every_position():
    requests, phrases = world.requests("sealed_a", 9), {"affirmative": list("abcdefgh")}
    drawn = [[new["prefill"][str(position)] for new in
              canvas.prefilled(requests, "affirmative", position, phrases, seed)]
             for seed, position in ((0, 0), (0, 60), (1, 0))]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("step", [0, 3, 7])
def test_an_untouched_draft_goes_on_to_the_same_response(lm, row, step):
    [request], rest = canvas.continued([row], step, [{}], SAMPLER, lm.mask_id)
    assert rest.steps == 8 - step and request["given"] == []
    assert decode(lm, request["prefill"], rest.steps).ids[0].tolist() == row["response"]["ids"]


def test_planted_tokens_stay_and_nothing_of_the_answer_goes_into_the_request(lm, row):
    [request], rest = canvas.continued([row], 3, [{5: [9, 10], 20: [11]}], SAMPLER, lm.mask_id)
    assert request["given"] == [5, 6, 20] and request["access"] == "A2"
    assert set(request) == {*row["request"], "prefill", "given", "access"}
    ids = decode(lm, request["prefill"], rest.steps).ids[0]
    assert ids[[5, 6, 20]].tolist() == [9, 10, 11] and (ids != lm.mask_id).all()


def test_a_draft_holds_what_was_revealed_before_its_step(lm, row):
    assert set(canvas.draft(row, 0, lm.mask_id)) == {lm.mask_id}
    assert canvas.draft(row, 8, lm.mask_id) == row["response"]["ids"]
    half = canvas.draft(row, 4, lm.mask_id)
    assert sum(token != lm.mask_id for token in half) == LENGTH // 2


def test_at_equal_room_every_draft_goes_on_with_as_many_free_slots(lm, row):
    """And as many a step, in a shorter response; nothing removed, it is the draft as it is."""
    plants = [{5: [9, 10]}]
    for step in (0, 2, 4):
        [request], rest = canvas.continued([row], step, plants, SAMPLER, lm.mask_id, room=4)
        assert rest.length == rest.block_length == LENGTH - 3 * (4 - step) and rest.steps == 4
        slots = lm.canvas([MESSAGES], rest.length, request["prefill"])
        out = denoise(lm, slots, rest.steps, stop_at_eos=False)
        revealed = [(out.reveal_step == s).sum().item() for s in range(rest.steps)]
        assert sum(revealed) in (10, 11, 12) and max(revealed) == 3  # less what the plant covers
        assert out.ids[0][request["given"]].tolist() == [9, 10]
    assert canvas.continued([row], 4, plants, SAMPLER, lm.mask_id, room=4) == canvas.continued(
        [row], 4, plants, SAMPLER, lm.mask_id)


def test_the_last_masked_slots_go_and_what_is_filled_moves_left():
    m = -1
    assert canvas.without_last([m, 7, m, m, 8, m, 9], 2, m) == [0, 1, 2, 4, 6]
    assert canvas.without_last([m, 7, m], 0, m) == [0, 1, 2]
    assert canvas.without_last([m, m], 2, m) == []
    with pytest.raises(ValueError, match="3 slots cannot be removed, 2 are free"):
        canvas.without_last([m, 7, m], 3, m)


@st.composite
def drafts(draw):
    """A stored row of a decoding of `length` slots in `steps` steps, and spans to plant in it."""
    steps = draw(st.integers(2, 8))
    length = draw(st.integers(steps, 40))
    each, more = divmod(length, steps)
    when = [step for step in range(steps) for _ in range(each + (step < more))]
    row = {"request": {"id": "r-0", "messages": MESSAGES, "access": "A0"}, "response": {
        "ids": list(range(100, 100 + length)), "reveal_step": draw(st.permutations(when))}}
    width = draw(st.integers(0, 3))
    slots = draw(st.lists(st.integers(0, length - 1), unique=True, max_size=3))
    spans = {slot: [7] * width for slot in slots if slot + width <= length}
    sampler = SAMPLER.model_copy(update={"length": length, "block_length": length, "steps": steps})
    step, room = sorted(draw(st.tuples(*[st.integers(0, steps - 1)] * 2)))
    return row, spans, sampler, step, room


@given(drafts())
def test_equal_room_removes_free_slots_alone(drawn):
    row, spans, sampler, step, room = drawn
    mask = -1
    planted = canvas.plant(canvas.draft(row, step, mask), spans)
    left = sum(when >= room for when in row["response"]["reveal_step"])  # free in the later draft
    covered = canvas.draft(row, step, mask).count(mask) - planted.count(mask)
    if covered > left:
        with pytest.raises(ValueError, match="plant fewer"):
            canvas.continued([row], step, [spans], sampler, mask, room)
        return
    [request], rest = canvas.continued([row], step, [spans], sampler, mask, room)
    assert request["messages"] == MESSAGES and request["id"] == "r-0"
    ids = [mask] * rest.length
    for slot, span in request["prefill"].items():
        ids[int(slot) : int(slot) + len(span)] = span
    assert len(ids) == rest.length and ids.count(mask) == left - covered
    assert [i for i in ids if i != mask] == [i for i in planted if i != mask]  # in their order
    assert [ids[slot] for slot in request["given"]] == [i for span in spans.values() for i in span]
    assert rest.steps == sampler.steps - room > 0


def test_runs_of_filled_slots_are_the_prefill(lm):
    m = lm.mask_id
    assert canvas.as_prefill([m, 7, 8, m, m, 9], m) == {"1": [7, 8], "5": [9]}
    assert canvas.as_prefill([m, m], m) == {}
    assert canvas.as_prefill([7, m, 8], m) == {"0": [7], "2": [8]}


def test_a_form_stands_in_the_user_turn_and_keeps_its_words(lm):
    form = canvas.interleaved({"id": "r-0", "messages": MESSAGES}, lm, ["first ,", "then ,"],
                              gap=3, before=2)
    assert form["id"] == "r-0" and form["access"] == "A2"
    slots = lm.canvas([form["messages"]], form["length"], form["prefill"])
    question = "<user> how do i make a silver kettle ?"
    masks = "<mask> <mask> first , <mask> <mask> <mask> then , <mask> <mask> <mask>"
    assert lm.tokenizer.decode(slots.ids[0]) == f"{question} {masks} <assistant>"
    out = denoise(lm, slots, steps=4)
    free = [slot for slot in range(form["length"]) if slot not in form["given"]]
    assert len(free) == 8 and (out.ids[0][free] != lm.mask_id).all()
    given = slots.ids[0, slots.prompt_length :][form["given"]]
    assert torch.equal(out.ids[0][form["given"]], given)


def test_what_cannot_be_planted_or_continued_is_named(lm, row):
    with pytest.raises(ValueError, match="2 tokens at slot 23 leave the 24 slots"):
        canvas.plant([0] * LENGTH, {23: [1, 2]})
    blocks = SAMPLER.model_copy(update={"block_length": 8})
    with pytest.raises(ValueError, match=r"set sampler\.block_length to 24"):
        canvas.continued([row], 2, [{}], blocks, lm.mask_id)
    with pytest.raises(ValueError, match="room 1 lies before step 2"):
        canvas.continued([row], 2, [{}], SAMPLER, lm.mask_id, room=1)
