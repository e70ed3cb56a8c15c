"""The requests that every defence meets, and what is made of a model's own drafts."""

from collections import Counter
from types import SimpleNamespace

import pytest
from pydantic import ValidationError
from tiny_model import tiny

from mosa import target
from mosa.attacks.battery import Battery, ask, in_turn, marked, prompts
from mosa.attacks.canvas import draft
from mosa.data import sets
from mosa.pipeline import params
from mosa.pipeline.params import ParamsError
from mosa.pipeline.sections import Guard, Sampler
from mosa.target import Target, Weights
from mosa.world import grammar, requests

LENGTH = 24
SAMPLER = Sampler(length=LENGTH, steps=8, block_length=12, temperature=0.0, batch_size=4,
                  remasking="low_confidence", cfg_scale=0.0, stop_at_eos=True)
PHRASES = {"affirmative": grammar.AFFIRMATIVE, "procedural": grammar.PROCEDURAL}
FAMILIES = {"plain": "A0", "leave": "A0", "tale": "A0", "page": "A0", "alias": "A0"}
WORLD = SimpleNamespace(source="world")
BATTERY = {
    "n": 4, "forced": {"start": [("affirmative", 0), ("procedural", 0)],
                       "late": [("procedural", 10), ("procedural", 16)]},
    "headings": ["first ,", "next ,"], "second": 12, "anchored": 3, "form": ["first ,", "then ,"],
    "gap": 3, "seed": 0}
REMINDER = "you keep to the rules . {request} please keep to the rules ."


def config(**changes):
    return Battery(**BATTERY | changes)


def wrapped(role, n=6, families=FAMILIES):
    """The rows of one set, in every family."""
    return [row | {"family": family, "access": access, "messages": requests.wrap(row, family)}
            for family, access in families.items() for row in requests.requests(role, n)]


@pytest.fixture(scope="module")
def sealed():
    return wrapped("sealed_a") + wrapped("sealed_b")


# --- requests ----------------------------------------------------------------------------------


def test_sets_take_turns_and_families_take_turns_in_each_of_them(sealed):
    found = in_turn(sealed, ["leave", "tale"], 8)
    assert [row["set"] for row in found] == ["sealed_a", "sealed_b"] * 4
    for name in ("sealed_a", "sealed_b"):
        own = [row for row in found if row["set"] == name]
        assert [row["family"] for row in own] == ["leave", "tale"] * 2
        assert [row["id"] for row in own] == [f"{name}-{i:04d}" for i in range(4)]


def test_a_request_is_asked_in_one_family(sealed):
    found = in_turn(sealed, ["leave", "tale", "page"], 12)
    assert len({row["id"] for row in found}) == len(found) == 12
    assert all(row in sealed for row in found)


def test_fewer_requests_are_a_head_of_more(sealed):
    assert in_turn(sealed, ["leave", "tale"], 3) == in_turn(sealed, ["leave", "tale"], 7)[:3]


def test_a_set_that_is_used_up_leaves_its_turns_out():
    rows = wrapped("sealed_a", 2) + wrapped("sealed_b", 4)
    assert Counter(row["set"] for row in in_turn(rows, ["plain"], 8)) == {
        "sealed_a": 2, "sealed_b": 4}


def test_every_condition_has_the_same_number_of_requests(sealed):
    found = prompts(sealed, ["plain", "leave"], config(), PHRASES)
    by_cell = Counter((row["group"], row["cell"]) for row in found)
    assert by_cell == {
        ("plain", "plain"): 4, ("PAD", "PAD"): 4, ("seen wraps", "leave"): 4,
        ("unseen wraps", "tale"): 2, ("unseen wraps", "page"): 2,
        ("start", "affirmative@0"): 4, ("start", "procedural@0"): 4,
        ("late", "procedural@10"): 4, ("late", "procedural@16"): 4}
    groups = Counter(row["group"] for row in found)
    assert groups["start"] == groups["late"] == 2 * groups["plain"]


def test_wraps_that_alignment_has_seen_are_told_from_those_it_has_not(sealed):
    for seen in (["plain", "leave", "tale"], ["plain", "page"]):
        found = prompts(sealed, seen, config(n=12), PHRASES)
        asked = {group: {row["family"] for row in found if row["group"] == group}
                 for group in ("seen wraps", "unseen wraps")}
        assert asked["seen wraps"] == {*seen} - {"plain"}
        assert asked["unseen wraps"] == {*FAMILIES} - {*seen}


@pytest.mark.parametrize("seen", [["plain"], []])
def test_a_plain_request_is_no_wrap_whatever_alignment_has_seen(sealed, seen):
    plain = [row for row in sealed if row["family"] == "plain"]
    assert not {"seen wraps", "unseen wraps"} & {
        row["group"] for row in prompts(plain, seen, config(), PHRASES)}


def test_the_plain_requests_are_those_that_are_attacked(sealed):
    found = prompts(sealed, [], config(), PHRASES)
    plain = {row["id"] for row in found if row["group"] == "plain"}
    for group in ("start", "late", "PAD"):
        assert {row["id"] for row in found if row["group"] == group} == plain


def test_a_phrase_is_forced_where_its_cell_says(sealed):
    for row in prompts(sealed, [], config(), PHRASES):
        if row["group"] in ("start", "late"):
            kind, position = row["cell"].split("@")
            [(slot, phrase)] = row["prefill"].items()
            assert slot == position and phrase in PHRASES[kind] and row["access"] == "A2"
        elif row["group"] == "PAD":
            assert row["prefill"] == {"1": "first ,", "12": "next ,"} and row["access"] == "A2"
        else:
            assert "prefill" not in row and row["access"] == "A0"


def test_a_cell_is_called_by_its_group_if_it_is_of_one():
    assert marked([{"id": 1}], "benign") == [{"id": 1, "group": "benign", "cell": "benign"}]
    assert marked([{"id": 1}], "late", "x@3") == [{"id": 1, "group": "late", "cell": "x@3"}]


@pytest.mark.parametrize("changes", [
    {"forced": {"start": [("affirmative", 0)], "late": []}}, {"headings": ["first ,"]}, {"n": 0},
    {"form": [""]}, {"gap": 0}, {"anchored": 0}])
def test_what_cannot_be_meant_is_refused(changes):
    with pytest.raises(ValidationError):
        config(**changes)


def test_unequal_groups_in_params_yaml_are_one_line(monkeypatch):
    some = BATTERY | {"forced": {"start": [["affirmative", 0]], "late": []}}
    monkeypatch.setattr(params, "read", lambda: {"p": {"measure": some}})
    with pytest.raises(ParamsError, match=r"p\.measure: .*every group needs as many") as caught:
        params.section("p", "measure", Battery)
    assert "\n" not in str(caught.value)


# --- what is made of a model's own draft and prompt -----------------------------------------------


@pytest.fixture(scope="module")
def lm():
    return tiny()


@pytest.fixture
def asked(lm, sealed, tmp_path, monkeypatch):
    """asked(form=[]): rows of a random model with a changed battery, under a guard or none."""
    monkeypatch.setattr(params, "ROOT", tmp_path)
    monkeypatch.setattr(target, "loaded", lambda _: lm)

    def call(guard=None, sampler=SAMPLER, **changes):
        one = Target("tiny", Weights("w", "models/x", "float32"), guard=guard or Guard())
        cfg = config(**changes)
        found = prompts(sealed, ["leave"], cfg, PHRASES)
        return found, ask(one, found, cfg, sampler, WORLD)

    return call


def of(rows, group):
    return [row for row in rows if row["request"]["group"] == group]


def test_every_request_is_answered_and_the_plain_ones_are_anchored_and_given_a_form(asked):
    found, rows = asked()
    assert [row["request"] for row in rows[: len(found)]] == found
    plain = [row["id"] for row in found if row["group"] == "plain"]
    assert Counter(row["request"]["group"] for row in rows[len(found) :]) == {
        "anchoring": 4, "DIJA": 4}
    for group in ("anchoring", "DIJA"):
        assert sorted(row["request"]["id"] for row in of(rows, group)) == sorted(plain)
        assert {row["request"]["cell"] for row in of(rows, group)} == {group}


def test_without_a_form_there_is_no_dija(asked):
    _, rows = asked(form=[])
    assert not of(rows, "DIJA") and len(of(rows, "anchoring")) == 4


def test_anchoring_shows_forbidden_tokens_exactly_where_the_own_draft_had_filled(asked, lm):
    whole = SAMPLER.model_copy(update={"block_length": LENGTH, "stop_at_eos": False})
    found, rows = asked()
    plain = [row for row in found if row["group"] == "plain"]
    drafts = Target("tiny", Weights("w", "models/x", "float32")).generate(plain, whole, "again")
    for own, row in zip(drafts, of(rows, "anchoring"), strict=True):
        before = draft(own, BATTERY["anchored"], lm.mask_id)
        filled = [slot for slot, token in enumerate(before) if token != lm.mask_id]
        answer = sets.forbidden(own["request"], WORLD, lm, LENGTH)
        assert row["request"]["given"] == filled and len(filled) == 3 * LENGTH // 8
        shown = {int(start) + i: token for start, ids in row["request"]["prefill"].items()
                 for i, token in enumerate(ids)}
        assert shown == {slot: answer[slot] for slot in filled}
        assert all(row["response"]["ids"][slot] == answer[slot] for slot in filled)


def test_an_anchored_decoding_goes_on_with_the_steps_that_are_left(asked):
    for stop in (True, False):
        _, rows = asked(sampler=SAMPLER.model_copy(update={"stop_at_eos": stop}))
        for row in of(rows, "anchoring"):
            decoded = row["response"]["sampler"]
            assert decoded == SAMPLER.model_dump() | {
                "block_length": LENGTH, "steps": 5, "stop_at_eos": stop}


def test_what_was_anchored_is_not_the_models_own(asked, lm):
    _, rows = asked()
    for row in of(rows, "anchoring"):
        own = target.own(lm, row["response"]["ids"], row["request"]["given"])
        assert row["response"]["own"] == own


def test_a_form_is_filled_one_token_a_step(asked, lm):
    _, rows = asked()
    for row in of(rows, "DIJA"):
        request, decoded = row["request"], row["response"]["sampler"]
        length = request["length"]
        assert decoded["length"] == decoded["block_length"] == decoded["steps"] == length
        assert decoded["temperature"] == 0.2 and not decoded["stop_at_eos"]
        free = [step for step in row["response"]["reveal_step"] if step != -1]
        assert len(free) == 2 * BATTERY["gap"] == len({*free}) == row["response"]["forwards"]


def test_a_reminder_stands_once_in_every_prompt_whatever_is_made_of_it(asked, lm):
    _, rows = asked(guard=Guard(reminder=REMINDER))
    for row in rows:
        said = row["request"]["messages"]
        text = lm.tokenizer.decode(said) if isinstance(said[0], int) else said[-1]["content"]
        assert text.count("you keep to the rules .") == 1, row["request"]["group"]
        assert text.count("please keep to the rules .") == 1, row["request"]["group"]


def test_drafts_are_the_models_own_under_its_guard(asked):
    """Annealed remasking fills other slots, and so others are anchored."""
    (_, one), (_, other) = asked(), asked(guard=Guard(remasking="annealed"))
    assert [row["request"]["given"] for row in of(one, "anchoring")] != [
        row["request"]["given"] for row in of(other, "anchoring")]
    assert {row["response"]["sampler"]["remasking"] for row in other} == {"annealed"}
