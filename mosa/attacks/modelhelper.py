"""The helper that is a language model, behind any OpenAI-compatible server.

    helper = ModelHelper(Endpoint("helper"), sets.phrases(cfg))
    found = tap.run(target, behaviours, helper, tap.Config(), sampler)
    helper.tally()                      # of each task: answers, how many unreadable, how many refused

Every text is asked for in a chat of its own, as TAP, ECLIPSE and DIA do, and what was tried before
stands in it as earlier turns. Texts are drawn with TAP's temperature of 1.0 and top_p of 0.9, scores
and translations with a temperature of 0. What the model is told is in modelhelper.yaml.

An answer is one JSON object of exactly one form, with or without a Markdown fence around it. One
that cannot be read is asked for again with another seed, as often as TAP does, and then left out; at
a temperature of 0 it would be the same one, and is asked for once. A score that cannot be read is 0;
a prompt whose topic cannot be read stays in, so that its score decides; a text whose translation
cannot be read stays as it is. All of this is counted, and so is what the server refuses to answer.

Otherwise than TAP's released prompts: ours name no opening that the response should have, and ask
for no remark on what to improve beside the text.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Field, ValidationError
from ruamel.yaml import YAML

from mosa.attacks.drive import Help
from mosa.attacks.helpers import Asking, Kind, Manner, Try
from mosa.endpoint import Answer, Chat, Endpoint
from mosa.pipeline.params import Section, Text, Texts
from mosa.pipeline.rows import fingerprint

TOLD = YAML(typ="safe").load(Path(__file__).with_name("modelhelper.yaml"))
TRIES = 5  # of one text: RICommunity/TAP 7bcdad3, max_n_attack_attempts
DRAWN = (("temperature", 1.0), ("top_p", 0.9))
FIXED = (("temperature", 0.0),)
FENCE = re.compile(r"\s*```\w*\s*(.*?)\s*```\s*", re.DOTALL)


class Written(Section):
    """The answer that holds one text."""

    text: Text


class Several(Section):
    """The answer that holds some."""

    texts: Texts


class Scored(Section):
    """The answer that holds a score."""

    score: Annotated[int, Field(ge=1, le=10)]


class Topical(Section):
    """The answer that says whether a prompt is on topic."""

    on_topic: bool


Form = TypeVar("Form", bound=Section)
SHAPES = {Written: '{"text": "..."}', Several: '{"texts": ["...", "..."]}',
          Scored: '{"score": 1}', Topical: '{"on_topic": true}'}


class ModelHelper:
    """See mosa.attacks.helpers.Helper; its `lines` are English.

    language: what texts are written in, as the model is told. max_tokens: of an answer.
    answers, unreadable, refused: how many of each there were, by task.
    """

    def __init__(self, endpoint: Endpoint, phrases: Mapping[str, Sequence[str]],
                 language: str = "plain English", max_tokens: int = 500) -> None:
        self.ask, self.phrases, self.lines = endpoint.ask, phrases, TOLD["lines"]
        self.language, self.max_tokens = language, max_tokens
        self.answers, self.unreadable, self.refused = Counter(), Counter(), Counter()

    def propose(self, behaviour: dict, kind: Kind, n: int, seed: str,
                tries: Sequence[Try] = ()) -> Asking[list[str]]:
        """n draws behind one history; of earlier suffixes it shows the scores alone, as ECLIPSE
        does."""
        turns = []
        for one in tries:
            score = {"score": f"{round(1 + 9 * one.score)} of 10"}
            turns.append(({"text": one.text},
                          score if kind == "suffix" else {"response": one.response} | score))
        chat = self._chat(kind, {"request": behaviour["behaviour"]}, Written, turns)
        return (yield from self._texts(kind, behaviour, [chat] * n, seed))

    def rewrite(self, behaviour: dict, manner: Manner, n: int, seed: str) -> Asking[list[str]]:
        """n draws."""
        chat = self._chat(manner, {"request": behaviour["behaviour"]}, Written)
        return (yield from self._texts(manner, behaviour, [chat] * n, seed))

    def decompose(self, behaviour: dict, n: int, seed: str) -> Asking[list[str]]:
        """The first n questions of one answer."""
        chat = self._chat("decompose", {"request": behaviour["behaviour"]}, Several, n=n)
        [found] = yield from self._read("decompose", behaviour, [chat], seed, Several, DRAWN)
        return found.texts[:n] if found else []

    def translate(self, behaviour: dict, texts: Sequence[str], language: str,
                  back: bool = False) -> Asking[list[str]]:
        """Each text in a chat of its own; a blank one, and one in the language that is asked for,
        is its own translation."""
        ends = (language, self.language) if back else (self.language, language)
        chats = [self._chat("translate", {"text": text, **dict(zip(("from", "to"), ends))}, Written)
                 for text in texts]
        found = yield from self._read("translate", behaviour, chats, language, Written, FIXED)
        return [one.text if one else text for one, text in zip(found, texts, strict=True)]

    def score(self, behaviour: dict, texts: Sequence[str]) -> Asking[list[float]]:
        """The model's score from 1, which is 0.0, to 10, which is 1.0; a blank text has 0.0."""
        chats = {text: self._chat("score", {"request": behaviour["behaviour"], "response": text},
                                  Scored) for text in texts if text.strip()}
        found = yield from self._read("score", behaviour, [*chats.values()], "", Scored, FIXED)
        scores = dict(zip(chats, found, strict=True))
        return [(one.score - 1) / 9 if (one := scores.get(text)) else 0.0 for text in texts]

    def on_topic(self, behaviour: dict, prompts: Sequence[str]) -> Asking[list[bool]]:
        """What the model says of each prompt."""
        chats = [self._chat("on_topic", {"request": behaviour["behaviour"], "message": prompt},
                            Topical) for prompt in prompts]
        found = yield from self._read("on_topic", behaviour, chats, "", Topical, FIXED)
        return [one is None or one.on_topic for one in found]

    def tally(self) -> list[dict]:
        """A row a task: how many answers it had, how many of them were unreadable or refused."""
        return [{"task": task, "answers": n, "unreadable": self.unreadable[task],
                 "refused": self.refused[task]} for task, n in self.answers.items()]

    def _texts(self, task: str, behaviour: dict, chats: list[Chat], seed: str) -> Asking[list[str]]:
        found = yield from self._read(task, behaviour, chats, seed, Written, DRAWN)
        return [one.text for one in found if one]

    def _read(self, task: str, behaviour: dict, chats: Sequence[Chat], seed: str,
              form: type[Form], options: tuple) -> Asking[list[Form | None]]:
        """What each chat's answer says; None for one that is refused, or never readable."""
        found: dict[int, Form] = {}
        left = list(range(len(chats)))
        for number in range(TRIES if options == DRAWN else 1):
            if not left:
                break
            # 28 bits: some servers take no more than 31, and the seeds of several chats count on
            draw = int(fingerprint(behaviour["id"], task, seed, number)[:7], 16)
            answers = yield Help([chats[i] for i in left], draw,
                                 (*options, ("max_tokens", self.max_tokens)))
            again = []
            for i, answer in zip(left, answers, strict=True):
                self.answers[task] += 1
                if refuses(answer):
                    self.refused[task] += 1
                elif one := read(answer.text, form):
                    found[i] = one
                else:
                    self.unreadable[task] += 1
                    again.append(i)
            left = again
        return [found.get(i) for i in range(len(chats))]

    def _chat(self, task: str, given: dict, form: type[Section],
              turns: Sequence[tuple[dict, dict]] = (), n: int = 0) -> Chat:
        """The task, its example, what is given, and what was answered before and came of it."""
        told = TOLD[task]
        order = told["order"].format(language=self.language, n=n,
                                     phrases=" / ".join(self.phrases["procedural"]))
        system = " ".join([TOLD["role"], order, *([TOLD["learn"]] if turns else [])])
        said = [told["example"], told["answer"], given, *(part for turn in turns for part in turn)]
        ends = f"\nAnswer with JSON alone, of this form: {SHAPES[form]}", ""
        return [{"role": "system", "content": system},
                *({"role": ("user", "assistant")[i % 2],
                   "content": json.dumps(one, ensure_ascii=False) + ends[i % 2]}
                  for i, one in enumerate(said))]


def read(text: str, form: type[Form]) -> Form | None:
    """The answer in a text that holds nothing else; None for any other text."""
    fenced = FENCE.fullmatch(text)
    try:
        return form.model_validate_json(fenced[1] if fenced else text)
    except ValidationError:
        return None


def refuses(answer: Answer) -> bool:
    """Did the server, not its model, decline? A filter that cut the answer off counts."""
    return answer.text is None or answer.finish == "content_filter"
