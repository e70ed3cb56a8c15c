"""An endpoint against a server that misbehaves: nothing is lost, nothing counted twice."""

import json
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import tenacity

from mosa import endpoint
from mosa.pipeline import params

FAULTS = ("429", "500", "cut", "not json", "no choices", "late")


class Server(ThreadingHTTPServer):
    """Echoes the last message, after the faults that are planned for it."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.plan, self.served, self.seen, self.lock = {}, Counter(), [], threading.Lock()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = request["messages"][-1]["content"]
        with self.server.lock:
            self.server.seen.append(self.headers["Authorization"])
            faults = self.server.plan.get(text, [])
            fault = faults.pop(0) if faults else None
            self.server.served[text] += fault is None
        if fault == "cut":
            self.connection.close()
        elif fault == "late":
            time.sleep(1.5)
            self.connection.close()
        elif fault == "not json":
            self.say(200, "<html>")
        elif fault == "no choices":
            self.say(200, json.dumps({"id": "x", "object": "chat.completion", "choices": []}))
        elif fault:
            self.say(int(fault), json.dumps({"error": {"message": "no", "code": "policy"}}))
        else:
            message = {"role": "assistant", "content": f"{text}/{request['seed']}"}
            self.say(200, json.dumps({
                "id": "x", "object": "chat.completion", "created": 0, "model": request["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}}))

    def say(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setattr(params, "ROOT", tmp_path)
    monkeypatch.setattr(endpoint, "wait_random_exponential", lambda **_: tenacity.wait_none())
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("MOSA_HELPER_URL", server.url)
        monkeypatch.setenv("MOSA_HELPER_MODEL", "tiny")
        monkeypatch.setenv("MOSA_HELPER_KEY", "sk-secret")
        yield server
        server.shutdown()


def chat(text):
    return [{"role": "user", "content": text}]


def test_every_fault_is_outlived_and_counted_once(server):
    texts = [*FAULTS, "fine"]
    server.plan = {fault: [fault, fault] for fault in FAULTS}
    helper = endpoint.Endpoint("helper", timeout=1.0)
    answers = helper.ask([chat(text) for text in texts])
    assert [answer.text for answer in answers] == [f"{text}/0" for text in texts]
    assert set(server.served.values()) == {1} and helper.calls == len(texts)
    assert answers[0].tokens == 2 and answers[0].finish == "stop"


def test_answers_replay_without_a_server(server):
    before = endpoint.Endpoint("helper").ask([chat("a"), chat("a"), chat("b")], seeds=[1, 2, 1])
    assert [answer.text for answer in before] == ["a/1", "a/2", "b/1"]
    server.shutdown()
    server.server_close()
    again = endpoint.Endpoint("helper")
    assert again.ask([chat("b"), chat("a"), chat("a")], seeds=[1, 2, 1]) == before[::-1]
    assert again.calls == 0


def test_what_was_answered_before_a_failure_is_kept(server):
    server.plan = {"bad": ["500"] * 100}
    helper = endpoint.Endpoint("helper", workers=1)
    with pytest.raises(RuntimeError, match="gave no answer in 6 tries") as error:
        helper.ask([chat("good"), chat("bad"), chat("later")])
    assert "\n" not in str(error.value) and "sk-secret" not in str(error.value)
    server.plan = {}
    answers = endpoint.Endpoint("helper").ask([chat("good"), chat("bad"), chat("later")])
    assert [answer.text for answer in answers] == ["good/0", "bad/0", "later/0"]
    assert server.served["good"] == 1


def test_a_refusal_to_complete_is_an_answer_of_its_own(server):
    server.plan = {"worse": ["400"]}
    helper = endpoint.Endpoint("helper")
    worse, fine = helper.ask([chat("worse"), chat("fine")])
    assert (worse.text, worse.finish, fine.text) == (None, "policy", "fine/0")
    assert helper.ask([chat("worse")]) == [worse] and server.served["worse"] == 0


@pytest.mark.parametrize("status", ["401", "403", "404"])
def test_a_wrong_key_model_or_url_ends_at_once(server, status):
    server.plan = {"a": [status] * 9}
    with pytest.raises(RuntimeError, match=f"answers {status}.*MOSA_HELPER_URL"):
        endpoint.Endpoint("helper").ask([chat("a")])
    assert len(server.seen) == 1


def test_the_key_is_sent_and_kept_nowhere(server, tmp_path):
    endpoint.Endpoint("helper").ask([chat("a")])
    assert server.seen == ["Bearer sk-secret"]
    stored = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert stored and all("sk-secret" not in path.read_text("utf-8") for path in stored)


def test_a_missing_variable_is_named(monkeypatch):
    monkeypatch.delenv("MOSA_JUDGE_URL", raising=False)
    with pytest.raises(ValueError, match="MOSA_JUDGE_URL is not set"):
        endpoint.Endpoint("judge")


def test_no_more_than_workers_are_under_way(server):
    under, most, lock = 0, 0, threading.Lock()
    true = Handler.say

    def slow(self, *args):
        nonlocal under, most
        with lock:
            under += 1
            most = max(most, under)
        time.sleep(0.02)
        with lock:
            under -= 1
        true(self, *args)

    Handler.say = slow
    try:
        endpoint.Endpoint("helper", workers=3).ask([chat(str(i)) for i in range(20)])
    finally:
        Handler.say = true
    assert most <= 3
