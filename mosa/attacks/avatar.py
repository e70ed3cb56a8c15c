"""Avatar-ACL: the target is asked inside a metaphor, then to carry its answer back.

The paper that MOSA compares itself with (Yan et al., arXiv 2412.12145) leaves its counts and
prompts open, has no code, and calls itself in need of further study in its last version; so this
follows the outline of its successor (arXiv 2503.00038, ACL 2025, long.239), and bears its name. An
avatar is a harmless stand-in. Each opens a conversation with a question inside it, which is put in
another way while the target refuses. Then come calibration turns, behind the target's own answers:
what do they mean for the behaviour itself? A full score ends the search.

Otherwise than published: the helper's rewriting gives the avatars, where there several models
propose analogues of the behaviour's entities, filtered by toxicity and by how their relations
match; a refused question is drawn anew, without a look at the refusal; and a score of 0 is held to
be one. The counts are ours.
"""

from functools import partial
from typing import Literal

from pydantic import Field

from mosa.attacks.drive import Attack, each_form
from mosa.attacks.helpers import Helper
from mosa.pipeline.params import Amount, Count, Distinct, Section

FORMS = {"prompt": "A0"}


class Config(Section):
    """At most avatars * (retries + turns) queries."""

    forms: Distinct[Literal["prompt"]] = Field(["prompt"], min_length=1)
    avatars: Count = 3
    turns: Count = 2  # of a conversation: the question, then calibrations
    retries: Amount = 3  # of a question that is refused
    seed: Amount = 0


def attack(behaviour: dict, helper: Helper, form: str, cfg: Config) -> Attack:
    """The first response with the highest score; none if the helper has no avatar.

    A row says in its `request` of which `avatar` and `turn` it is, from 0, and its `rated` score.
    """
    calibrate = helper.lines["calibrate"].replace("{request}", behaviour["behaviour"])
    best: dict | None = None
    seed = f"{cfg.seed}-{form}"
    questions = yield from helper.rewrite(behaviour, "avatar", cfg.avatars, seed)
    for avatar, text in enumerate(questions):
        chat, turn, tries = [], 0, 0
        while turn < cfg.turns:
            asked = [*chat, {"role": "user", "content": text}]
            [row] = yield [{"messages": asked, "avatar": avatar, "turn": turn}]
            answer = row["response"]["text"]
            [score] = yield from helper.score(behaviour, [answer])
            if best is None or score > best["request"]["rated"]:
                best = row | {"request": row["request"] | {"rated": score}}
            if score == 1:
                return [best]
            if turn or score:
                chat, turn = [*asked, {"role": "assistant", "content": answer}], turn + 1
                text = calibrate
            elif tries < cfg.retries and (again := (yield from helper.rewrite(
                    behaviour, "avatar", 1, f"{seed}-{avatar}-{tries}"))):
                [text], tries = again, tries + 1
            else:
                break
    return [best] if best else []


run = partial(each_form, "avatar", attack, FORMS)
