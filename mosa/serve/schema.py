"""What a client may ask: the fields of OpenAI's chat completions that mean something here, those of
masked diffusion, and vLLM's two for the canvas.

A field that is not here is an error, and so is a value that would do nothing: nobody should believe
that a penalty was applied.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mosa.lm.sampler import REMASKING

Ids = Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=4096)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Part(_Strict):
    """A part of a message: text, for these models see nothing else."""

    type: Literal["text"]
    text: str


class Message(_Strict):
    """One turn. Turns of the assistant may be made up by the client: access A1."""

    role: Literal["system", "user", "assistant"]
    content: str | Annotated[list[Part], Field(min_length=1)]
    name: str | None = None

    def plain(self) -> dict[str, str]:
        """As a chat template takes it."""
        if isinstance(self.content, str):
            return {"role": self.role, "content": self.content}
        return {"role": self.role, "content": "".join(part.text for part in self.content)}


class Xargs(_Strict):
    """vLLM's fields for the canvas (its example structured_diffusion): access A2."""

    diffusion_seed_canvas: Ids  # token ids of the response's first slots
    diffusion_pinned: Ids  # slots that keep theirs; the others are masked


class StreamOptions(_Strict):
    """What a stream holds besides."""

    include_usage: bool = False


class Request(_Strict):
    """The body of POST /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=256)]
    model: str | None = None
    max_tokens: Annotated[int, Field(ge=1, le=4096)] | None = None  # response slots
    max_completion_tokens: Annotated[int, Field(ge=1, le=4096)] | None = None  # its newer name
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] = 0.0
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    n: Annotated[int, Field(ge=1, le=16)] = 1
    stop: str | Annotated[list[str], Field(max_length=8)] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: str | None = None
    # what clients send without meaning it: at these values they change nothing
    top_p: Literal[1] | Literal[1.0] | None = None
    frequency_penalty: Literal[0] | None = None
    presence_penalty: Literal[0] | None = None
    logprobs: Literal[False] | None = None
    # of masked diffusion
    steps: Annotated[int, Field(ge=1, le=4096)] | None = None
    block_length: Annotated[int, Field(ge=1, le=4096)] | None = None
    remasking: Literal[*REMASKING] = "low_confidence"
    cfg_scale: Annotated[float, Field(ge=0, le=16, allow_inf_nan=False)] = 0.0
    vllm_xargs: Xargs | None = None

    @model_validator(mode="before")
    @classmethod
    def _given(cls, body: Any) -> Any:
        """Without those fields that are null: clients send them for "not given"."""
        if not isinstance(body, dict):
            return body
        return {key: value for key, value in body.items()
                if value is not None or key not in cls.model_fields}

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if None not in (self.max_tokens, self.max_completion_tokens):
            raise ValueError("max_tokens and max_completion_tokens are one thing: give one")
        return self

    @property
    def stops(self) -> list[str]:
        """The texts at which a response is cut."""
        found = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return [text for text in found if text]


FIELDS = {name for schema in (Part, Message, Xargs, StreamOptions, Request)
          for name in schema.model_fields}


def field(error: Mapping[str, Any]) -> str:
    """Which field an error of pydantic is about, without the names that a union's members have in
    it ("stop.str"); "" for the body as a whole."""
    unknown = error["loc"][-1:] if error["type"] == "extra_forbidden" else ()
    return ".".join(str(part) for part in error["loc"]
                    if isinstance(part, int) or part in FIELDS or part in unknown)
