"""The exact predictor against the enumeration of a small grammar's texts."""

from itertools import product

import numpy as np
import pytest

from mosa.world import grammar, lexicon
from mosa.world.exact import EOS, MASKED, Exact

LENGTH = 6
SMALL: grammar.Grammar = [
    (0.6, [[(1.0, "a b"), (2.0, "c")], [(1.0, ""), (1.0, "d {n}")], [(1.0, "f")]]),
    (0.4, [[(1.0, "c")], [(1.0, "d"), (3.0, "e e")], [(0.5, ""), (0.5, "a b a b")]])]


@pytest.fixture(scope="module")
def exact():
    return Exact(SMALL, LENGTH, {"n": "g"})


@pytest.fixture(scope="module")
def texts(exact):
    """Response -> probability, by writing out every text."""
    found = {}
    for weight, text in SMALL:
        for chosen in product(*text):
            mass = weight
            for (w, _), segment in zip(chosen, text, strict=True):
                mass *= w / sum(v for v, _ in segment)
            words = " ".join(t for _, t in chosen).format(n="g")
            response = tuple(exact.numbers(words))
            found[response] = found.get(response, 0.0) + mass
    return found


def test_every_text_has_its_probability(exact, texts):
    assert sum(texts.values()) == pytest.approx(1)
    assert any(0 not in response for response in texts)  # one is cropped
    for response, mass in texts.items():
        assert exact.log_probability(response) == pytest.approx(np.log(mass))
    assert exact.log_probability(exact.numbers("f a b")) == -np.inf


def test_the_posterior_is_that_of_all_texts_that_fit(exact, texts):
    rng = np.random.default_rng(0)
    responses = list(texts)
    shown = np.array([responses[i] for i in rng.integers(len(responses), size=100)])
    shown[rng.random(shown.shape) < 0.6] = MASKED
    found = exact.posterior(shown)
    for row, p in zip(shown, found, strict=True):
        wanted = np.zeros_like(p)
        for response, mass in texts.items():
            if all(s in (MASKED, r) for s, r in zip(row, response, strict=True)):
                wanted[range(LENGTH), response] += mass
        np.testing.assert_allclose(p, wanted / wanted.sum(1, keepdims=True), atol=1e-6)


def test_a_batch_is_its_rows(exact):
    shown = np.array([[MASKED] * LENGTH, exact.numbers("c f")])
    shown[1, 0] = MASKED
    alone = [exact.posterior(row[None])[0] for row in shown]
    np.testing.assert_allclose(exact.posterior(shown), alone)


def test_impossible_evidence_has_an_answer(exact):
    p = exact.posterior(np.array([exact.numbers("f f f")]))
    assert np.isfinite(p).all()
    np.testing.assert_allclose(p.sum(2), 1)


@pytest.mark.parametrize("found", [
    grammar.answer("silver"), grammar.answer("heavy", True), grammar.refusal("woven"),
    grammar.harmless(("place", "maker", "age", "home"))])
def test_one_word_a_step_is_grammatical(found):
    exact = Exact(found, lexicon.LENGTH, lexicon.Item("silver", "orb").words())
    blank = np.full((1, lexicon.LENGTH), MASKED)
    [response], [when] = exact.decode(blank, steps=lexicon.LENGTH)
    assert np.isfinite(exact.log_probability(response))
    assert sorted(when) == [*range(lexicon.LENGTH)]
    assert EOS not in exact.text(response)


def test_decoding_keeps_what_is_shown(exact):
    shown = np.array([[MASKED, *exact.numbers("e e")[:1], *[MASKED] * 4]])
    [response], [when] = exact.decode(shown, steps=3)
    assert response[1] == shown[0, 1] and when[1] == MASKED
    assert (response >= 0).all()


@pytest.mark.parametrize(("shown", "message"), [
    ([[MASKED] * 5], r"of shape \(B, 6\)"), ([MASKED] * LENGTH, r"of shape \(B, 6\)"),
    ([[0.0] * LENGTH], "whole numbers"), ([[99] * LENGTH], "the last word of the vocabulary"),
    ([[-2] * LENGTH], "between -1, which is masked")])
def test_what_is_no_response_is_named(exact, shown, message):
    for read in (exact.posterior, lambda words: exact.decode(words, 3)):
        with pytest.raises(ValueError, match=message):
            read(np.array(shown))


def test_a_decoding_and_a_probability_of_nothing_are_refused(exact):
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        exact.decode(np.full((1, LENGTH), MASKED), 0)
    with pytest.raises(ValueError, match="3 words are no response of 6 slots"):
        exact.log_probability([1, 2, 3])
