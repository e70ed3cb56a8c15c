"""Chat completions of any OpenAI-compatible server, each asked for once.

    judge = Endpoint("judge")                      # MOSA_JUDGE_URL, _MODEL and _KEY
    answers = judge.ask([messages, ...], max_tokens=300)
    answers[0].text                                # None: the server would not answer this one

An answer is kept in .scratch/endpoint/<role>/, named after all that was asked and of which model:
asked again, by a later run too, it is read from there, with no server at all. That a content policy
forbids the completion is an answer; any other error is none, and is not kept. The key stays in the
environment; no file, log or error holds it.
"""

import json
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import openai
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from mosa.pipeline import params
from mosa.pipeline.rows import fingerprint, write_json

Chat = Sequence[dict[str, str]]  # {"role", "content"}
TRIES = 6  # of one request; waits between them are drawn from a range that doubles up to 30 s


class NoCompletion(Exception):
    """A response with status 200 that holds no completion."""


# code of an error by which a server's content policy speaks -> what its message says then, where
# the code stands for other errors, too
REFUSALS = {"content_filter": "",  # Azure
            "content_policy_violation": "", "400": "ContentPolicyViolationError",  # LiteLLM
            "data_inspection_failed": "",  # Alibaba
            "invalid_prompt": "usage policy|for safety reasons",  # OpenAI
            "403": "input was flagged"}  # OpenRouter
WANTED = {"URL": "the base URL of an OpenAI-compatible server, such as http://localhost:8000/v1",
          "MODEL": "the name by which the server knows the model"}
# what another try may mend: none in time, none at all, too many, an error of the server's own
PASSING = (openai.APIConnectionError, openai.RateLimitError, openai.InternalServerError,
           openai.ConflictError, NoCompletion)


@dataclass(frozen=True)
class Answer:
    """What a server said to one chat."""

    text: str | None  # None: it refused to complete this chat, for the reason in `finish`
    finish: str  # "stop", "length", "content_filter", or another code of REFUSALS
    tokens: int | None  # of the completion, where the server says it


class Endpoint:
    """One role of the environment: MOSA_<ROLE>_URL, _MODEL and, where the server wants one, _KEY.

    workers: requests that are under way at once. timeout: seconds one may take.
    calls: requests that a server has answered through this object; those replayed are none.
    """

    def __init__(self, role: str, workers: int = 8, timeout: float = 120.0) -> None:
        """Raises ValueError for a variable that is not set."""
        self.role, self.workers, self.timeout, self.calls = role, workers, timeout, 0
        self.url, self.model = self._variable("URL"), self._variable("MODEL")

    def ask(self, chats: Sequence[Chat], seeds: Sequence[int] | None = None,
            temperature: float = 0.0, max_tokens: int = 512, **options: Any) -> list[Answer]:
        """An Answer to each chat, in order.

        seeds: one a chat, sent to the server; of the same chat and seed there is one answer, so
        that several draws of one chat need seeds of their own. options: further fields of the
        request, such as top_p or stop.

        Raises RuntimeError, in one line, where a request still fails after TRIES tries, and at once
        for any other error that is no refusal (a wrong request, model, key or URL), with what the
        server says; what was answered until then is kept.
        """
        shared = {"model": self.model, "temperature": temperature, "max_tokens": max_tokens,
                  **options}
        seeds = [0] * len(chats) if seeds is None else seeds
        asked = [shared | {"messages": list(chat), "seed": seed}
                 for chat, seed in zip(chats, seeds, strict=True)]
        # The URL is no part of it: a server moves to another port or host and answers as before,
        # and behind one URL another model may be loaded. A model is known by its name, here as in
        # mosa.attacks.sweep and in what judges say: two models need two names.
        prints = [fingerprint(request) for request in asked]
        missing = {key: request for key, request in zip(prints, asked)
                   if not self._file(key).exists()}
        with ThreadPoolExecutor(self.workers) as pool, self._named():
            futures = [pool.submit(self._answered, *one) for one in missing.items()]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return [Answer(**json.loads(self._file(key).read_text("utf-8"))["answer"])
                for key in prints]

    @cached_property
    def _client(self) -> openai.OpenAI:
        key = os.environ.get(self._name("KEY")) or "none"  # a local server asks for none
        return openai.OpenAI(base_url=self.url, api_key=key, timeout=self.timeout, max_retries=0)

    def _answered(self, key: str, request: dict) -> None:
        """Ask until there is an answer, and keep it."""
        tries = Retrying(stop=stop_after_attempt(TRIES), reraise=True,
                         wait=wait_random_exponential(multiplier=0.5, max=30),
                         retry=retry_if_exception_type(PASSING))
        answer = tries(self._once, request)
        self.calls += 1
        write_json(self._file(key), {"request": request, "answer": asdict(answer)})

    def _once(self, request: dict) -> Answer:
        try:
            said = self._client.chat.completions.create(**request)
        except openai.APIStatusError as error:
            if isinstance(error, PASSING) or error.code not in REFUSALS or not re.search(
                    REFUSALS[error.code], error.message):
                raise
            return Answer(None, error.code, None)
        except ValueError:  # no JSON
            raise NoCompletion from None
        if not getattr(said, "choices", None):  # JSON of another kind, or a page
            raise NoCompletion
        choice = said.choices[0]
        return Answer(choice.message.content or "", choice.finish_reason or "",
                      said.usage.completion_tokens if said.usage else None)

    @contextmanager
    def _named(self) -> Iterator[None]:
        """What the client raises, in one line with the cure."""
        try:
            yield
        except PASSING as error:
            raise RuntimeError(f"{self.url} gave no answer in {TRIES} tries "
                               f"({type(error).__name__}): see to it and run again, answers so far "
                               "are kept") from None
        except openai.APIStatusError as error:
            said = error.body.get("message") if isinstance(error.body, dict) else None
            said = " ".join(str(said or error.message).split())
            if key := os.environ.get(self._name("KEY")):
                said = said.replace(key, "<key>")  # some servers repeat it
            raise RuntimeError(f"{self.url} answers {error.status_code} to {self.model!r}: "
                               f"{said:.300}: see to {self._name('URL')}, _MODEL, _KEY and the "
                               "server, and run again, answers so far are kept") from None

    def _file(self, key: str) -> Path:
        return params.ROOT / ".scratch/endpoint" / self.role / f"{key}.json"

    def _name(self, what: str) -> str:
        return f"MOSA_{self.role.upper()}_{what}"

    def _variable(self, what: str) -> str:
        if not (value := os.environ.get(self._name(what))):
            raise ValueError(f"{self._name(what)} is not set: export {WANTED[what]} "
                             f"(and {self._name('KEY')}, if the server wants one)")
        return value
