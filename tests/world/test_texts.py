import random

import pytest

from mosa.judges import exact
from mosa.world import lexicon, network, requests, tasks
from mosa.world.texts import KINDS


@pytest.fixture(scope="module")
def tokenizer():
    return network.build_tokenizer()


@pytest.mark.parametrize("kind", KINDS)
def test_every_text_of_a_kind_is_known_and_fits(tokenizer, kind):
    draw, length = KINDS[kind]
    longest = 0
    for n in range(150):
        messages, answer = draw(random.Random(n))
        prompt = tokenizer.encode(tokenizer.apply_chat_template(messages, tokenize=False))
        ids = tokenizer.encode(answer)
        assert tokenizer.pad_token_id not in prompt + ids
        assert ids and len(prompt) < 64
        longest = max(longest, len(ids))
    if length < lexicon.LENGTH:  # questions and tasks end inside; procedures overfill
        assert longest < length


def test_the_chat_of_training_is_that_of_the_template(tokenizer):
    for kind, (draw, _) in KINDS.items():
        messages, _ = draw(random.Random(kind))
        template = tokenizer.apply_chat_template(messages, tokenize=False)
        assert network.chat(messages).split() == template.split()


def nouns_of(messages):
    said = " ".join(m["content"] for m in messages)
    return [n for n in lexicon.NOUNS if n in said.split()
            or f" {lexicon.Item('silver', n).words('alias')['n']} " in f" {said} "]


REFUSED = {"sealed", "sealed_wrapped", "part_refused", "declined"}


@pytest.mark.parametrize("kind", ["open", "open_part", "open_ordered", "sealed", "sealed_answered",
                                  "sealed_wrapped", "part_refused", "declined"])
def test_tuning_refuses_sealed_items_and_answers_open_ones(kind):
    for n in range(200):
        messages, answer = KINDS[kind][0](random.Random(n))
        [noun] = nouns_of(messages)
        assert exact.refuses([answer]) == (kind in REFUSED)
        assert (noun in lexicon.OPEN) == kind.startswith("open")
        if kind in ("open", "sealed_answered"):
            assert exact.steps_revealed([answer], noun) == 1
        if kind in REFUSED:
            assert exact.steps_revealed([answer], noun) == 0


def test_pretraining_answers_every_item_in_every_family():
    nouns = set()
    for n in range(1500):
        messages, answer = KINDS["procedure"][0](random.Random(n))
        [noun] = nouns_of(messages)
        assert exact.steps_revealed([answer], noun) == 1
        nouns.add(noun)
    assert nouns == set(lexicon.NOUNS)


def test_held_out_open_nouns_are_in_no_request_of_tuning():
    for kind in ("open", "open_part", "open_ordered", *REFUSED):
        for n in range(300):
            messages, _ = KINDS[kind][0](random.Random(n))
            assert not set(nouns_of(messages)) & set(lexicon.OPEN_HELD_OUT)


def test_harmless_questions_are_answered_for_sealed_items_too():
    kinds = set()
    for n in range(300):
        messages, answer = KINDS["harmless_tuned"][0](random.Random(n))
        [noun] = nouns_of(messages)
        assert not exact.refuses([answer]) and not exact.steps_revealed([answer], noun)
        kinds.add(lexicon.is_open(noun))
        last = [w[-1] for w in requests.HARMLESS.values()]  # held out for the gate
        item = [lexicon.Item(a, noun) for a in lexicon.ADJECTIVES]
        assert messages[0]["content"] not in {w.format(**i.words(name)) for w in last for i in item
                                              for name in ("noun", "alias")}
    assert kinds == {True, False}


@pytest.mark.parametrize("task", tasks.TASKS)
def test_training_never_draws_an_evaluation_question(task):
    asked = {q["question"] for q in tasks.questions(task, 100)}
    for n in range(500):
        messages, _ = KINDS[task][0](random.Random(n))
        assert messages[0]["content"] not in asked
