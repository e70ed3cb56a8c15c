"""An endpoint against a server that misbehaves: nothing is lost, nothing counted twice."""

import json
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
    assert (worse.text, worse.finish, fine.text) == (None, "content_filter", "fine/0")
    assert helper.ask([chat("worse")]) == [worse] and server.served["worse"] == 0


@pytest.mark.parametrize("status, code, message", [
    (400, "content_filter", "The response was filtered"), (400, "data_inspection_failed", "no"),
    (403, "content_policy_violation", "no"),
    (400, "400", "litellm.ContentPolicyViolationError: no"),
    (400, "invalid_prompt", "Invalid prompt: flagged as potentially violating our usage policy."),
    (400, "invalid_prompt", "Invalid prompt: we've limited access for safety reasons."),
    (403, 403, "Your chosen model requires moderation and your input was flagged")])
def test_a_content_policy_is_known_by_the_errors_of_known_servers(server, status, code, message):
    server.plan, server.error = {"a": [str(status)]}, {"code": code, "message": message}
    [answer] = endpoint.Endpoint("helper").ask([chat("a")])
    assert (answer.text, answer.finish) == (None, str(code))


@pytest.mark.parametrize("status, error", [
    (400, {"message": "max_tokens is too large", "code": "invalid_value"}),
    (400, {"message": "unknown field seed", "code": 400}),
    (400, {"message": "Invalid prompt: messages is no list", "code": "invalid_prompt"}),
    (400, {"message": "our usage policy", "code": None}), (400, "out of order"), (400, None),
    (401, {"message": "wrong\nkey sk-secret", "code": "invalid_api_key"}),
    (403, {"message": "no access to the model", "code": 403}),
    (404, {"message": "no such model", "code": "model_not_found"}),
    (413, {"message": "too large"}), (422, {"message": "temperature: no number"})])
def test_any_other_error_ends_the_run_in_a_line_and_is_not_kept(server, tmp_path, status, error):
    server.plan, server.error = {"bad": [str(status)] * 9}, error
    helper = endpoint.Endpoint("helper", workers=1)
    with pytest.raises(RuntimeError, match=f"{server.url} answers {status} to 'tiny'") as raised:
        helper.ask([chat("good"), chat("bad"), chat("later")])
    said = str(raised.value)
    assert "\n" not in said and "sk-secret" not in said and "MOSA_HELPER_URL, _MODEL" in said
    assert not isinstance(error, dict) or error["message"].split()[0] in said
    kept = [json.loads(path.read_text("utf-8"))["answer"] for path in tmp_path.rglob("*.json")]
    assert "good/0" in [answer["text"] for answer in kept] and helper.calls == len(kept)
    assert all(answer["text"] for answer in kept)
    server.plan = {}  # mended, under the same name
    answers = endpoint.Endpoint("helper").ask([chat("good"), chat("bad"), chat("later")])
    assert [answer.text for answer in answers] == ["good/0", "bad/0", "later/0"]
    assert server.served["good"] == 1


@pytest.mark.parametrize("status", ["401", "403", "404"])
def test_a_wrong_key_model_or_url_is_not_tried_again(server, status):
    server.plan, server.error = {"a": [status] * 9}, {"message": "no"}
    with pytest.raises(RuntimeError, match=f"answers {status}.*: no: see to MOSA_HELPER_URL"):
        endpoint.Endpoint("helper").ask([chat("a")])
    assert len(server.seen) == 1


def test_a_model_that_moves_to_another_server_is_not_asked_again(server, monkeypatch):
    before = endpoint.Endpoint("helper").ask([chat("a")])
    monkeypatch.setenv("MOSA_HELPER_URL", "http://127.0.0.1:1/v1")
    assert endpoint.Endpoint("helper").ask([chat("a")]) == before
    monkeypatch.setenv("MOSA_HELPER_URL", server.url)
    monkeypatch.setenv("MOSA_HELPER_MODEL", "another")
    endpoint.Endpoint("helper").ask([chat("a")])
    assert server.served["a"] == 2


def test_the_key_is_sent_and_kept_nowhere(server, tmp_path):
    endpoint.Endpoint("helper").ask([chat("a")])
    assert server.seen == ["Bearer sk-secret"]
    stored = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert stored and all("sk-secret" not in path.read_text("utf-8") for path in stored)


def test_a_missing_variable_is_named_with_what_belongs_there(monkeypatch):
    for name in ("URL", "MODEL"):
        monkeypatch.delenv(f"MOSA_JUDGE_{name}", raising=False)
    with pytest.raises(ValueError, match="MOSA_JUDGE_URL is not set: export the base URL of"):
        endpoint.Endpoint("judge")
    monkeypatch.setenv("MOSA_JUDGE_URL", "http://127.0.0.1:1/v1")
    with pytest.raises(ValueError, match="MOSA_JUDGE_MODEL is not set: export the name by which"):
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
