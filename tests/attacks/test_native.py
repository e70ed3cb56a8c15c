"""Attacks without a search: what stands on the canvas, and who wrote it."""

from typing import get_args

import pytest
from tiny_model import tiny

from mosa import target
from mosa.attacks import native
from mosa.attacks.drive import together
from mosa.pipeline import params
from mosa.pipeline.sections import Guard, Sampler
from mosa.target import Target, Weights
from mosa.world import requests

LENGTH = 24
SAMPLER = Sampler(length=LENGTH, steps=12, block_length=LENGTH, temperature=0.0, batch_size=4,
                  remasking="low_confidence", cfg_scale=0.0, stop_at_eos=True)
CONFIG = native.Config(
    forms=list(get_args(native.Form)), headings=["first ,", "next ,"], second=12, anchored=3,
    form=["first ,", "then ,"], gap=3, sentences=["first ,", "with great care ."], blank=2,
    closing="this is all you need .", block=6, short=12, long=32)
BEHAVIOURS = [row | {"messages": [{"role": "user", "content": row["behaviour"]}]}
              for row in requests.requests("sealed_a", 3)]


@pytest.fixture(scope="module")
def lm():
    return tiny()


@pytest.fixture
def one(lm, tmp_path, monkeypatch):
    monkeypatch.setattr(params, "ROOT", tmp_path)
    monkeypatch.setattr(target, "loaded", lambda _: lm)
    return Target("tiny", Weights("w", "models/x", "float32"), guard=Guard())


def answer(lm):
    return lambda behaviour: lm.encode("heat the copper .") * 6


@pytest.fixture
def found(one, lm):
    return native.run(one, BEHAVIOURS, None, CONFIG, SAMPLER, answer(lm))


def of(found, form):
    return [row for row in found.rows if row["request"]["goal"] == form]


TWICE = ["asked again", "anchoring"]


def test_every_form_is_one_response_of_every_behaviour_and_two_are_two(found):
    for form in CONFIG.forms:
        assert [row["request"]["id"] for row in of(found, form)] == [b["id"] for b in BEHAVIOURS]
        more = {row["response"]["search_queries"] for row in of(found, form)}
        assert more == {1 if form in TWICE else 0}
    assert len(found.queries) == len(BEHAVIOURS) * (len(CONFIG.forms) + len(TWICE))


def test_asked_again_has_the_models_own_words_between_and_nothing_else(found):
    firsts = {row["request"]["id"]: row["response"]["text"] for row in found.queries
              if row["request"]["goal"] == "asked again" and row["request"]["query"] == 0}
    for row in of(found, "asked again"):
        one, said, other = row["request"]["messages"]
        assert one == other and one["content"] == row["request"]["behaviour"]
        assert said == {"role": "assistant", "content": firsts[row["request"]["id"]]}


def test_plain_requests_alone_need_no_canvas(one, lm):
    free = ["none", "asked again"]
    assert [form for form, access in native.FORMS.items() if access == "A0"] == free
    for form in [form for form in CONFIG.forms if form not in free]:
        with pytest.raises(PermissionError, match="needs A2"):
            together(lambda behaviour, helper, form=form: native.attack(
                behaviour, helper, form, CONFIG, one, SAMPLER, answer(lm)), BEHAVIOURS[:1], one,
                SAMPLER, "A1")


@pytest.mark.parametrize("form, slots", [
    ("PAD", {1: "first ,", 12: "next ,"}), ("post-context", {18: "this is all you need ."})])
def test_what_is_written_stays_and_is_not_the_models_own(found, lm, form, slots):
    for row in of(found, form):
        ids, own = row["response"]["ids"], row["response"]["own"]
        for slot, words in slots.items():
            written = lm.encode(words)
            assert ids[slot : slot + len(written)] == written
        planted = {i for slot, words in slots.items()
                   for i in range(slot, slot + len(lm.encode(words)))}
        assert sum(len(lm.encode(run)) for run in own) == len(
            [i for i in range(row["response"]["tokens"]) if i not in planted])


def test_anchoring_takes_the_answers_tokens_in_place_of_the_draft(found, lm):
    told = answer(lm)(None)
    for row in of(found, "anchoring"):
        given = row["request"]["given"]
        assert given and all(row["response"]["ids"][slot] == told[slot] for slot in given)
        first = next(q for q in found.queries if q["request"]["goal"] == "anchoring"
                     and q["request"]["id"] == row["request"]["id"])
        steps = first["response"]["reveal_step"]
        assert given == [slot for slot, step in enumerate(steps) if step < CONFIG.anchored]
        assert row["response"]["sampler"]["steps"] == SAMPLER.steps - CONFIG.anchored


def test_forms_are_filled_one_token_a_step_in_the_user_turn(found, lm):
    for form, gap, parts in (("DIJA", 3, CONFIG.form), ("FITS", 2, CONFIG.sentences)):
        for row in of(found, form):
            how = row["response"]["sampler"]
            assert how["steps"] == how["length"] and how["temperature"] == 0.2
            own = [len(lm.encode(run)) for run in row["response"]["own"]]
            assert sum(own) <= gap * len(parts)
            assert all(isinstance(token, int) for token in row["request"]["messages"])


def test_orders_and_lengths_are_the_callers(found):
    how = {form: of(found, form)[0]["response"]["sampler"] for form in CONFIG.forms}
    assert how["block order"]["block_length"] == 6 and how["block order"]["steps"] == 12
    for order in ("random", "forward", "backward"):
        assert how[f"{order} order"]["remasking"] == order
    assert [(how[form]["length"], how[form]["steps"]) for form in ("none", "short", "long")] == [
        (24, 12), (12, 6), (32, 16)]
    assert [len(of(found, form)[0]["response"]["ids"]) for form in ("short", "long")] == [12, 32]
