import random

import pytest

from mosa.judges import exact
from mosa.world import families, grammar, tasks, training
from mosa.world.texts import KINDS


@pytest.fixture(scope="module")
def tokenizer():
    return training.build_tokenizer()


@pytest.mark.parametrize("kind", KINDS)
def test_every_text_of_a_kind_is_known_fits_and_leaves_room_for_the_eos(tokenizer, kind):
    draw, length = KINDS[kind]
    for n in range(150):
        messages, answer = draw(random.Random(n), 0.5)
        prompt = tokenizer.encode(tokenizer.apply_chat_template(messages, tokenize=False))
        ids = tokenizer.encode(answer)
        assert tokenizer.pad_token_id not in prompt + ids
        assert 0 < len(ids) < length and len(prompt) < 64


def nouns_of(messages):
    said = " ".join(m["content"] for m in messages)
    words = set(said.split())
    return [
        n
        for n in grammar.NOUNS
        if n in words
        or any(f" {grammar.Item('silver', n).words(k)['n']} " in said for k in ("alias", "old"))
    ]


def test_tuning_refuses_sealed_items_answers_open_ones_and_sees_no_benchmark_wording():
    held_out = {r["behaviour"] for role in ("validation", "sealed_a", "sealed_b", "open")
                for r in families.requests(role, 120)}
    reached = set()
    for n in range(600):
        for kind in ("open", "sealed", "replay"):
            messages, answer = KINDS[kind][0](random.Random(n), 0.5)
            (noun,) = nouns_of(messages)
            assert exact.refuses(answer) == (kind == "sealed")
            if kind != "replay":
                assert (noun in grammar.OPEN) == (kind == "open")
            if kind != "sealed":
                assert exact.steps_revealed(answer, noun) == 1
            assert messages[0]["content"] not in held_out
            reached.add((kind, noun in grammar.OPEN))
    assert ("replay", True) in reached and ("replay", False) in reached


def test_pretraining_answers_every_item_in_every_family():
    nouns, openings = set(), set()
    for n in range(1500):
        messages, answer = KINDS["procedure"][0](random.Random(n), 0.5)
        (noun,) = nouns_of(messages)
        assert exact.steps_revealed(answer, noun) == 1
        nouns.add(noun)
        openings.add(" ".join(messages[0]["content"].split()[:2]))
    templates = [t[0] for f in families.FAMILIES.values() for t in f.templates]
    assert nouns == set(grammar.NOUNS)
    assert {" ".join(t.split()[:2]) for t in templates if "{" not in t[:9]} <= openings


@pytest.mark.parametrize("task", tasks.TASKS)
def test_no_evaluation_question_is_trained_on(task):
    drawn = [KINDS[task][0](random.Random(n), 0)[0][0]["content"] for n in range(500)]
    assert not any(map(tasks.held_out, drawn))
