"""A server whose chat completions are kept: what every client asked, and what it was told."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn


class Recorded:
    """An ASGI application around another; `rows` holds (body, status, answer) of every chat."""

    def __init__(self, app: Any) -> None:
        self.app, self.rows = app, []

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] != "/v1/chat/completions":
            return await self.app(scope, receive, send)
        asked, said, status = bytearray(), bytearray(), []

        async def listen() -> dict:
            message = await receive()
            asked.extend(message.get("body", b""))
            return message

        async def tell(message: dict) -> None:
            if message["type"] == "http.response.start":
                status.append(message["status"])
            else:
                said.extend(message["body"])
                if not message.get("more_body"):  # before the client has it, and may look
                    self.rows.append((json.loads(asked), *status, json.loads(said)))
            await send(message)

        await self.app(scope, listen, tell)


@contextmanager
def served(app: Any) -> Iterator[str]:
    """An application on a free port of this machine, in a thread; its URL."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning",
                                           timeout_graceful_shutdown=5))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise RuntimeError("the server did not start")
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
