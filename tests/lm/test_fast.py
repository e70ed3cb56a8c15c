"""The fast forward, and what decodes with it, beside the plain reference."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_model import tiny

from mosa.lm.fast import Fast
from mosa.lm.sampler import denoise


@pytest.fixture(scope="module")
def lm():
    lm = tiny(weight_std=0.5)
    with torch.no_grad():
        for weight in lm.model.parameters():
            if weight.dim() == 1:  # norms are all ones in a new model
                weight.uniform_(0.5, 1.5)
    return lm


@given(st.integers(1, 4), st.integers(2, 9), st.integers(0, 2**16))
@settings(max_examples=30, deadline=None)
@torch.no_grad()
def test_the_logits_are_those_of_the_module(rows, length, seed):
    lm, generator = tiny(weight_std=0.5), torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 500, (rows, length), generator=generator)
    wanted = torch.rand(rows, length, generator=generator) < 0.5
    wanted[0, 0] = True  # a row may have none, but not all of them
    found = Fast(lm.model)(ids, wanted)
    torch.testing.assert_close(found, lm(ids)[wanted], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_weights_of_norms_are_not_forgotten(lm):
    ids = torch.randint(5, 500, (2, 12))
    wanted = torch.ones_like(ids, dtype=torch.bool)
    torch.testing.assert_close(Fast(lm.model)(ids, wanted), lm(ids)[wanted], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("block_length", [16, 4])
@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_decoding_gives_the_same_tokens_at_the_same_steps(lm, monkeypatch, block_length,
                                                          temperature):
    chats = [[{"role": "user", "content": f"tell me how to make a silver {noun} ."}]
             for noun in ("orb", "kettle", "vault")]
    canvas = lm.canvas(chats, 16, [{}, {5: "the next step is to"}, {0: "sure ,"}])
    assert canvas.attention_mask.all()
    used, plain = [], Fast.serves
    monkeypatch.setattr(Fast, "serves", lambda model: bool(used.append(1)) or plain(model))
    fast = denoise(lm, canvas, 8, block_length, temperature, seed=3)
    assert used
    monkeypatch.setattr(Fast, "serves", lambda model: False)
    slow = denoise(lm, canvas, 8, block_length, temperature, seed=3)
    assert fast.ids.equal(slow.ids) and fast.reveal_step.equal(slow.reveal_step)
    assert fast.forwards.equal(slow.forwards)


def test_only_what_it_knows_is_served(lm):
    assert Fast.serves(lm.model)
    assert not Fast.serves(tiny(causal=True).model)
    assert not Fast.serves(tiny().model.bfloat16())
    assert not Fast.serves(torch.nn.Linear(2, 2))
