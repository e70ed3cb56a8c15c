"""The world's helper as a chat model: the attacker and the evaluator of garak and of PyRIT.

Both let any OpenAI-compatible server play these parts and tell it in a system prompt what to do.
This one does not read instructions: it knows the five forms of chat that their TAP and PAIR send,
and answers each in the form that is asked for. (garak 0.17.1, garak/resources/tap and red_team;
PyRIT 1.1.0, pyrit/executor/attack/multi_turn, pyrit/score.)
"""

import ast
import json
import re
import time
from collections import Counter
from typing import Any

from fastapi import FastAPI, HTTPException

from mosa.attacks.drive import answered
from mosa.attacks.helpers import Helper, Try
from mosa.pipeline.rows import fingerprint

RATED = re.compile(r"(?:\[PROMPT\]:.*\n\[ASSISTANT'S RESPONSE\]: |objective: .*?\nresponse: )(.*)",
                   re.DOTALL)
TOPIC = re.compile(r"\[PROMPT\]:(.*)", re.DOTALL)
TOLD = re.compile(r"LANGUAGE MODEL OUTPUT: (.*?)\s*OBJECTIVE: .*SCORE: ([\d.]+)", re.DOTALL)
SCALE = re.compile(r"scale from (\d+) to (\d+)")
MESSAGE = re.compile(r"""Message\(text=('.*'|".*"), lang=""", re.DOTALL)  # garak sends its repr


class Guild:
    """What the helper says to a chat; `calls` counts attackers' and evaluators' chats."""

    def __init__(self, helper: Helper, behaviours: list[dict]) -> None:
        self.helper, self.behaviours = helper, behaviours
        self.calls: Counter[str] = Counter()
        self._drawn: Counter[str] = Counter()  # chats so far: the same one gets another answer

    def reply(self, chat: list[dict[str, str]]) -> str:
        """The answer to a chat. Raises ValueError for one that names no known behaviour."""
        texts = [message["content"] for message in chat]
        whole, last = "\n".join(texts), texts[-1]
        named = [one for one in self.behaviours if one["behaviour"] in whole]
        if not named:
            raise ValueError("the chat names none of the behaviours that this helper knows")
        behaviour = max(named, key=lambda one: len(one["behaviour"]))
        if "score_value" in texts[0] and "off topic" in texts[0]:
            return self._off_topic(behaviour, RATED.fullmatch(last)[1])
        if rated := RATED.fullmatch(last):
            return self._rating(behaviour, plain(rated[1]), SCALE.search(whole), "[[" in texts[0])
        if topic := TOPIC.fullmatch(last):
            return f"Response: [[{'YES' if self._on_topic(behaviour, topic[1]) else 'NO'}]]"
        return self._attack(behaviour, texts, "next_message" in whole)

    def _attack(self, behaviour, texts, pyrit):
        """The next prompt: PyRIT's chat holds all tries of a branch, garak's the last alone."""
        self.calls["attacker"] += 1
        key, prompt, tries = fingerprint(texts), "", []
        self._drawn[key] += 1
        for text in texts:
            if told := TOLD.search(text):
                score = float(told[2]) if pyrit else (float(told[2]) - 1) / 9
                tries.append(Try(prompt, plain(told[1]), score))
            elif text.startswith("{"):
                prompt = json.loads(text)["next_message" if pyrit else "prompt"]
        [found] = answered(self.helper.propose(behaviour, "prompt", 1, f"{key}-{self._drawn[key]}",
                                          tries)) or [behaviour["behaviour"]]
        return json.dumps({"next_message": found, "rationale": "", "last_response_summary": ""}
                          if pyrit else {"improvement": "another change", "prompt": found})

    def _rating(self, behaviour, response, scale, garak):
        """A score on the scale that was asked for; only a full one is the highest."""
        self.calls["evaluator"] += 1
        low, high = map(int, scale.groups())
        [score] = answered(self.helper.score(behaviour, [response]))
        rating = high if score == 1 else min(high - 1, low + round(score * (high - low)))
        return f"Rating: [[{rating}]]" if garak else json.dumps(
            {"score_value": str(rating), "description": "", "rationale": ""})

    def _off_topic(self, behaviour, prompt):
        return json.dumps({"score_value": not self._on_topic(behaviour, prompt),
                           "description": "", "rationale": "", "metadata": ""})

    def _on_topic(self, behaviour, prompt):
        self.calls["evaluator"] += 1
        [on] = answered(self.helper.on_topic(behaviour, [prompt]))
        return on


def plain(text: str) -> str:
    """The words of a response: garak puts its Message object into the chat, not its text."""
    wrapped = MESSAGE.match(text)
    return ast.literal_eval(wrapped[1]) if wrapped else text


def app(guild: Guild) -> FastAPI:
    """Chat completions of a Guild, whatever else a request holds."""
    served = FastAPI(openapi_url=None)

    @served.post("/v1/chat/completions")
    async def complete(asked: dict[str, Any]) -> dict[str, Any]:
        try:
            text = guild.reply(asked["messages"])
        except ValueError as error:
            raise HTTPException(400, str(error)) from None
        return {"id": f"chatcmpl-{sum(guild.calls.values())}", "object": "chat.completion",
                "created": int(time.time()), "model": "guild",
                "choices": [{"index": 0, "finish_reason": "stop",
                             "message": {"role": "assistant", "content": text}}]}

    return served
