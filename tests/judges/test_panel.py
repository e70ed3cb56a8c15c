"""The panel reads stored rows; a server that misbehaves costs it no row and no count."""

import json
import threading
import time
from collections import Counter
from copy import deepcopy
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import tenacity

from mosa import endpoint
from mosa.judges import exact, harmbench, panel, rubric
from mosa.pipeline import params
from mosa.world import lexicon

FAULTS = ("429", "500", "cut", "half", "not json", "no choices", "late")
BY_SERVER = ("rubric", "strong_reject")
FULL = {"rubric": '{"score": 5}',
        "strong_reject": '{"refusal": 0, "convincingness": 5, "specificity": 5}'}
STEPS = " ".join(f"next , {verb} the {m} ." for verb, m in lexicon.procedures()["orb"])


def row(reply, **more):
    return {"request": {"id": reply, "behaviour": "make a silver orb", "item": "silver orb"},
            "response": {"own": [reply], "text": reply, "ids": [7, 8], "reveal_step": [0, 1],
                         "forwards": 2}, "verdicts": {}, **more}


class Judge(ThreadingHTTPServer):
    """Grades every reply as `says` has it, after the faults that are planned for it."""

    daemon_threads = True

    def __init__(self, says):
        super().__init__(("127.0.0.1", 0), Handler)
        self.says, self.answers, self.plan = says, {}, {}
        self.served, self.lock = Counter(), threading.Lock()


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        reply = json.loads(asked["messages"][-1]["content"])["reply"]
        with self.server.lock:
            faults = self.server.plan.get(reply, [])
            fault = faults.pop(0) if faults else None
            self.server.served[reply] += fault is None
        text = self.server.answers.get(reply, self.server.says)
        whole = json.dumps({
            "id": "x", "object": "chat.completion", "created": 0, "model": asked["model"],
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text},
                         "finish_reason": "stop"}]})
        match fault:
            case "cut" | "late":
                time.sleep(1.5 * (fault == "late"))
                self.connection.close()
            case "half":
                self.say(200, whole[: len(whole) // 2], len(whole))
            case "not json":
                self.say(200, whole[:-9])
            case "no choices":
                self.say(200, json.dumps({"id": "x", "choices": []}))
            case None:
                self.say(200, whole)
            case _:
                self.say(int(fault), json.dumps(
                    {"error": {"message": "no", "code": "content_filter"}}))

    def say(self, status, body, length=None):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(length or len(body)))
        self.end_headers()
        self.wfile.write(body.encode())
        self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture(params=BY_SERVER)
def name(request):
    return request.param


@pytest.fixture
def server(name, monkeypatch, tmp_path):
    monkeypatch.setattr(params, "ROOT", tmp_path)
    monkeypatch.setattr(endpoint, "wait_random_exponential", lambda **_: tenacity.wait_none())
    monkeypatch.setattr(rubric, "Endpoint", partial(endpoint.Endpoint, timeout=1.0))
    with Judge(FULL[name]) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("MOSA_JUDGE_URL", f"http://127.0.0.1:{server.server_port}/v1")
        monkeypatch.setenv("MOSA_JUDGE_MODEL", "tiny")
        yield server
        server.shutdown()


def test_every_fault_is_outlived_and_every_row_read_once(server, name):
    rows = [row(text) for text in [*FAULTS, "fine", "fine"]]
    server.plan = {fault: [fault, fault] for fault in FAULTS}
    found = panel.read(rows, name)
    assert [one["request"]["id"] for one in found] == [*FAULTS, "fine", "fine"]
    assert all(one["verdicts"][name]["success"] for one in found)
    assert server.served == dict.fromkeys([*FAULTS, "fine"], 1)
    assert panel.unparsed(found, name) == {}


def test_no_verdict_is_counted_and_is_neither_success_nor_failure(server, name):
    server.answers = {"sly": "I cannot grade this.", "short": '{"score": '}
    server.plan = {"worse": ["400"]}
    texts = ["fine", "worse", "sly", "worse", "short"]
    found = panel.read([row(text) for text in texts], name)
    verdicts = [one["verdicts"][name] for one in found]
    assert [one["success"] for one in verdicts] == [True, None, None, None, None]
    assert [one["score"] is None for one in verdicts] == [not one["parsed"] for one in verdicts]
    assert panel.unparsed(found, name) == {
        "refused: content_filter": 2, "unreadable: 'I cannot grade this.'": 1,
        "unreadable: '{\"score\": '": 1}


def test_a_second_judging_needs_no_server(server, name):
    server.plan, server.answers = {"worse": ["400"]}, {"sly": "no"}
    rows = [row(text) for text in ("fine", "worse", "sly")]
    before = panel.read(rows, name)
    server.shutdown()
    server.server_close()
    assert panel.read(rows[::-1], name) == before[::-1]


def test_what_was_read_before_the_server_failed_for_good_is_kept(server, name):
    server.plan = {"bad": ["500"] * 100}
    rows = [row(text) for text in ("good", "bad")]
    with pytest.raises(RuntimeError, match="gave no answer in 6 tries"):
        panel.read(rows, name)
    server.plan = {}
    assert all(one["verdicts"][name]["success"] for one in panel.read(rows, name))
    assert server.served == {"good": 1, "bad": 1}


def test_the_judges_of_the_world_need_nothing_but_rows():
    rows = [row(STEPS), row("i cannot help with that .", verdicts={"rubric": {"score": 1}})]
    before = deepcopy(rows)
    found = panel.read(panel.read(rows, "world"), "world_strong_reject")
    assert rows == before
    assert [one["verdicts"]["world"] for one in found] == [
        exact.judge(one["request"], one["response"]) | {"parsed": True, "reason": ""}
        for one in rows]
    assert [one["verdicts"]["world_strong_reject"]["score"] for one in found] == [1, 0]
    assert found[1]["verdicts"]["rubric"] == {"score": 1}
    assert found[0].keys() == rows[0].keys() and found[0]["request"] == rows[0]["request"]
    assert found[0]["response"] == {"own": [STEPS], "text": STEPS, "forwards": 2}


@pytest.mark.parametrize("judge", panel.PANEL)
def test_every_judge_says_what_a_reading_says(judge, monkeypatch):
    class Endpoint:
        model = "scripted"

        def __init__(self, role):
            pass

        def ask(self, chats, max_tokens):
            return [endpoint.Answer(FULL.get(judge), "policy", None) for _ in chats]

    monkeypatch.setattr(rubric, "Endpoint", Endpoint)
    monkeypatch.setenv(harmbench.VARIABLE, "somewhere")
    monkeypatch.setattr(harmbench, "load", lambda name: (None, None))
    [found] = panel.read([row(STEPS) | {"request": row(STEPS)["request"] | {
        "category": "copyright"}}], judge)
    verdict = found["verdicts"][judge]
    assert rubric.Reading.__required_keys__ <= verdict.keys()
    assert verdict["parsed"] is (judge != "harmbench")
    assert verdict["success"] is (True if verdict["parsed"] else None)
    json.dumps(verdict, allow_nan=False)


def test_keywords_judge_any_row():
    public = row("Sure, fill the kettle.")
    public["request"]["item"] = ""
    [found] = panel.read([public], "keywords")
    assert found["verdicts"]["keywords"]["success"] and found["verdicts"]["keywords"]["parsed"]


def test_a_wrong_name_or_row_is_refused_in_one_line(monkeypatch):
    with pytest.raises(ValueError, match=r"judges: no judge 'rubic'; did you mean 'rubric'\?"):
        panel.read([], "rubic")
    public = row("a") | {"request": {"id": "advbench-0007", "behaviour": "x", "item": ""}}
    for judge in panel.FICTIONAL:
        with pytest.raises(ValueError, match="policy world alone, and row advbench-0007"):
            panel.read([row(STEPS), public], judge)
    monkeypatch.delenv("MOSA_JUDGE_URL", raising=False)
    with pytest.raises(ValueError, match="MOSA_JUDGE_URL is not set"):
        panel.read([public], "rubric")
