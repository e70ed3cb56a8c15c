"""An OpenAI-compatible server that misbehaves as planned."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import tenacity

from mosa import endpoint
from mosa.pipeline import params

FAULTS = ("429", "500", "cut", "not json", "no choices", "late")


class Server(ThreadingHTTPServer):
    """Answers with `reply`, after the faults that are planned for the last message."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.plan, self.served, self.seen, self.lock = {}, Counter(), [], threading.Lock()
        self.error = {"message": "no", "code": "content_filter"}
        self.late = 1.5  # seconds until a late answer is cut off: more than the client's timeout

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"

    def key(self, request):
        """What faults are planned for and answers counted by."""
        return request["messages"][-1]["content"]

    def reply(self, request):
        return f"{request['messages'][-1]['content']}/{request['seed']}"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            key = self.server.key(request)
            self.server.seen.append(self.headers["Authorization"])
            faults = self.server.plan.get(key, [])
            fault = faults.pop(0) if faults else None
            self.server.served[key] += fault is None
        if fault == "cut":
            self.connection.close()
        elif fault == "late":
            time.sleep(self.server.late)
            self.connection.close()
        elif fault == "not json":
            self.say(200, "<html>")
        elif fault == "no choices":
            self.say(200, json.dumps({"id": "x", "object": "chat.completion", "choices": []}))
        elif fault:
            self.say(int(fault), json.dumps({"error": self.server.error}))
        else:
            message = {"role": "assistant", "content": self.server.reply(request)}
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


@contextmanager
def serving(monkeypatch: pytest.MonkeyPatch, root: Path) -> Iterator[Server]:
    """A server as the role `helper`, asked again without a wait; answers are kept below `root`."""
    monkeypatch.setattr(params, "ROOT", root)
    monkeypatch.setattr(endpoint, "wait_random_exponential", lambda **_: tenacity.wait_none())
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("MOSA_HELPER_URL", server.url)
        monkeypatch.setenv("MOSA_HELPER_MODEL", "tiny")
        monkeypatch.setenv("MOSA_HELPER_KEY", "sk-secret")
        yield server
        server.shutdown()
