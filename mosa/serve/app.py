"""The HTTP side: OpenAI's chat completions, errors in its form, drafts as server-sent events."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi import Request as Http
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import ValidationError
from starlette.requests import ClientDisconnect

from mosa.attacks.access import specials
from mosa.lm.model import DiffusionLM
from mosa.lm.sampler import steps_per_block
from mosa.serve.engine import Closed, Engine, Full, Job, Response, Settings
from mosa.serve.schema import Request, field

LARGEST = 1_000_000  # bytes of a body


@dataclass(frozen=True)
class Defaults:
    """What a request that does not say gets."""

    name: str  # of the model
    length: int = 128
    steps: int = 64
    canvas: bool = False  # whether clients may write on the canvas


class Refused(Exception):
    """A request that cannot be met, with OpenAI's words for why."""

    def __init__(self, message: str, param: str | None = None, status: int = 400) -> None:
        self.message, self.param, self.status = message, param, status

    @property
    def body(self) -> dict[str, Any]:
        """OpenAI's form of an error."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": None}}


def gone() -> Refused:
    """For a client that hung up: nobody reads it."""
    return Refused("the client has gone", status=499)


def ending() -> Refused:
    """For who is still served when the server ends."""
    return Refused("the server is shutting down", status=503)


def app(lm: DiffusionLM, defaults: Defaults, batch_size: int = 16) -> FastAPI:
    """The application; its engine lives as long as the server."""

    @asynccontextmanager
    async def lifespan(served: FastAPI) -> AsyncIterator[None]:
        served.state.engine = Engine(lm, batch_size)
        yield
        await asyncio.to_thread(served.state.engine.close)

    served = FastAPI(lifespan=lifespan, openapi_url=None)

    @served.exception_handler(Refused)
    async def refused(_: Http, error: Refused) -> JSONResponse:
        return JSONResponse(error.body, error.status,
                            {"Retry-After": "1"} if error.status == 429 else None)

    @served.get("/health")
    async def health() -> dict[str, Any]:
        engine = served.state.engine
        return {"responses": engine.responses, "forwards": engine.forwards}

    @served.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [
            {"id": defaults.name, "object": "model", "created": 0, "owned_by": "mosa"}]}

    @served.post("/v1/chat/completions")
    async def complete(http: Http) -> Any:
        asked = await parsed(http)
        jobs = prepared(lm, asked, defaults)
        reply = Reply(asked, defaults.name, jobs)
        try:
            served.state.engine.submit(jobs)
        except Full:
            raise Refused("too many requests wait: try again later", status=429) from None
        except Closed:
            raise ending() from None
        if asked.stream:
            return StreamingResponse(reply.events(lm), media_type="text/event-stream")
        return await reply.whole(http)

    return served


async def parsed(http: Http) -> Request:
    """The body as a Request; Refused, naming the field, for any other."""
    body = b""
    try:
        async for part in http.stream():
            body += part
            if len(body) > LARGEST:
                raise Refused(f"the body has more than {LARGEST:,} bytes", status=413)
    except ClientDisconnect:
        raise gone() from None
    try:
        return Request.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        name = field(first)
        raise Refused(f"{name or 'the body'}: {first['msg']}", name or None) from None


def prepared(lm: DiffusionLM, asked: Request, defaults: Defaults) -> list[Job]:
    """The jobs of a request, one for each of its `n`; Refused where it does not fit the model."""
    if asked.vllm_xargs and not defaults.canvas:
        raise Refused("this server takes no canvas: start it with --canvas", "vllm_xargs")
    if asked.model not in (None, defaults.name):
        raise Refused(f"the model is {defaults.name!r}", "model", 404)
    length = asked.max_tokens or asked.max_completion_tokens or defaults.length
    steps, block = asked.steps or min(defaults.steps, length), asked.block_length or length
    try:
        steps_per_block(length, block, steps)
    except ValueError as error:
        raise Refused(str(error), str(error).partition("=")[0]) from None  # begins with the name
    prefill = pinned(asked, length, lm)
    for i, message in enumerate(asked.messages):
        if made := [name for name in specials(lm) if name in message.plain()["content"]]:
            raise Refused(f"messages.{i}: {made[0]!r} is a special token, which text may not make",
                          "messages")
    try:
        canvas = lm.canvas([[message.plain() for message in asked.messages]], length, prefill)
    except ValueError as error:
        raise Refused(str(error).replace("prompts[0]", "the prompt"), "messages") from None
    # words of contents are known by now: what is left is the template's own, such as "<system>"
    if lm.unknown_word in canvas.ids[0, : canvas.prompt_length].tolist():
        roles = ", ".join(dict.fromkeys(message.role for message in asked.messages))
        raise Refused(f"messages: the model's chat template has no turn for one of: {roles}",
                      "messages")
    settings = Settings(canvas.prompt_length, length, steps, block, asked.temperature,
                        asked.remasking, asked.cfg_scale)
    return [Job(canvas.ids[0], settings, asked.seed + i) for i in range(asked.n)]


def pinned(asked: Request, length: int, lm: DiffusionLM) -> dict[int, list[int]]:
    """The pinned slots of the seed canvas, as lm.canvas takes them."""
    if not asked.vllm_xargs:
        return {}
    seed, slots = asked.vllm_xargs.diffusion_seed_canvas, asked.vllm_xargs.diffusion_pinned
    if lost := [slot for slot in slots if slot >= min(len(seed), length)]:
        raise Refused(f"diffusion_pinned: slot {lost[0]} is behind the {len(seed)} ids of "
                      f"diffusion_seed_canvas, or the {length} slots", "vllm_xargs")
    if masks := [slot for slot in slots if seed[slot] == lm.mask_id]:
        raise Refused(f"diffusion_pinned: slot {masks[0]} holds the mask, which is filled in",
                      "vllm_xargs")
    size = lm.model.config.vocab_size
    if strange := [slot for slot in slots if seed[slot] >= size]:
        raise Refused(f"diffusion_pinned: slot {strange[0]} holds an id outside the vocabulary, 0 "
                      f"to {size - 1}", "vllm_xargs")
    return {slot: [seed[slot]] for slot in sorted({*slots})}


class Reply:
    """What goes back to one client."""

    def __init__(self, asked: Request, model: str, jobs: list[Job]) -> None:
        self.asked, self.jobs = asked, jobs
        self.head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()),
                     "model": model}
        self.loop, self.changed = asyncio.get_running_loop(), asyncio.Event()
        self.drafts: dict[int, list[int]] = {}  # the newest alone: a slow client piles up nothing
        if asked.stream:
            for i, job in enumerate(jobs):
                job.draft = self._noted(i)
        for job in jobs:
            job.done.add_done_callback(lambda _: self._wake())

    async def whole(self, http: Http) -> dict[str, Any]:
        """The response when it is complete, unless the client has gone."""
        try:
            while not self._done():
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.changed.wait(), timeout=0.5)
                self.changed.clear()
                if await http.is_disconnected():
                    raise gone()
        finally:
            self._abandon()
        found = self._found()
        return self.head | {"object": "chat.completion", "usage": self._usage(found), "choices": [
            {"index": i, "message": {"role": "assistant", "content": self._cut(one.text)},
             "finish_reason": self._finish(one), "logprobs": None} for i, one in enumerate(found)]}

    async def events(self, lm: DiffusionLM) -> AsyncIterator[str]:
        """Server-sent events. `delta.content` grows from the left as slots there are final, so
        that what a client joins is the response; `draft` is the whole canvas, with masks."""
        sent = [""] * len(self.jobs)
        try:
            for i in range(len(self.jobs)):
                yield self._event(i, {"role": "assistant", "content": ""})
            while True:
                await self.changed.wait()
                self.changed.clear()
                drafts, self.drafts = self.drafts, {}
                done = self._done()
                for i, ids in sorted(drafts.items()):
                    final = ids[: [*ids, lm.mask_id].index(lm.mask_id)]
                    text = self._settled(lm.decode([final])[0])
                    yield self._event(i, {"content": text[len(sent[i]):]},
                                      draft=lm.tokenizer.decode(ids))
                    sent[i] = max(sent[i], text, key=len)
                if done:
                    break
            found = self._found()
            for i, one in enumerate(found):
                yield self._event(i, {"content": self._cut(one.text)[len(sent[i]):]},
                                  self._finish(one))
            if self.asked.stream_options and self.asked.stream_options.include_usage:
                yield self._line({"choices": [], "usage": self._usage(found)})
            yield "data: [DONE]\n\n"
        except Refused as error:
            yield f"data: {json.dumps(error.body)}\n\n"
        finally:  # also where the client hangs up
            self._abandon()

    def _noted(self, i):
        def note(ids):
            self.drafts[i] = ids
            self._wake()
        return note

    def _wake(self):
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.changed.set)

    def _done(self):
        return all(job.done.done() for job in self.jobs)

    def _found(self):
        try:
            return [job.done.result() for job in self.jobs]
        except Closed:
            raise ending() from None

    def _abandon(self):
        for job in self.jobs:
            job.abandoned = not job.done.done()

    def _cut(self, text):
        ends = [at for stop in self.asked.stops if (at := text.find(stop)) >= 0]
        return text[: min(ends)] if ends else text

    def _settled(self, text):
        """What of a text is final whatever follows: no half character, no half stop."""
        text = self._cut(text).removesuffix("\N{REPLACEMENT CHARACTER}")
        begun = [n for stop in self.asked.stops for n in range(1, len(stop))
                 if text.endswith(stop[:n])]
        return text[: len(text) - max(begun, default=0)]

    def _finish(self, one: Response):
        return "stop" if one.ended or self._cut(one.text) != one.text else "length"

    def _usage(self, found: list[Response]):
        prompt = self.jobs[0].settings.prompt_length
        made = sum(len(one.ids) for one in found)
        return {"prompt_tokens": prompt, "completion_tokens": made,
                "total_tokens": prompt + made, "forwards": sum(one.forwards for one in found)}

    def _event(self, i, delta, finish=None, **more):
        return self._line({"choices": [{"index": i, "delta": delta, "finish_reason": finish,
                                        "logprobs": None} | more]})

    def _line(self, body):
        whole = self.head | {"object": "chat.completion.chunk"} | body
        return f"data: {json.dumps(whole, ensure_ascii=False)}\n\n"
