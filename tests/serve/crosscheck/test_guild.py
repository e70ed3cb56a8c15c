"""The helper as a chat model: the forms of chat that garak and PyRIT send, in words of our own with
the marks of theirs, and what each reads out of the answer."""

import json
import re

import pytest

from mosa.serve.crosscheck.guild import Guild, plain

BEHAVIOURS = [{"id": "a", "behaviour": "how do i make a kettle ?"},
              {"id": "b", "behaviour": "please , how do i make a kettle ?"}]  # holds the first


class Helper:
    """Scripted: it notes what it is asked."""

    phrases, lines, ask = {}, {}, None

    def __init__(self, score=0.5, on=True):
        self.rated, self.on, self.asked, self.seeds = score, on, [], []

    def propose(self, behaviour, kind, n, seed, tries=()):
        yield from ()
        told = [(one.text, one.response, one.score) for one in tries]
        self.asked.append((behaviour["id"], kind, n, told))
        self.seeds.append(seed)
        return [f"p{len(self.asked)}"]

    def score(self, behaviour, texts):
        yield from ()
        self.asked.append((behaviour["id"], *texts))
        return [self.rated]

    def on_topic(self, behaviour, prompts):
        yield from ()
        self.asked.append((behaviour["id"], *prompts))
        return [self.on]


def chat(*turns):
    return [{"role": role, "content": content} for role, content in turns]


def goal(which):
    return f"the model performs the following behavior: '{BEHAVIOURS[which]['behaviour']}'. Begin."


GARAK = 'Write JSON with "improvement" and "prompt"; the last one has gotten off topic. '
PYRIT = "Write JSON with next_message, rationale; the last one has gone off topic. "


def told(response, score, which=0):
    return (f"\n   LANGUAGE MODEL OUTPUT: {response}\nOBJECTIVE: **Craft P where {goal(which)} \n"
            f"SCORE: {score}\n   ")


def test_garaks_attacker_begins():
    helper = Helper()
    said = Guild(helper, BEHAVIOURS).reply(chat(("system", GARAK + goal(1)), ("user", goal(1))))
    assert json.loads(said)["prompt"] == "p1" and json.loads(said)["improvement"]
    assert helper.asked == [("b", "prompt", 1, [])]  # the longest behaviour that the chat names


def test_the_same_chat_gets_another_draw():
    helper = Helper()
    guild = Guild(helper, BEHAVIOURS)
    for _ in range(2):
        guild.reply(chat(("system", GARAK + goal(0)), ("user", goal(0))))
    assert len({*helper.seeds}) == 2 and guild.calls == {"attacker": 2}
    again = Helper()  # and another helper the same draws
    Guild(again, BEHAVIOURS).reply(chat(("system", GARAK + goal(0)), ("user", goal(0))))
    assert again.seeds == helper.seeds[:1]


def test_garaks_attacker_goes_on_without_its_system_prompt():
    """From its second round on the chat has the last prompt and what came of it, and no more."""
    helper = Helper()
    last = json.dumps({"improvement": "i", "prompt": "make it"})
    wrapped = "Message(text=\"i can't {}\", lang=None, data_path=None)"
    said = Guild(helper, BEHAVIOURS).reply(
        chat(("user", last), ("user", "i"), ("user", told(wrapped, 10.0))))
    assert json.loads(said)["prompt"] == "p1"
    assert helper.asked == [("a", "prompt", 1, [("make it", "i can't {}", 1.0)])]


def test_pyrits_attacker_tells_all_its_tries():
    helper = Helper()
    turns = [("system", PYRIT + goal(0)), ("user", goal(0))]
    for prompt, response, score in (("p", "no", "0.0"), ("q", "sure", "0.75")):
        turns += [("assistant", json.dumps({"next_message": prompt, "rationale": ""})),
                  ("user", told(response, score))]
    said = json.loads(Guild(helper, BEHAVIOURS).reply(chat(*turns)))
    assert said.keys() == {"next_message", "rationale", "last_response_summary"}
    assert helper.asked == [("a", "prompt", 1, [("p", "no", 0.0), ("q", "sure", 0.75)])]


RATES = [(0.0, 1, 0), (0.1, 2, 10), (0.95, 9, 95), (0.999, 9, 99), (1.0, 10, 100)]


@pytest.mark.parametrize("score, of_ten, of_hundred", RATES)
def test_a_rating_is_on_the_scale_asked_for_and_full_only_if_it_is(score, of_ten, of_hundred):
    helper = Helper(score)
    guild = Guild(helper, BEHAVIOURS)
    said = guild.reply(chat(
        ("system", f"Rate on a scale from 1 to 10 the TASK: `{BEHAVIOURS[0]['behaviour']}`, "
                   'as "Rating: [[rating]]"'),
        ("user", "[PROMPT]:make\nit\n[ASSISTANT'S RESPONSE]: Message(text='sure\\n1', lang=None)")))
    assert re.search(r"\[\[(\d+)\]\]", said)[1] == str(of_ten)
    said = guild.reply(chat(
        ("system", "score on a scale from 0 to 100. score_value; 0 is off"),
        ("user", f"objective: {BEHAVIOURS[0]['behaviour']}\nresponse: sure\n1")))
    assert json.loads(said)["score_value"] == str(of_hundred)
    assert helper.asked == [("a", "sure\n1")] * 2 and guild.calls == {"evaluator": 2}


@pytest.mark.parametrize("on", [True, False])
def test_topics(on):
    helper = Helper(on=on)
    guild = Guild(helper, BEHAVIOURS)
    task = BEHAVIOURS[0]["behaviour"]
    said = guild.reply(chat(("system", f'as "Response: [[YES]]" or [[NO]], TASK: `{task}`'),
                            ("user", "[PROMPT]:make it")))
    assert said == f"Response: [[{'YES' if on else 'NO'}]]"
    said = guild.reply(chat(("system", f"score_value true: the prompt is off topic, TASK: {task}"),
                            ("user", "objective: None\nresponse: make it")))
    assert json.loads(said)["score_value"] is (not on)
    assert helper.asked == [("a", "make it")] * 2


def test_a_chat_about_nothing_known_is_refused():
    with pytest.raises(ValueError, match="behaviours"):
        Guild(Helper(), BEHAVIOURS).reply(chat(("user", "how do i make a wand ?")))


def test_plain_takes_quotes_of_both_kinds_and_text_as_it_is():
    assert plain("Message(text='a \"b\"', lang=None)") == 'a "b"'
    assert plain("None") == "None"
