"""Noising at its boundaries, the losses against their formulas, likelihoods against enumeration."""

import itertools

import pytest
import torch
from lm.folders import random_llama

from mosa.lm.diffusion import (
    first_step_loglik,
    first_step_profile,
    masked_cross_entropy,
    monte_carlo_loglik,
    noise,
    response_logits,
    row_generators,
)
from mosa.lm.model import Canvas, DiffusionLM

VOCAB, MASK, EOS, PAD = 13, 12, 1, 0


@pytest.fixture(scope="module")
def lm():
    return DiffusionLM(random_llama(VOCAB), None, MASK, EOS, PAD)


def log_p(lm, prompt, response):
    """Log-probabilities (L, V) of one unpadded row whose response holds some masks."""
    return lm(torch.tensor([[*prompt, *response]]))[0, len(prompt) :].log_softmax(-1)


# --- noise and losses


def test_noise_at_its_boundaries():
    ids = torch.arange(12).view(3, 4) % 10
    maskable = torch.tensor([[False, True, True, True]] * 3)
    noised, masked = noise(ids, maskable, torch.tensor([0.0, 1.0, 0.0]), MASK)
    assert masked.tolist() == [[False] * 4, [False, True, True, True], [False] * 4]
    assert noised[[0, 2]].equal(ids[[0, 2]]) and noised[1].tolist() == [4, MASK, MASK, MASK]


@pytest.mark.parametrize(("draw", "masked"), [(0.0, [False, True]), (1 - 2**-24, [False, True])])
def test_noise_at_the_extremes_of_the_random_numbers(monkeypatch, draw, masked):
    monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.full(shape, draw))
    ids, t = torch.zeros(2, 1, dtype=torch.long), torch.tensor([0.0, 1.0])
    assert noise(ids, ids == 0, t, MASK)[1][:, 0].tolist() == masked


def test_noise_masks_a_share_t_of_each_row_independently():
    ids, t = torch.zeros(2, 20000, dtype=torch.long), torch.tensor([0.1, 0.7])
    _, masked = noise(ids, ids == 0, t, MASK, torch.Generator().manual_seed(0))
    assert torch.allclose(masked.float().mean(1), t, atol=0.02)  # 6 standard errors
    pairs = (masked[:, 1:] & masked[:, :-1]).float().mean(1)
    assert torch.allclose(pairs, t**2, atol=0.02)  # neighbours are independent


def test_noise_follows_its_generator():
    ids, t = torch.zeros(2, 50, dtype=torch.long), torch.tensor([0.5, 0.5])
    draws = [noise(ids, ids == 0, t, MASK, torch.Generator().manual_seed(s))[1] for s in (1, 1, 2)]
    assert draws[0].equal(draws[1]) and not draws[0].equal(draws[2])


@pytest.mark.parametrize(
    ("t", "error"),
    [
        (torch.tensor([0.5]), "needs ids"),
        (torch.tensor([0.5, 1.01]), r"in \[0, 1\]"),
        (torch.tensor([-0.1, 0.5]), r"in \[0, 1\]"),
        (torch.tensor([float("nan"), 0.5]), r"\[0, 1\]"),
    ],
)
def test_noise_errors(t, error):
    ids = torch.zeros(2, 3, dtype=torch.long)
    with pytest.raises(ValueError, match=error):
        noise(ids, ids == 0, t, MASK)


@pytest.fixture()
def batch():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(3, 6, VOCAB, generator=generator)
    ids = torch.randint(VOCAB, (3, 6), generator=generator)
    maskable = torch.arange(6) >= torch.tensor([[0], [2], [4]])
    t = torch.tensor([0.5, 1.0, 0.25])
    masked = torch.tensor([[1, 0, 0, 1, 0, 1], [0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 1, 0]]).bool()
    return logits, ids, masked, t, maskable


def plain_loss(logits, ids, masked, t, maskable, weights):
    """The SFT loss of LLaDA's GUIDELINES.md, in loops, and the weighted mean over masked tokens."""
    sft = total = count = 0.0
    for b in range(3):
        length = sum(weights[b][i] for i in range(6) if maskable[b, i])
        for i in range(6):
            if masked[b, i]:
                p = logits[b, i].exp() / logits[b, i].exp().sum()
                ce = -p[ids[b, i]].log().item() * weights[b][i]
                sft += ce / t[b].item() / length / 3
                total, count = total + ce, count + weights[b][i]
    return sft, total / count


@pytest.mark.parametrize(
    "weights", [[[1.0] * 6] * 3, [[0.1, 0.5, 1.0, 2.0, 0.3, 0.7], [1.0] * 6, [0.2] * 6]]
)
def test_losses_equal_their_formulas(batch, weights):
    logits, ids, masked, t, maskable = batch
    sft, uniform = plain_loss(*batch, weights)
    given = torch.tensor(weights)
    assert masked_cross_entropy(logits, ids, masked, t, given, maskable) == pytest.approx(sft)
    assert masked_cross_entropy(
        logits, ids, masked, weights=given, weighting="uniform"
    ) == pytest.approx(uniform)
    if weights[0] == [1.0] * 6:  # the default
        assert masked_cross_entropy(logits, ids, masked, t, maskable=maskable).item() == (
            pytest.approx(sft)
        )


def test_pretraining_loss_divides_by_the_whole_length(batch):
    logits, ids, masked, t, _ = batch
    want = plain_loss(*batch[:4], torch.ones(3, 6) > 0, [[1.0] * 6] * 3)[0]
    assert masked_cross_entropy(logits, ids, masked, t) == pytest.approx(want)


def test_zero_weight_tokens_do_not_count(batch):
    logits, ids, masked, t, maskable = batch
    weights = torch.ones(3, 6)
    weights[:, 5] = 0.0
    changed = ids.clone()
    changed[:, 5] = (ids[:, 5] + 1) % VOCAB
    for options in ({"t": t, "maskable": maskable}, {"weighting": "uniform"}):
        loss = masked_cross_entropy(logits, ids, masked, weights=weights, **options)
        assert loss == masked_cross_entropy(logits, changed, masked, weights=weights, **options)
        assert loss != masked_cross_entropy(logits, ids, masked, **options)


def test_loss_over_t_estimates_the_unmasked_mean():
    """E over masks of the 1/t loss is the mean CE of all maskable tokens, whatever t."""
    logits = torch.randn(1, 5, VOCAB, generator=torch.Generator().manual_seed(2))
    ids = torch.tensor([[3, 4, 5, 6, 7]])
    want = torch.nn.functional.cross_entropy(logits[0], ids[0]).item()
    for t in (0.2, 0.9):
        expected = 0.0
        for pattern in itertools.product([False, True], repeat=5):
            chance = t ** sum(pattern) * (1 - t) ** (5 - sum(pattern))
            expected += (
                chance
                * masked_cross_entropy(
                    logits, ids, torch.tensor([pattern]), torch.tensor([t])
                ).item()
            )
        assert expected == pytest.approx(want, rel=1e-5)


def test_gradient_reaches_masked_positions_only(batch):
    logits, ids, masked, t, _ = batch
    logits.requires_grad_()
    masked_cross_entropy(logits, ids, masked, t).backward()
    assert (logits.grad.abs().sum(-1) > 0).equal(masked)


def test_nothing_masked_or_weighted_gives_a_differentiable_zero(batch):
    logits, ids, masked, t, _ = batch
    logits.requires_grad_()
    nothing = torch.zeros_like(masked)
    for mask, weights in ((nothing, None), (masked, torch.zeros(3, 6))):
        for options in ({"t": t}, {"weighting": "uniform"}):
            loss = masked_cross_entropy(logits, ids, mask, weights=weights, **options)
            loss.backward()
            assert loss == 0 and (logits.grad == 0).all()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({}, "needs t"),
        ({"weighting": "1/T"}, "unknown weighting"),
        ({"t": torch.tensor([0.5, 0.0, 0.5])}, "t = 0 has masked"),
    ],
)
def test_loss_errors(batch, options, error):
    logits, ids, masked, _, _ = batch
    with pytest.raises(ValueError, match=error):
        masked_cross_entropy(logits, ids, masked, **options)


# --- likelihoods


def test_response_logits_cut_common_padding_only(lm):
    canvas = lm.canvas([[3] * 9, [4, 5], [6]], length=4)
    widths = []

    def counting(ids, attention_mask):
        widths.append(ids.shape[1])
        return lm(ids, attention_mask)

    for rows in ([0, 1, 2], [1, 2], [2]):
        ids, attention = canvas.ids[rows], canvas.attention_mask[rows]
        got = response_logits(counting, ids, attention, 4)
        assert torch.allclose(got, lm(ids, attention)[:, -4:], atol=1e-5)
    assert widths == [9 + 4, 2 + 4, 1 + 4]


PROMPTS = [[3, 4, 5], [6]]


def test_first_step_equals_one_row_at_a_time(lm):
    canvas = lm.canvas(PROMPTS, length=6, prefill={5: [9]})
    spans, positions = [[2, 3, 4], [7]], [2, 0]
    got = first_step_loglik(lm, canvas, spans, positions)
    for row, (span, position) in enumerate(zip(spans, positions, strict=True)):
        table = log_p(lm, PROMPTS[row], [MASK] * 5 + [9])
        want = sum(table[position + j, token].item() for j, token in enumerate(span))
        assert got[row].item() == pytest.approx(want, abs=1e-5)
    assert first_step_loglik(lm, canvas, spans, 1).tolist() == (
        first_step_loglik(lm, canvas, spans, [1, 1]).tolist()
    )


def test_first_step_is_a_distribution_over_one_slot_and_takes_one_forward(lm):
    calls = []

    class Counting(DiffusionLM):
        def __call__(self, *inputs):
            calls.append(inputs)
            return super().__call__(*inputs)

    counting = Counting(lm.model, None, MASK, EOS, PAD)
    got = first_step_loglik(
        counting, lm.canvas([[3]] * VOCAB, length=4), [[v] for v in range(VOCAB)], 3
    )
    assert got.exp().sum().item() == pytest.approx(1.0) and len(calls) == 1


@pytest.mark.parametrize(
    ("spans", "positions", "error"),
    [
        ([[2, 3], [4]], [3, 0], "row 0: a span of 2 tokens at position 3 does not fit .* 4 slots"),
        ([[2], [4]], [0, -1], "row 1: .*does not fit"),
        ([[2], []], 0, "row 1: a span of 0"),
        ([[2, 3], [4]], [1, 0], "row 0: slots 1 to 2 are partly prefilled"),
        ([[2]], 0, "2 rows need 2 spans"),
        ([[2], [3]], [0], "2 spans and positions, got 2 and 1"),
    ],
)
def test_first_step_errors(lm, spans, positions, error):
    with pytest.raises(ValueError, match=error):
        first_step_loglik(lm, lm.canvas(PROMPTS, length=4, prefill={2: [9]}), spans, positions)


def test_the_first_step_s_profile_is_its_likelihood_at_every_slot(lm):
    canvas, span = lm.canvas(PROMPTS, length=6), [2, 3, 4]
    profile = first_step_profile(lm, canvas, span)
    assert profile.shape == (2, 4)
    for slot in range(4):
        expected = first_step_loglik(lm, canvas, [span, span], slot) / 3
        torch.testing.assert_close(profile[:, slot].double(), expected, rtol=1e-5, atol=1e-5)
    for wrong in ([], [2] * 7):
        with pytest.raises(ValueError, match="tokens does not fit into 6 slots"):
            first_step_profile(lm, canvas, wrong)


def any_order(lm, prompt, response, slots):
    """Mean over all orders of the log-likelihood of writing `slots` one token at a time."""
    totals = []
    for order in itertools.permutations(slots):
        row = [MASK if slot in slots else token for slot, token in enumerate(response)]
        total = 0.0
        for slot in order:
            total += log_p(lm, prompt, row)[slot, response[slot]].item()
            row[slot] = response[slot]
        totals.append(total)
    return sum(totals) / len(totals)


def test_monte_carlo_of_one_token_is_exact(lm):
    canvas = lm.canvas(PROMPTS, length=1)
    got = monte_carlo_loglik(lm, canvas, [[4], [7]], n_samples=1)
    want = [log_p(lm, PROMPTS[row], [MASK])[0, token].item() for row, token in ((0, 4), (1, 7))]
    assert got.tolist() == pytest.approx(want, abs=1e-5)
    assert first_step_loglik(lm, canvas, [[4], [7]], 0).tolist() == pytest.approx(want, abs=1e-5)


@pytest.mark.parametrize(
    ("responses", "prefill"),
    [
        ([[4, 7], [EOS, 5]], {}),
        ([[4, 7, 2], [9, 3, EOS]], {}),
        ([[4, 7, 2, 8], [9, 7, 3, EOS]], {1: [7]}),  # a prefilled slot is given, not scored
    ],
)
def test_monte_carlo_agrees_with_enumeration(lm, responses, prefill):
    length = len(responses[0])
    canvas = lm.canvas(PROMPTS, length=length, prefill=prefill)
    got = monte_carlo_loglik(lm, canvas, responses, n_samples=2400, seed=0, batch=800)
    slots = [slot for slot in range(length) if slot not in prefill]
    for row in range(2):
        want = any_order(lm, PROMPTS[row], responses[row], slots)
        assert got[row].item() == pytest.approx(want, abs=0.25)


def test_monte_carlo_estimates_spread_around_enumeration(lm):
    """Unbiased also where n_samples is not a multiple of L: 400 estimates of 2 samples each."""
    prompt, response = [3, 4], [4, 7, 2]
    canvas = lm.canvas([prompt] * 400, length=3)
    got = monte_carlo_loglik(lm, canvas, [response] * 400, n_samples=2, seed=1, batch=800)
    standard_error = got.std().item() / 20
    assert abs(got.mean().item() - any_order(lm, prompt, response, range(3))) < 4 * standard_error


def test_monte_carlo_arguments(lm):
    canvas, responses = lm.canvas(PROMPTS, length=4), [[4, 7, 2, 8], [9, 3, EOS, EOS]]
    base = monte_carlo_loglik(lm, canvas, responses, n_samples=6, seed=0, batch=32)
    small = monte_carlo_loglik(lm, canvas, responses, n_samples=6, seed=0, batch=5)
    assert torch.allclose(base, small, atol=1e-5)
    for options in ({"n_samples": 5}, {"seed": 1}):
        changed = monte_carlo_loglik(lm, canvas, responses, **{"n_samples": 6, **options})
        assert (changed - base).abs().min() > 1e-3
    each = monte_carlo_loglik(lm, canvas, responses, n_samples=6, seed=[8, 9])
    second = Canvas(canvas.ids[1:], canvas.attention_mask[1:], canvas.prompt_length)
    alone = monte_carlo_loglik(lm, second, responses[1:], n_samples=6, seed=[9])
    assert each[1].item() == pytest.approx(alone.item(), abs=1e-5)
    sizes = []

    class Counting(DiffusionLM):
        def __call__(self, ids, attention_mask):
            sizes.append(len(ids))
            return super().__call__(ids, attention_mask)

    monte_carlo_loglik(Counting(lm.model, None, MASK, EOS, PAD), canvas, responses, 6, batch=5)
    assert sizes == [5, 5, 2]  # 2 rows of 6 samples


@pytest.mark.parametrize(("n_samples", "gap"), [(4, 2), (8, 1), (2, 4)])
def test_monte_carlo_spreads_its_mask_counts_evenly(lm, n_samples, gap):
    seen = []

    class Counting(DiffusionLM):
        def __call__(self, ids, attention_mask):
            seen.extend((ids == MASK).sum(1).tolist())
            return super().__call__(ids, attention_mask)

    counting = Counting(lm.model, None, MASK, EOS, PAD)
    for seed in range(8):
        monte_carlo_loglik(counting, lm.canvas([[3]], length=8), [[5] * 8], n_samples, seed)
        counts = sorted(seen)
        assert [b - a for a, b in itertools.pairwise(counts)] == [gap] * (n_samples - 1)
        assert 1 <= counts[0] and counts[-1] <= 8
        seen.clear()


def test_monte_carlo_leaves_its_canvas_alone(lm):
    canvas = lm.canvas(PROMPTS, length=2)
    before = canvas.ids.clone()
    monte_carlo_loglik(lm, canvas, [[4, 7], [2, 3]], n_samples=3)
    assert canvas.ids.equal(before)


@pytest.mark.parametrize(
    ("prefill", "responses", "options", "error"),
    [
        ({}, [[4, 7, 2]] * 2, {}, r"\(2, 2\) token ids .* got \(2, 3\)"),
        ({}, [[4, 7]], {}, r"got \(1, 2\)"),
        ({}, [[4, 7]] * 2, {"n_samples": 0}, "at least 1"),
        ({}, [[4, 7]] * 2, {"batch": 0}, "at least 1"),
        ({0: [4, 7]}, [[4, 7]] * 2, {}, "no masked"),
        ({}, [[4, 7]] * 2, {"seed": [1]}, "1 values for 2 rows"),
    ],
)
def test_monte_carlo_errors(lm, prefill, responses, options, error):
    with pytest.raises(ValueError, match=error):
        monte_carlo_loglik(lm, lm.canvas(PROMPTS, length=2, prefill=prefill), responses, **options)


def test_row_generators_differ_beyond_32_bits():
    def first(seed, rows):
        return [torch.rand(1, generator=g).item() for g in row_generators(seed, rows)]

    assert len(set(first([3, 3 + 2**32, 3 + 2**33, 4], 4))) == 4
    assert len(set(first(3, 4) + first(4, 4))) == 8 and first(3, 2) == first(3, 4)[:2]
