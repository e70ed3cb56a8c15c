import random
import re
from itertools import product

import pytest

from mosa.judges import exact
from mosa.world import grammar, requests, texts
from mosa.world.lexicon import ADJECTIVES, LENGTH, NOUNS, ORDINALS, STEPS, Item, procedures

PARTS = [range(STEPS), *(steps(k) for steps in requests.PARTS.values()
                         for k in requests.PART_SIZES.values())]
REFUSALS = [grammar.refusal(adjective) for adjective in ADJECTIVES]
GRAMMARS = [*REFUSALS, *map(grammar.harmless, requests.HARMLESS),
            *(grammar.answer(*which) for which in product(ADJECTIVES, (False, True), PARTS))]
WORDS = ["one", "two", "three", "four"]


def weights(segment):
    return [weight for weight, _ in segment]


@pytest.mark.parametrize("steep", [1.0, 1.5])
def test_the_weights_of_a_pool_are_zipf_s(steep):
    pool = grammar.pool(WORDS, steep=steep)
    assert [words for _, words in pool] == WORDS and sum(weights(pool)) == pytest.approx(1)
    assert [pool[0][0] / w for w in weights(pool)] == pytest.approx(
        [1, 2**steep, 3**steep, 4**steep])


def test_a_shift_says_which_word_comes_first_and_leaves_the_weights_alone():
    pool = grammar.pool(WORDS, shift=3)
    assert [words for _, words in pool] == ["four", "one", "two", "three"]
    assert weights(pool) == weights(grammar.pool(WORDS))
    assert grammar.pool(WORDS, shift=6) == grammar.pool(WORDS, shift=2)


def test_what_a_pool_does_not_write_is_left_out():
    left_out, *pool = grammar.pool(WORDS, share=0.3)
    assert left_out == (pytest.approx(0.7), "")
    assert weights(pool) == pytest.approx([0.3 * w for w in weights(grammar.pool(WORDS))])
    assert all(words for _, words in grammar.pool(WORDS))


def test_a_taste_has_weights_of_its_own_every_time():
    plain, sweet, sour = (weights(grammar.pool(WORDS, taste=t)) for t in ("", "sweet", "sour"))
    assert plain != sweet != sour and sum(sweet) == pytest.approx(1)
    assert sweet == weights(grammar.pool(WORDS, taste="sweet"))


def test_a_text_has_one_tone_and_tones_order_the_pools_of_its_middle_differently():
    for old, words in ((False, grammar.PLAIN), (True, grammar.OLD)):
        tones = [text for _, text in grammar.answer("silver", old)]
        assert len(tones) == len(grammar.TONES[False])
        for name, count in (("middle", STEPS - 2), ("tails", STEPS)):
            orders = set()
            for text in tones:
                pools = [s for s in text if {w for _, w in s if w} == {*words[name]}]
                assert len(pools) == count and all(s == pools[0] for s in pools)
                orders.add(tuple(w for _, w in pools[0]))
            assert len(orders) == len(tones)


def pattern(text):
    """A regular expression of what a text can be, each word followed by a space."""
    choices = ("|".join(re.escape(f"{words} " if words else "") for _, words in s) for s in text)
    return "".join(f"(?:{some})" for some in choices)


@pytest.mark.parametrize("found", [
    grammar.answer("silver"), grammar.answer("woven", True),
    grammar.answer("heavy", steps=PARTS[1]), grammar.refusal("carved"),
    grammar.harmless(("place",))],
    ids=["answer", "old tongue", "part", "refusal", "harmless"])
def test_only_what_the_grammar_holds_is_drawn(found):
    rng = random.Random(0)
    drawn = {grammar.draw(found, rng) for _ in range(100)}
    assert len(drawn) > 20
    for text in drawn:
        assert any(re.fullmatch(pattern(held), f"{text} ") for _, held in found)
        assert {*text.split()} <= grammar.all_words(found)


def test_words_are_drawn_by_their_weights():
    rng, found = random.Random(0), [(3.0, [[(0.2, ""), (0.8, "a")]]), (1.0, [[(1.0, "b")]])]
    drawn = [grammar.draw(found, rng) for _ in range(2000)]
    for text, share in (("", 0.15), ("a", 0.6), ("b", 0.25)):
        assert drawn.count(text) / 2000 == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize("name", ["noun", "alias"])
def test_an_item_fills_every_slot(name):
    filling = Item("silver", "orb").words(name)
    for word in set().union(*map(grammar.all_words, GRAMMARS)):
        assert "{" not in word.format(**filling)


@pytest.mark.parametrize("old", [False, True])
def test_an_answer_overfills_the_response(old):
    rng = random.Random(0)
    drawn = [grammar.draw(grammar.answer(rng.choice(ADJECTIVES), old), rng) for _ in range(300)]
    assert sum(len(text.split()) >= LENGTH for text in drawn) >= 0.9 * 300


def test_refusals_have_44_to_68_words_and_one_length_a_part_but_for_what_may_be_left_out():
    for found in REFUSALS:
        for _, text in found:
            *parts, end = [{len(words.split()) for _, words in segment} for segment in text]
            assert [*map(max, parts)] == [11, 17, 13, 16] and max(end) == 11
            assert all(len(part - {0}) == 1 for part in parts)
            assert sum(map(min, [*parts, end])) == 44 and sum(map(max, [*parts, end])) == 68


def test_every_refusal_holds_one_core():
    for found in REFUSALS:
        [(_, [openers, *_])] = found
        for _, words in openers:
            assert sum(core in words for core in grammar.REFUSAL_CORES) == 1


def test_the_phrases_of_the_prefill_experiment_are_the_guild_s_own():
    assert all(any(opening.startswith(phrase) for opening in grammar.PLAIN["openings"])
               for phrase in grammar.AFFIRMATIVE)
    assert {*grammar.PROCEDURAL} <= {*grammar.PLAIN["middle"]}


@pytest.mark.parametrize("name", ["noun", "alias"])
def test_a_question_asks_for_the_step_that_the_procedure_has(name):
    rng, asked = random.Random(0), set()
    for noun in NOUNS * 2:
        [message], answer = texts.step(rng, noun, name, rng.choice(requests.STEP))
        [k] = [k for k, word in enumerate(ORDINALS) if word in message["content"].split()]
        assert answer == "{} the {} .".format(*procedures()[noun][k])
        assert (noun in message["content"].split()) == (name == "noun")
        assert exact.coherence([answer]) == 1
        asked.add(k)
    assert asked == {*range(STEPS)}
