import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mosa.alignment.reward import BOUNDS, best_start, padded, places, score, windowed_max_loglik

VOCABULARY, LENGTH = 7, 12


def literal(logprobs, span, window, bounds, masked=(True,) * LENGTH):
    """Algorithm 1 as a loop over starts and tokens."""
    best, start = -float("inf"), None
    for k in range(window[0], window[1] + 1):
        end = k + len(span)
        if end > len(logprobs) or (bounds == "whole" and end > window[1] + 1):
            continue
        if not all(masked[k:end]):
            continue
        score = sum(float(logprobs[k + j, token]) for j, token in enumerate(span))
        if score > best:
            best, start = score, k
    return best, start


def random_logprobs(rows, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, LENGTH, VOCABULARY, generator=generator, dtype=torch.float64)
    return logits.log_softmax(-1)


spans = st.lists(st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=4), min_size=1,
                 max_size=5)


@settings(max_examples=60, deadline=None)
@given(spans, st.integers(0, 8), st.integers(3, 8), st.sampled_from(BOUNDS), st.integers(0, 99))
def test_equals_the_literal_loop(spans, first, width, bounds, seed):
    window = (first, min(first + width, LENGTH - 1))
    logprobs = random_logprobs(len(spans), seed)
    best, start = windowed_max_loglik(logprobs, spans, window, bounds)
    for row, span in enumerate(spans):
        score, k = literal(logprobs[row], span, window, bounds)
        assert int(start[row]) == k
        assert float(best[row]) == pytest.approx(score, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(spans, st.lists(st.booleans(), min_size=8, max_size=8), st.integers(0, 99))
def test_a_span_takes_masked_slots_alone(spans, flags, seed):
    masked = [True] * 4 + flags  # the first four: every span fits somewhere
    ids, lengths = padded(spans)
    logprobs = random_logprobs(len(spans), seed)
    tokens = logprobs.gather(2, ids[:, None].expand(-1, LENGTH, -1))
    best, start = best_start(tokens, lengths, (0, LENGTH - 1), "start",
                             torch.tensor([masked] * len(spans)))
    for row, span in enumerate(spans):
        expected, k = literal(logprobs[row], span, (0, LENGTH - 1), "start", masked)
        assert int(start[row]) == k and float(best[row]) == pytest.approx(expected, abs=1e-12)


def test_a_sentence_at_two_places_weighs_as_much_as_one_at_one():
    spans, lengths = padded([[1, 2], [3]])
    tokens = random_logprobs(2).gather(2, spans[:, None].expand(-1, LENGTH, -1))
    alone = [best_start(tokens, lengths, window)[0] for window in ((0, 0), (4, 8))]
    both, start = score([(tokens, lengths)] * 2, places("both", (4, 8), LENGTH))
    assert torch.allclose(both, sum(alone) / 2)
    assert torch.equal(start, best_start(tokens, lengths, (4, 8))[1])


def test_each_window_may_have_a_sentence_of_its_own():
    one, other = ((random_logprobs(2).gather(2, ids[:, None].expand(-1, LENGTH, -1)), lengths)
                  for ids, lengths in (padded([[1, 2], [3]]), padded([[4], [5, 6, 0]])))
    found, start = score([one, other], [(0, 0), (4, 8)])
    (first, _), (second, expected) = best_start(*one, (0, 0)), best_start(*other, (4, 8))
    assert torch.allclose(found, (first + second) / 2) and torch.equal(start, expected)
    with pytest.raises(ValueError, match="zip"):
        score([one], [(0, 0), (4, 8)])


def test_places_are_the_windows_of_a_response():
    assert {where: places(where, (4, 8), LENGTH)
            for where in ("window", "start", "both", "everywhere")} == {
        "window": [(4, 8)], "start": [(0, 0)], "both": [(0, 0), (4, 8)],
        "everywhere": [(0, 0), (0, LENGTH - 1)]}


def test_the_two_readings_differ_and_the_start_window_may_be_left_at_its_end():
    logprobs = torch.full((1, LENGTH, VOCABULARY), -5.0)
    logprobs[0, 6, 1] = logprobs[0, 7, 2] = 0.0  # best place of [1, 2] starts at the window's end
    window = (3, 6)
    assert windowed_max_loglik(logprobs, [[1, 2]], window, "start")[1].tolist() == [6]
    best, start = windowed_max_loglik(logprobs, [[1, 2]], window, "whole")
    assert (best.tolist(), start.tolist()) == ([-10.0], [3])


def test_window_zero_is_initial_alignment():
    logprobs = random_logprobs(3)
    best, start = windowed_max_loglik(logprobs, [[1, 2, 3]] * 3, (0, 0))
    expected = logprobs[:, 0, 1] + logprobs[:, 1, 2] + logprobs[:, 2, 3]
    assert start.tolist() == [0, 0, 0] and torch.equal(best, expected)


@pytest.mark.parametrize("bounds", BOUNDS)
def test_gradient_is_that_of_finite_differences(bounds):
    logits = torch.randn(2, LENGTH, VOCABULARY, dtype=torch.float64, requires_grad=True)

    def score(logits):
        return windowed_max_loglik(logits.log_softmax(-1), [[1, 2], [3]], (2, 9), bounds)[0]

    assert torch.autograd.gradcheck(score, logits)


@pytest.mark.parametrize(
    ("spans", "window", "bounds", "message"),
    [
        ([[]], (0, 3), "start", "empty"),
        ([[1]], (3, 2), "start", "window"),
        ([[1]], (0, LENGTH), "start", "window"),
        ([[1]], (-1, 2), "start", "window"),
        ([[1, 1, 1]], (2, 3), "whole", "fits nowhere"),
        ([[1, 1, 1]], (11, 11), "start", "fits nowhere"),
        ([[1]], (0, 3), "end", "bounds"),
    ],
)
def test_bad_input_is_one_clear_error(spans, window, bounds, message):
    with pytest.raises(ValueError, match=message):
        windowed_max_loglik(random_logprobs(1), spans, window, bounds)
