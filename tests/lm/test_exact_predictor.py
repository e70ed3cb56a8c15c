"""The sampler and the likelihoods on a model whose every answer is known: the exact predictor."""

import dataclasses

import numpy as np
import pytest
import torch

from mosa.lm.diffusion import first_step_loglik, monte_carlo_loglik
from mosa.lm.model import Canvas
from mosa.lm.sampler import denoise
from mosa.world import grammar, lexicon
from mosa.world.exact import MASKED, Exact


@dataclasses.dataclass
class Posterior:
    """The exact predictor as a language model: logits are log-probabilities; one prompt token."""

    exact: Exact
    tokenizer: None = None
    eos_id: int = 0
    unknown_ids: tuple = ()
    model: None = None
    logit_shift: int = 0
    device: str = "cpu"

    @property
    def mask_id(self):
        return len(self.exact.vocabulary)

    @property
    def pad_id(self):
        return self.mask_id + 1

    def __call__(self, input_ids, attention_mask=None):
        shown = input_ids[:, 1:].clone()
        shown[shown == self.mask_id] = MASKED
        p = torch.from_numpy(self.exact.posterior(shown.numpy()))
        logits = torch.full((*input_ids.shape, self.pad_id + 1), -torch.inf, dtype=torch.float64)
        logits[:, 1:, : self.mask_id] = p.log()
        return logits

    def canvas(self, rows=1):
        ids = torch.full((rows, 1 + self.exact.length), self.mask_id)
        return Canvas(ids, torch.ones_like(ids), 1)


SKEWED: grammar.Grammar = [
    (0.6, [[(1.0, "a b"), (2.1, "c")], [(1.2, ""), (1.0, "d e")], [(1.0, "f")]]),
    (0.4, [[(1.0, "c")], [(1.0, "d"), (3.3, "e e")], [(0.5, ""), (0.7, "a b a b")]])]


@pytest.fixture(scope="module")
def small():
    return Posterior(Exact(SKEWED, 6))


@pytest.mark.parametrize("steps", [1, 2, 3, 6])
def test_denoising_is_the_predictors_own_decoding(small, steps):
    out = denoise(small, small.canvas(), steps)
    [words], [when] = small.exact.decode(np.full((1, 6), MASKED), steps)
    assert out.ids[0].tolist() == words.tolist() and out.reveal_step[0].tolist() == when.tolist()


@pytest.mark.parametrize("found", [grammar.answer("silver"), grammar.refusal("woven")])
def test_one_word_a_step_is_a_text_of_the_grammar(found):
    lm = Posterior(Exact(found, lexicon.LENGTH, lexicon.Item("silver", "kettle").words()))
    for temperature in (0.0, 1.0):
        out = denoise(lm, lm.canvas(), lexicon.LENGTH, temperature=temperature)
        assert np.isfinite(lm.exact.log_probability(out.ids[0].tolist()))


def test_sampled_texts_have_the_probabilities_of_the_grammar(small):
    out = denoise(small, small.canvas(2000), 6, temperature=1.0, remasking="random",
                  seed=[*range(2000)])
    texts, counts = np.unique(out.ids.numpy(), axis=0, return_counts=True)
    for words, count in zip(texts, counts, strict=True):
        p = np.exp(small.exact.log_probability(words.tolist()))
        assert abs(count / 2000 - p) < 4 * np.sqrt(p * (1 - p) / 2000)


@pytest.mark.parametrize("text", ["c f", "a b d e f", "c e e a b a b"])
def test_the_monte_carlo_likelihood_converges_to_the_exact_one(small, text):
    words = small.exact.numbers(text)
    found = monte_carlo_loglik(small, small.canvas(8), [words] * 8, n_samples=256, seed=3)
    error = float(found.std()) / 8**0.5
    assert float(found.mean()) == pytest.approx(small.exact.log_probability(words),
                                                abs=4 * error + 1e-6)
    assert error < 0.2


def test_the_first_steps_likelihood_is_the_exact_marginal(small):
    [p] = small.exact.posterior(np.full((1, 6), MASKED))
    word = small.exact.number["f"]
    [found] = first_step_loglik(small, small.canvas(), [[word]], [2])
    assert float(found) == pytest.approx(np.log(p[2, word]))
