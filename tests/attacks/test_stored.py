"""Attacks as a file: what goes in, and any model under it."""

import json
import sys

import pytest
from tiny_model import tiny

from mosa import target
from mosa.attacks import stored
from mosa.lm.loading import save
from mosa.pipeline import params
from mosa.pipeline.sections import Guard
from mosa.target import Target, Weights
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
    rows = [row(True, messages=[3, 4, 5], goal="DIJA"), row(True, prefill={"0": [7]}, goal="c")]
    lines = stored.collected(rows, lm, "world")
    assert {line["tokenizer"] for line in lines} == {stored.tokenizer(lm)}
    other = [lines[0] | {"tokenizer": "another"}, lines[1]]
    assert [r["request"]["goal"] for r in stored.asked(one, other, SAMPLER)] == ["c"]


def test_responses_have_the_slots_that_the_attack_was_found_with(lm, one):
    lines = stored.collected([row(True), row(True, "short", decode={
        "length": 8, "block_length": 8, "steps": 2})], lm, "world")
    rows = stored.asked(one, lines, SAMPLER.model_copy(update={"length": 24, "block_length": 24}))
    assert {r["response"]["seed"] for r in rows} == {7} and "seed" not in rows[0]["request"]
    assert {r["request"]["goal"]: len(r["response"]["ids"]) for r in rows} == {
        "prompt": 16, "short": 8}


@pytest.mark.parametrize("change, said", [
    ({"version": 2}, "line 1 is of version 2, not 1"), ({"goal": None}, "line 1 lacks 'goal'")])
def test_a_strange_line_is_told(lm, one, change, said):
    [line] = stored.collected([row(True)], lm, "world")
    strange = {key: value for key, value in (line | change).items() if value is not None}
    with pytest.raises(ValueError, match=said):
        stored.asked(one, [strange], SAMPLER)


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
