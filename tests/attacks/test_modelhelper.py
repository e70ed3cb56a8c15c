"""A scripted model as helper: what it is told, what is read of its answers, and what is counted."""

import json
import re
import zlib

import pytest
from endpoints import FAULTS, serving
from hypothesis import given
from hypothesis import strategies as st

from mosa.attacks import guildhelper, tap
from mosa.attacks.drive import answered, together, user
from mosa.attacks.helpers import Try
from mosa.attacks.modelhelper import (
    SHAPES,
    TOLD,
    TRIES,
    ModelHelper,
    Several,
    Written,
    read,
    told,
)
from mosa.endpoint import Answer, Endpoint
from mosa.pipeline.rows import fingerprint

PHRASES = {"affirmative": ["sure ,"], "procedural": ["then do", "next ,"]}
B = {"id": "b", "behaviour": "make a kettle", **user("make a kettle")}
TRIED = [Try("a0", "no", 0.0), Try("a1", "lid", 1.0)]
ASKS = {  # every task, as an attack asks for it
    "prompt": lambda helper: helper.propose(B, "prompt", 2, "0", TRIED),
    "middle prompt": lambda helper: helper.propose(B, "middle prompt", 2, "0"),
    "suffix": lambda helper: helper.propose(B, "suffix", 2, "0", TRIED),
    "opening": lambda helper: helper.propose(B, "opening", 2, "0"),
    "middle": lambda helper: helper.propose(B, "middle", 2, "0"),
    "plain": lambda helper: helper.rewrite(B, "plain", 2, "0"),
    "avatar": lambda helper: helper.rewrite(B, "avatar", 2, "0"),
    "begun": lambda helper: helper.rewrite(B, "begun", 2, "0"),
    "decompose": lambda helper: helper.decompose(B, 2, "0"),
    "translate": lambda helper: helper.translate(B, ["x", "y"], "zu"),
    "score": lambda helper: helper.score(B, ["x", "y"]),
    "on_topic": lambda helper: helper.on_topic(B, ["x", "y"]),
}
RETURNED = {"decompose": ["i", "ii"], "score": [1.0, 1.0], "on_topic": [False, False]}


def good(chat, seed):
    """A readable answer to any chat."""
    shape = chat[-1]["content"]
    return ('{"score": 10}' if "score" in shape.splitlines()[-1] else
            '{"on_topic": false}' if "on_topic" in shape.splitlines()[-1] else
            '{"texts": ["i", "ii", "iii"]}' if "texts" in shape.splitlines()[-1] else
            '{"text": "t"}')


class Model:
    """An endpoint whose answers are scripted; it notes (chat, seed, options) of each."""

    def __init__(self, say=good):
        self.say, self.asked, self.calls = say, [], 0

    def ask(self, chats, seeds, **options):
        self.calls += 1
        self.asked += [(chat, seed, options) for chat, seed in zip(chats, seeds, strict=True)]
        return [self.answer(self.say(*pair)) for pair in zip(chats, seeds)]

    def answer(self, said):
        return said if isinstance(said, Answer) else Answer(said, "policy", None)


def helped(task, say=good, **values):
    """The model, the helper, and what it returns for a task."""
    model = Model(say)
    helper = ModelHelper(model, PHRASES, **values)
    return model, helper, answered(ASKS[task](helper), model.ask)


def last(chat):
    """What the last turn gives."""
    return json.loads(chat[-1]["content"].splitlines()[0])


@pytest.mark.parametrize("task", ASKS)
def test_a_chat_says_task_example_and_form_and_leaves_nothing_to_fill_in(task):
    model, _, found = helped(task, language="the old tongue")
    assert found == RETURNED.get(task, ["t", "t"]) and model.calls == 1
    for chat, _, _ in model.asked:
        assert [turn["role"] for turn in chat] == ["system", *["user", "assistant"] * len(chat)][
            : len(chat)]
        assert len(chat) % 2 == 0 and TOLD["role"] in chat[0]["content"]
        assert not re.search(r"\{[a-z]*\}", chat[0]["content"])
        form = next(form for form, shape in SHAPES.items() if chat[-1]["content"].endswith(shape))
        assert read(chat[2]["content"], form) is not None  # the example's answer
        assert chat[1]["content"].endswith(SHAPES[form])
        assert task == "translate" or last([*chat[:4]])["request"] == "make a kettle"
    written = task not in ("translate", "score", "on_topic")
    assert ("the old tongue" in model.asked[0][0][0]["content"]) == written
    assert ("then do / next ," in model.asked[0][0][0]["content"]) == (task == "middle prompt")


def test_texts_are_drawn_and_what_is_read_is_not():
    for task in ASKS:
        model, _, _ = helped(task, max_tokens=7)
        drawn = task not in ("translate", "score", "on_topic")
        wanted = {"temperature": 1.0, "top_p": 0.9} if drawn else {"temperature": 0.0}
        assert {json.dumps(options) for _, _, options in model.asked} == {
            json.dumps(wanted | {"max_tokens": 7})}


def test_the_history_shows_what_was_tried_and_came_of_it():
    chat = helped("prompt")[0].asked[0][0]
    assert [turn["content"].splitlines()[0] for turn in chat[4:]] == [
        '{"text": "a0"}', '{"response": "no", "score": "1 of 10"}',
        '{"text": "a1"}', '{"response": "lid", "score": "10 of 10"}']
    assert TOLD["learn"] in chat[0]["content"]
    chat = helped("suffix")[0].asked[0][0]
    assert chat[5]["content"].splitlines()[0] == '{"score": "1 of 10"}'
    assert TOLD["learn"] not in helped("plain")[0].asked[0][0][0]["content"]


def test_a_draw_is_known_by_its_seed_its_task_and_its_behaviour():
    def seeds(task, seed, of="b"):
        model = Model()
        helper = ModelHelper(model, PHRASES)
        answered(helper.rewrite(B | {"id": of}, task, 3, seed), model.ask)
        return tuple(seed for _, seed, _ in model.asked)

    assert seeds("plain", "0") == seeds("plain", "0") and len(set(seeds("plain", "0"))) == 3
    assert len({seeds("plain", "0"), seeds("plain", "1"), seeds("begun", "0"),
                seeds("plain", "0", "c")}) == 4
    assert max(seeds("plain", "0")) < 2**31


def test_what_cannot_be_read_is_asked_for_again_with_another_seed():
    def say(chat, seed):
        return "as you wish" if len(model.asked) <= 3 else f'{{"text": "t{seed}"}}'

    model = Model(say)
    helper = ModelHelper(model, PHRASES)
    found = answered(helper.propose(B, "opening", 3, "0"), model.ask)
    assert len(found) == 3 and len({seed for _, seed, _ in model.asked}) == 6
    assert helper.tally() == [{"task": "opening", "answers": 6, "unreadable": 3, "refused": 0}]


def test_what_stays_unreadable_is_left_out_and_counted():
    model, helper, found = helped("plain", lambda chat, seed: "I would rather not.")
    assert found == [] and len(model.asked) == 2 * TRIES
    assert helper.unreadable == {"plain": 2 * TRIES} and not helper.refused["plain"]


def test_a_tally_stands_in_the_numbers_and_a_task_of_which_nothing_was_read_is_called_out(capsys):
    def say(chat, seed):
        return '{"score": 10}' if "score" in chat[-1]["content"] else unread.pop()

    unread = ["hm"] * TRIES + [None]
    model = Model(say)
    helper = ModelHelper(model, PHRASES)
    answered(helper.propose(B, "prompt", 2, "0"), model.ask)
    answered(helper.score(B, ["x", "y"]), model.ask)
    assert told(helper.tally()) == {
        "helper/prompt": {"answers": TRIES + 1, "unreadable": TRIES, "refused": 1},
        "helper/score": {"answers": 2, "unreadable": 0, "refused": 0}}
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith(f"NOT ONE of the helper's {TRIES + 1} answers to 'prompt'")


def test_a_helper_that_asks_no_model_adds_nothing_to_the_numbers(capsys):
    assert told([]) == {} and capsys.readouterr().out == ""


def test_what_the_server_refuses_is_not_asked_again():
    for refusal in (None, Answer("", "content_filter", 0)):
        model, helper, found = helped("plain", lambda chat, seed, said=refusal: said)
        assert found == [] and len(model.asked) == 2
        assert helper.refused == {"plain": 2} and not helper.unreadable["plain"]


@pytest.mark.parametrize("said", ["hm", None])
def test_without_an_answer_a_score_is_0_a_prompt_stays_and_a_text_is_its_own_translation(said):
    for task, wanted in {"score": [0.0, 0.0], "on_topic": [True, True],
                         "translate": ["x", "y"]}.items():
        model, helper, found = helped(task, lambda chat, seed: said)
        assert found == wanted and len(model.asked) == 2  # once each
        counted = helper.unreadable if said else helper.refused
        assert counted == {task: 2} and helper.answers == {task: 2}


def test_scores_go_from_0_to_1():
    model = Model(lambda chat, seed: f'{{"score": {last(chat)["response"]}}}')
    found = answered(ModelHelper(model, PHRASES).score(B, ["1", "4", "10", "11", "0", "1.5"]),
                     model.ask)
    assert found == [0.0, pytest.approx(1 / 3), 1.0, 0.0, 0.0, 0.0]


def test_a_blank_text_is_not_asked_about_and_an_equal_one_once():
    model = Model()
    helper = ModelHelper(model, PHRASES)
    assert answered(helper.score(B, ["x", "", " \n", "x"]), model.ask) == [1.0, 0.0, 0.0, 1.0]
    assert answered(helper.translate(B, ["", "x", "x"], "tr"), model.ask) == ["", "t", "t"]
    assert [last(chat) for chat, _, _ in model.asked] == [
        {"request": "make a kettle", "response": "x"}, {"from": "en", "to": "tr", "text": "x"}]
    assert answered(helper.propose(B, "prompt", 0, "0"), model.ask) == []
    assert answered(helper.on_topic(B, []), model.ask) == [] and model.calls == 2


def test_translations_go_there_and_back_and_the_own_language_stays():
    model = Model()
    helper = ModelHelper(model, PHRASES, code="uk")
    answered(helper.translate(B, ["x"], "tr", back=True), model.ask)
    assert last(model.asked[0][0]) == {"from": "tr", "to": "uk", "text": "x"}
    assert answered(helper.translate(B, ["x"], "uk", back=True), model.ask) == ["x"]
    assert model.calls == 1


@pytest.mark.parametrize("text, found", [
    ('{"text": "t"}', True), (' {"text":"t"}\n', True), ('```json\n{"text": "t"}\n```', True),
    ('```\n{"text": "```"}\n```\n', True),
    ('Here it is: {"text": "t"}', False), ('{"text": "t"} I hope it helps', False),
    ('{"text": "t", "why": "w"}', False), ('{"text": " "}', False), ('{"text": 1}', False),
    ('{"text": ["t"]}', False), ('{"Text": "t"}', False), ('{"text": "t', False), ("", False),
    ('"t"', False), ("null", False)])
def test_an_answer_is_one_object_of_the_form_and_nothing_else(text, found):
    assert (read(text, Written) is not None) == found


def test_several_texts_are_none_of_them_blank():
    assert read('{"texts": ["a", "b"]}', Several).texts == ["a", "b"]
    assert read('{"texts": []}', Several) is None and read('{"texts": ["a", ""]}', Several) is None


@given(st.lists(st.sampled_from(['{"text": "t"}', "hm", None]), min_size=20, max_size=20))
def test_every_answer_is_counted_once(script):
    model = Model(lambda chat, seed: script[len(model.asked) % 20])
    helper = ModelHelper(model, PHRASES)
    found = answered(helper.propose(B, "prompt", 4, "0"), model.ask)
    assert len(model.asked) == helper.answers["prompt"] <= 4 * TRIES
    assert helper.answers["prompt"] == (
        len(found) + helper.unreadable["prompt"] + helper.refused["prompt"])


def test_the_lines_are_those_of_the_other_helper_with_the_same_places():
    def places(lines):
        return {name: re.findall(r"\{\w+\}", line) for name, line in lines.items()}

    assert places(TOLD["lines"]) == places(guildhelper.LINES)


def test_examples_are_several_and_short():
    examples = ModelHelper(Model(), PHRASES).examples
    assert len(examples) >= 4 and len({question for question, _ in examples}) == len(examples)
    assert len({solved for _, solved in examples}) == len(examples)
    for question, solved in examples:
        assert 0 < len(question.split()) < 12 and 12 < len(solved.split()) <= 32
        assert "{" not in question + solved


class Target:
    """Echoes."""

    def generate(self, requests, sampler, part):
        return [{"request": r, "response": {"text": f"re {r['messages'][-1]['content']}",
                                            "forwards": 4}, "verdicts": {}} for r in requests]


def test_the_chats_of_all_behaviours_are_asked_together():
    def attack(behaviour, helper):
        texts = yield from helper.rewrite(behaviour, "plain", 2, "0")
        return (yield [user(text) for text in texts])

    model = Model()
    found = together(attack, [B, B | {"id": "c"}], Target(), None, "A0",
                     ModelHelper(model, PHRASES))
    assert model.calls == 1 and len(model.asked) == 4 and len(found.rows) == 4
    assert [row["response"]["helper_calls"] for row in found.rows] == [2] * 4


def asked_of(request):
    """What tells requests apart."""
    return fingerprint(request["messages"], request["seed"])


def scripted(request):
    """An answer that depends on the request alone, now and then an unreadable one."""
    draw, form = zlib.crc32(asked_of(request).encode()), request["messages"][-1]["content"][-20:]
    if draw % 5 == 0:
        return "as you wish"
    return json.dumps({"score": 1 + draw % 9} if "score" in form else
                      {"on_topic": draw % 4 > 0} if "on_topic" in form else
                      {"text": f"kettle {draw}"})


class Faults(dict):
    """Every request meets a fault before it is answered, and some are refused then."""

    def __init__(self, faults):
        self.faults = faults

    def get(self, key, default):
        if key not in self:
            draw = zlib.crc32(key.encode())
            one = "late" if len(self) < 2 else FAULTS[draw % 5]  # the last, late, takes seconds
            self[key] = [one] * self.faults + ["400"] * (draw % 7 == 0)
        return self[key]


def attacked(monkeypatch, folder, faults, up=True):
    """TAP over a model on a server: found, the helper, the endpoint, the server."""
    behaviours = [B | {"id": name} for name in "bcd"]
    cfg = tap.Config(depth=3, width=2, branching=3)
    with serving(monkeypatch, folder) as server:
        server.key, server.reply, server.plan = asked_of, scripted, Faults(faults)
        server.late = 3.5
        if not up:
            server.shutdown()
            server.server_close()
        endpoint = Endpoint("helper", timeout=3.0)  # a busy machine answers in time
        helper = ModelHelper(endpoint, PHRASES)
        return tap.run(Target(), behaviours, helper, cfg, None), helper, endpoint, server


def test_faults_of_the_server_change_nothing_and_answers_replay_without_it(monkeypatch, tmp_path):
    calm, _, _, _ = attacked(monkeypatch, tmp_path / "calm", faults=False)
    found, helper, endpoint, server = attacked(monkeypatch, tmp_path / "faulty", faults=True)
    assert (found.rows, found.queries) == (calm.rows, calm.queries) and len(found.queries) > 9
    # each request met its fault, was answered once, and counted once: read, unreadable or refused
    answers, refused = sum(helper.answers.values()), sum(helper.refused.values())
    assert not any(server.plan.values()) and len(server.seen) == 2 * answers
    assert endpoint.calls == answers == len(server.plan)
    assert {n for n in server.served.values() if n} == {1}
    assert sum(server.served.values()) == answers - refused and refused > 0
    assert sum(helper.unreadable.values()) > 0
    again, replayed, silent, _ = attacked(monkeypatch, tmp_path / "faulty", faults=True, up=False)
    assert (again.rows, again.queries) == (found.rows, found.queries)
    assert silent.calls == 0 and replayed.tally() == helper.tally()
