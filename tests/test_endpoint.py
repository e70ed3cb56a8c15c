"""An endpoint against a server that misbehaves: nothing is lost, nothing counted twice."""

import threading
import time

import pytest
from endpoints import FAULTS, Handler, serving

from mosa import endpoint


@pytest.fixture
def server(monkeypatch, tmp_path):
    with serving(monkeypatch, tmp_path) as server:
        yield server


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
