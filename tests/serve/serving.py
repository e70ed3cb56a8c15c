"""Servers for the tests: one in a thread, and the real command in a process of its own."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import httpx
import uvicorn

from mosa.serve.app import Defaults, app

PATIENCE = 120  # seconds that a test waits for what must come; no speed is asserted


def until(true, what):
    """Wait until true() is; what: that which never came."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, f"{what} in {PATIENCE} s"
        time.sleep(0.01)


@contextmanager
def running(lm, grace=5, **defaults):
    """The application in a thread; its URL."""
    config = uvicorn.Config(app(lm, Defaults("embedded-0", **defaults), 8), port=0,
                            log_level="error", timeout_graceful_shutdown=grace)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    until(lambda: server.started, "no server")
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        assert not thread.is_alive()


@contextmanager
def process(folder, *flags):
    """`python -m mosa.serve` over a folder: (process, URL). Killed at the end, if it still runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mosa.serve", "--model", str(folder), "--name", "tiny",
               "--port", str(port), *flags]
    with subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"},
                          stderr=subprocess.PIPE, text=True) as served:
        try:
            url = f"http://127.0.0.1:{port}"
            until(lambda: served.poll() is not None or answers(url), "no server")
            assert served.poll() is None, served.stderr.read()
            yield served, url
        finally:
            served.kill()


def answers(url):
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.ConnectError:
        return False


def joined(lines):
    """What a client makes of the lines of a stream: the text of every choice, by its index."""
    texts = {}
    for line in lines:
        if line and line != "data: [DONE]":
            for choice in json.loads(line.removeprefix("data: "))["choices"]:
                texts.setdefault(choice["index"], []).append(choice["delta"].get("content", ""))
    return ["".join(texts[i]) for i in sorted(texts)]
