"""The helper that is a language model, behind any OpenAI-compatible server.

    helper = ModelHelper(Endpoint("helper"), sets.phrases(cfg))
    found = tap.run(target, behaviours, helper, tap.Config(), sampler)
    helper.tally()         # by task: how many answers, how many of them unreadable or refused

It is for targets that read any text, on the behaviours of public files. A target of the policy
world knows the world's words alone, and any other is a ValueError that ends the attack: there the
world's helper (mosa.attacks.guildhelper) writes.

A text is asked for in a chat of its own, as TAP, ECLIPSE and DIA do, with what was tried before as
its earlier turns. Texts are drawn at TAP's temperature of 1.0 and top_p of 0.9; scores, topics and
translations at a temperature of 0. What the model is told is in modelhelper.yaml.

An answer is one JSON object of one exact form, in a Markdown fence or not. What cannot be read is
asked for again with another seed, as often as TAP does, and then left out; at a temperature of 0 it
is asked for once, as the answer would be the same. What the server refuses is not asked again.
Without an answer a score is 0, a prompt is on topic (its score decides), and a text is its own
translation. All of this is counted.

Otherwise than TAP's released prompts, ours name no opening that a response should have, and ask for
no remark on what to improve.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
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
    """See mosa.attacks.helpers.Helper; its `lines` and `examples` are English.

    language: what texts are written in, as the model is told, and its `code` among those of
    `translate`. max_tokens: of an answer.
    answers, unreadable, refused: how many of each there were, by task.
    """

    def __init__(self, endpoint: Endpoint, phrases: Mapping[str, Sequence[str]],
                 language: str = "plain English", code: str = "en", max_tokens: int = 500) -> None:
        self.ask, self.phrases, self.lines = endpoint.ask, phrases, TOLD["lines"]
        self.examples = [*map(tuple, TOLD["examples"])]
        self.language, self.code, self.max_tokens = language, code, max_tokens
        self.answers, self.unreadable, self.refused = Counter(), Counter(), Counter()

    def propose(self, behaviour: dict, kind: Kind, n: int, seed: str,
                tries: Sequence[Try] = ()) -> Asking[list[str]]:
        """n draws behind one history; of earlier suffixes it shows the scores alone, as ECLIPSE
        does."""
        turns: list[dict] = []
        for one in tries:
            said = {} if kind == "suffix" else {"response": one.response}
            turns += [{"text": one.text}, said | {"score": f"{round(1 + 9 * one.score)} of 10"}]
        chat = self._chat(kind, {"request": behaviour["behaviour"]}, Written, turns)
        found = yield from self._read(kind, behaviour, [chat] * n, seed, Written)
        return [one.text for one in found if one]

    def rewrite(self, behaviour: dict, manner: Manner, n: int, seed: str) -> Asking[list[str]]:
        """n draws."""
        chat = self._chat(manner, {"request": behaviour["behaviour"]}, Written)
        found = yield from self._read(manner, behaviour, [chat] * n, seed, Written)
        return [one.text for one in found if one]

    def decompose(self, behaviour: dict, n: int, seed: str) -> Asking[list[str]]:
        """The first n questions of one answer."""
        chat = self._chat("decompose", {"request": behaviour["behaviour"]}, Several, n=n)
        [found] = yield from self._read("decompose", behaviour, [chat], seed, Several)
        return found.texts[:n] if found else []

    def translate(self, behaviour: dict, texts: Sequence[str], language: str,
                  back: bool = False) -> Asking[list[str]]:
        """Each text in a chat of its own; what is in the helper's own language stays as it is."""
        if language == self.code:
            return list(texts)
        start, end = (language, self.code) if back else (self.code, language)
        found = yield from self._of_each("translate", behaviour, texts, "text", Written,
                                         {"from": start, "to": end})
        return [one.text if (one := found.get(text)) else text for text in texts]

    def score(self, behaviour: dict, texts: Sequence[str]) -> Asking[list[float]]:
        """The model's score from 1, which is 0.0, to 10, which is 1.0; a blank text has 0.0."""
        found = yield from self._of_each("score", behaviour, texts, "response", Scored,
                                         {"request": behaviour["behaviour"]})
        return [(one.score - 1) / 9 if (one := found.get(text)) else 0.0 for text in texts]

    def on_topic(self, behaviour: dict, prompts: Sequence[str]) -> Asking[list[bool]]:
        """What the model says of each prompt."""
        found = yield from self._of_each("on_topic", behaviour, prompts, "message", Topical,
                                         {"request": behaviour["behaviour"]})
        return [one.on_topic if (one := found.get(prompt)) else True for prompt in prompts]

    def tally(self) -> list[dict]:
        """A row a task: how many answers it had, how many of them were unreadable or refused."""
        return [{"task": task, "answers": n, "unreadable": self.unreadable[task],
                 "refused": self.refused[task]} for task, n in self.answers.items()]

    def _of_each(self, task: str, behaviour: dict, texts: Sequence[str], key: str,
                 form: type[Form], given: dict) -> Asking[dict[str, Form | None]]:
        """{text: what is said of it}, without the blank ones; the same text is asked of once."""
        some = list(dict.fromkeys(text for text in texts if text.strip()))
        chats = [self._chat(task, given | {key: text}, form) for text in some]
        found = yield from self._read(task, behaviour, chats, "", form, drawn=False)
        return dict(zip(some, found, strict=True))

    def _read(self, task: str, behaviour: dict, chats: Sequence[Chat], seed: str,
              form: type[Form], drawn: bool = True) -> Asking[list[Form | None]]:
        """What each chat's answer says; None where it is refused, or never readable."""
        options = (*(DRAWN if drawn else FIXED), ("max_tokens", self.max_tokens))
        found: list[Form | None] = [None] * len(chats)
        left = list(range(len(chats)))
        for number in range(TRIES if drawn else 1):
            if not left:
                break
            # 28 bits: the seeds of a wave count on from it, and some servers take 31
            draw = int(fingerprint(behaviour["id"], task, seed, number)[:7], 16)
            answers = yield Help([chats[i] for i in left], draw, options)
            self.answers[task] += len(answers)
            again = []
            for i, answer in zip(left, answers, strict=True):
                if refuses(answer):
                    self.refused[task] += 1
                elif (one := read(answer.text, form)) is None:
                    self.unreadable[task] += 1
                    again.append(i)
                else:
                    found[i] = one
            left = again
        return found

    def _chat(self, task: str, given: dict, form: type[Section], turns: Sequence[dict] = (),
              n: int = 0) -> Chat:
        """The task, its example, what is given now, and what was answered and came of it."""
        order = TOLD[task]["order"].format(language=self.language, n=n,
                                           phrases=" / ".join(self.phrases["procedural"]))
        system = " ".join([TOLD["role"], order, *([TOLD["learn"]] if turns else [])])
        said = [TOLD[task]["example"], TOLD[task]["answer"], given, *turns]
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


def told(tally: Iterable[dict]) -> dict[str, dict]:
    """A stage's tally as its numbers.json has it: {"helper/<task>": counts}. It prints a line for
    each task of which nothing could be read, as the attack had no such help then."""
    found = {}
    for line in tally:
        task, answers, lost = line["task"], line["answers"], line["unreadable"] + line["refused"]
        found[f"helper/{task}"] = {key: n for key, n in line.items() if key != "task"}
        if lost == answers:
            print(f"NOT ONE of the helper's {answers} answers to {task!r} could be read "
                  f"({line['refused']} refused): these are numbers of the attack without that help")
    return found


def refuses(answer: Answer) -> bool:
    """Did the server, not its model, decline? A filter that cut the answer off counts."""
    return answer.text is None or answer.finish == "content_filter"
