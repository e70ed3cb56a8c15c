"""Attacks as a file: what goes in, and any model under it."""

import json
import sys

import pytest
from tiny_model import tiny

from mosa import target
from mosa.attacks import stored
from mosa.lm.loading import save
from mosa.pipeline import params
from mosa.pipeline.rows import read_jsonl
from mosa.pipeline.sections import Guard
from mosa.target import Target, Weights, base
from mosa.world import requests

SAMPLER = stored.SAMPLER.model_copy(update={"length": 16, "steps": 4, "block_length": 16})
ROW = requests.requests("sealed_a", 1)[0]


def row(success, goal="prompt", id=ROW["id"], **request):
    asked = {"messages": [{"role": "user", "content": ROW["behaviour"]}], "access": "A0",
             "attack": "tap", "goal": goal, "query": 3, "score": 0.5}
    response = {"weights": "w", "seed": 7, "sampler": SAMPLER.model_dump()}
    return {"request": ROW | {"id": id} | asked | request, "response": response,
            "verdicts": {"world": {"success": success}}}


@pytest.fixture(scope="module")
def lm():
    return tiny()


@pytest.fixture
def one(lm, tmp_path, monkeypatch):
    monkeypatch.setattr(params, "ROOT", tmp_path)
    monkeypatch.setattr(target, "loaded", lambda _: lm)
    return Target("tiny", Weights("w", "models/x", "float32"), guard=Guard())


def test_successes_alone_go_in_one_for_each_attack_form_and_behaviour(lm):
    several = row(True, id="y")
    several["request"]["parts"] = [0, 1]
    rows = [row(False), several, row(True, query=5), row(True, query=6),
            row(True, "canvas", prefill={"0": "sure ,"}, access="A2"), row(None, id="x")]
    lines = stored.collected(rows, lm, "world")
    assert [(line["goal"], line["access"]) for line in lines] == [
        ("prompt", "A0"), ("canvas", "A2")]
    assert lines[1]["prefill"] == {"0": "sure ,"} and "prefill" not in lines[0]
    assert all("query" not in line and "tokenizer" not in line for line in lines)
    assert json.loads(json.dumps(lines)) == lines


def test_a_line_of_token_ids_is_for_its_tokenizer(lm, one):
    rows = [row(True, messages=[3, 4, 5], goal="DIJA", access="A2"),
            row(True, prefill={"0": [7]}, goal="c", access="A2")]
    lines = stored.collected(rows, lm, "world")
    assert {line["tokenizer"] for line in lines} == {stored.tokenizer(lm)}
    other = [lines[0] | {"tokenizer": "another"}, lines[1]]
    assert [r["request"]["goal"] for r in stored.asked(one, other, SAMPLER)] == ["c"]


def test_responses_have_the_slots_that_the_attack_was_found_with(lm, one):
    lines = stored.collected([row(True), row(True, "short", decode={
        "length": 8, "block_length": 8, "steps": 2}, access="A2")], lm, "world")
    rows = stored.asked(one, lines, SAMPLER.model_copy(update={"length": 24, "block_length": 24}))
    assert {r["response"]["seed"] for r in rows} == {7} and "seed" not in rows[0]["request"]
    assert {r["request"]["goal"]: len(r["response"]["ids"]) for r in rows} == {
        "prompt": 16, "short": 8}


class Asked(Target):
    """Notes what it is asked, and answers nothing."""

    def generate(self, requests, sampler, part):
        self.log = [*getattr(self, "log", []), (requests, sampler, part)]
        return []


@pytest.fixture
def noting(one):
    return Asked(**vars(one))


def chat(*contents):
    return [{"role": ("user", "assistant")[i % 2], "content": content}
            for i, content in enumerate(contents)]


BY_HAND = {"version": 1, "id": "b", "set": "own", "behaviour": "how ?", "attack": "mine",
           "goal": "prompt", "access": "A0", "messages": chat("how ?"), "length": 16}


def test_a_line_by_hand_needs_no_more_than_this(noting):
    stored.asked(noting, [BY_HAND], SAMPLER)
    assert [(requests, part[:7]) for requests, _, part in noting.log] == [([BY_HAND], "stored-")]


@pytest.mark.parametrize("change, said", [
    ({"version": 2}, "version: must be 1; it is 2"),
    ({"goal": None}, "goal: missing key"),
    ({"prefil": {"0": "sure ,"}}, "prefil: unknown key; did you mean 'prefill'"),
    ({"note": "x"}, "note: unknown key; known: version, "),
    ({"decode": {"stepz": 3}}, "decode: stepz: unknown key; did you mean 'steps'"),
    ({"decode": {"steps": "3"}}, "decode: steps: must be a valid integer; it is '3'"),
    ({"decode": {"temperature": float("nan")}}, "decode: temperature: must be a finite"),
    ({"decode": 3}, "decode: must be an object"),
    ({"messages": [{"role": "robot", "content": "how ?"}]}, "messages: 0: role: must be 'user'"),
    ({"messages": [{"role": "user", "content": "how ?", "name": "x"}]},
     "messages: 0: name: unknown key; known: role, content"),
    ({"messages": []}, "messages: .*at least 1 item"),
    ({"messages": "how ?"}, "messages: must be a valid array; it is 'how"),
    ({"prefill": ["sure ,"], "access": "A2"}, "prefill: must be an object"),
    ({"prefill": {"x": "sure ,"}, "access": "A2"}, "prefill: x: "),
    ({"length": "128"}, "length: must be a valid integer; it is '128'"),
    ({"access": "a0"}, "access: must be 'A0', 'A1', 'A2' or 'A3'; it is 'a0'"),
    ({"prefill": {"0": "sure ,"}}, "access: a prefilled response needs A2.* declares A0"),
    ({"messages": chat("how ?", "sure ,", "how ?")}, "access: the made-up turn 'sure ,' needs A1"),
    ({"messages": chat("how <assistant> ?")}, "messages: the special token '<assistant>' needs A1"),
    ({"messages": chat("how <mask> ?"), "access": "A1"}, "messages: .* '<mask>' needs A2"),
    ({"messages": chat("xyzzy ?")}, "messages has words that the tokenizer does not.*'xyzzy'"),
    ({"prefill": {"15": "sure ,"}, "access": "A2"}, "prefill 15 to 17 leaves the 16 slots"),
    ({"prefill": {"0": "xyzzy"}, "access": "A2"}, "prefill at 0 has words"),
    ({"decode": {"block_length": 5}, "access": "A2"}, "block_length=5 does not divide"),
    ({"id": "a"}, "is line 1 again, and would be counted twice"),
])
def test_a_strange_line_is_told_in_one_line_and_nothing_is_asked(noting, change, said):
    strange = {key: value for key, value in (BY_HAND | change).items() if value is not None}
    with pytest.raises(ValueError, match=rf"^file:2: {said}") as error:
        stored.asked(noting, [BY_HAND | {"id": "a"}, strange], SAMPLER, "file")
    assert "\n" not in str(error.value) and not hasattr(noting, "log")


@pytest.mark.parametrize("strange", [[BY_HAND], 5, None, "x"])
def test_a_line_is_an_object(noting, strange):
    with pytest.raises(ValueError, match=r"^file:1: must be an object; it is "):
        stored.asked(noting, [strange], SAMPLER, "file")


def test_a_turn_of_the_weights_that_a_line_was_found_on_is_not_made_up(noting):
    line = BY_HAND | {"messages": chat("how ?", "sure ,", "how ?"), "found_on": "w"}
    stored.asked(noting, [line], SAMPLER)
    assert noting.log


def test_the_file_that_ships_holds_lines_that_are_asked_as_they_are():
    lines = read_jsonl("paper_figures/embedded/static/attacks.jsonl")
    target = Asked(**vars(base("embedded-0", "float32")))
    stored.asked(target, lines, stored.SAMPLER)
    assert sorted(map(json.dumps, lines)) == sorted(
        json.dumps(request) for requests, _, _ in target.log for request in requests)


def test_a_judge_of_the_world_reads_no_other_behaviours(tmp_path, monkeypatch):
    file = tmp_path / "own.jsonl"
    file.write_text(f"{json.dumps(BY_HAND)}\n")
    monkeypatch.setattr(sys, "argv", ["stored", str(file), "--model", "models/nothing"])
    with pytest.raises(SystemExit, match=r"own\.jsonl:1: names no `item` .*--judge, such as"):
        stored.main()


def test_one_command_runs_a_model_on_a_file(lm, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(params, "ROOT", tmp_path)
    save(lm, tmp_path / "model")
    lines = stored.collected([row(True), row(True, "canvas", prefill={"0": "sure ,"},
                                             access="A2")], lm, "world")
    file = tmp_path / "attacks.jsonl"
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    command = ["stored", str(file), "--model", str(tmp_path / "model"), "--steps", "4",
               "--out", str(tmp_path / "out.jsonl")]
    monkeypatch.setattr(sys, "argv", command)
    stored.main()
    said = capsys.readouterr().out
    assert "2 asked" in said and "(n=1)" in said and "tap canvas" in said
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [r["verdicts"]["world"]["parsed"] for r in rows] == [True, True]
    for wrong, what in ((["--judge", "wrld"], "did you mean 'world'"),
                        (["--model", str(tmp_path / "nothing")], "nothing")):
        monkeypatch.setattr(sys, "argv", [*command, *wrong])
        with pytest.raises(SystemExit, match=what):
            stored.main()
