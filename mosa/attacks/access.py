"""What an attacker may touch of a target, and what a query of theirs touches.

A0  what a user types: the prompt
A1  the chat's history, with turns of the assistant that it never wrote, and the system's
A2  the response canvas: slots, lengths, decoding
A3  likelihoods and gradients

What a user types is text. A tokenizer that reads the name of a special token as that token would
let a prompt make turns of the assistant, or masks: with_text() leaves such names out.
"""

from typing import Any, Literal, get_args

from mosa.lm.model import DiffusionLM

Access = Literal["A0", "A1", "A2", "A3"]
# messages; prefill, of an attacker who holds the canvas; decode, what differs from the sampler
# section; seed, of what is drawn; and whatever else the row shall hold
Query = dict[str, Any]


def level(value: str, where: str) -> Access:
    """`value`, an access level; ValueError, naming `where` it stands, for anything else. Levels are
    compared as text: "a0" would lie above all of them."""
    if value not in get_args(Access):
        raise ValueError(f"{where}: {value!r} is no access level; "
                         f"known: {', '.join(get_args(Access))}")
    return value


def is_query(value: Any) -> bool:
    """Whether it has messages: turns whose content is text, or token ids."""
    return isinstance(value, dict) and all(
        isinstance(turn.get("content"), str) if isinstance(turn, dict) else isinstance(turn, int)
        for turn in value.get("messages", [None]))


def touches(query: Query, said: set[str]) -> tuple[Access, str]:
    """The access level that a query needs, and for what: A2 for slots of the response, token ids in
    place of a chat, or a decoding of its own but for the temperature; A1 for a turn of the
    assistant that the target never wrote; A0 else."""
    if query.get("prefill"):
        return "A2", "a prefilled response"
    if own := sorted({*query.get("decode", {})} - {"temperature"}):
        return "A2", f"a decoding with its own {own[0]}"
    for message in query["messages"]:
        if not isinstance(message, dict):
            return "A2", "a prompt of token ids"
        if message["role"] == "system":
            return "A1", "a system turn"
        if message["role"] == "assistant" and message["content"] not in said:
            return "A1", f"the made-up turn {message['content'][:40]!r}"
    return "A0", "a prompt"


def specials(lm: DiffusionLM | None) -> dict[str, Access]:
    """The special tokens of a model's tokenizer by name, and the access level that each needs: the
    mask is a part of the canvas, the others make turns. None of a model without a tokenizer."""
    if lm is None or lm.tokenizer is None:
        return {}
    added = [str(token) for token in lm.tokenizer.added_tokens_decoder.values() if token.special]
    return {name: "A2" if name == lm.tokenizer.mask_token else "A1"
            for name in dict.fromkeys([*lm.tokenizer.all_special_tokens, *added])}


def with_text(query: Query, access: Access, special: dict[str, Access]) -> Query:
    """The query with nothing but text in its messages: names of special tokens beyond `access` are
    left out, as a careful server does."""
    names = [name for name, level in special.items() if level > access]
    found = []
    for message in query["messages"]:
        if isinstance(message, dict) and any(name in message["content"] for name in names):
            content = message["content"]
            while any(name in content for name in names):  # what is left may make one anew
                for name in names:
                    content = content.replace(name, "")
            message = message | {"content": content}
        found.append(message)
    return query | {"messages": found}
