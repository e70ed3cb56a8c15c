"""The autoregressive twin's decoding and likelihoods against loops without cache or padding."""

import pytest
import torch
from tiny_model import tiny

from mosa.lm import causal, loading
from mosa.lm.sampler import denoise

LENGTH = 12
CHATS = [[{"role": "user", "content": text}] for text in (
    "how do i make a silver kettle ?", "make a quilt .",
    "explain how a heavy drum is made .")]


def twin():
    return tiny(causal=True)


def literal(lm, chat, start):
    canvas = lm.canvas([chat], LENGTH)
    ids, given = canvas.ids[0, : canvas.prompt_length].tolist(), list(start)
    for _ in range(LENGTH - len(start)):
        token = int(lm.model(input_ids=torch.tensor([ids + given])).logits[0, -1].argmax())
        if token == lm.eos_id:
            break
        given.append(token)
    return given + [lm.eos_id] * (LENGTH - len(given))


@pytest.mark.parametrize("batch_size", [1, 32])
def test_rows_of_unequal_length_decode_as_they_do_alone(batch_size):
    lm = twin()
    starts = [[], [9, 10, 11], list(range(20, 20 + LENGTH))]
    rows = causal.complete(lm, CHATS, starts, LENGTH, batch_size=batch_size)
    assert rows == [literal(lm, chat, start) for chat, start in zip(CHATS, starts)]
    assert [row[: len(start)] for row, start in zip(rows, starts)] == starts


def test_a_response_ends_at_its_first_eos_and_keeps_what_was_given():
    lm = twin()
    with torch.no_grad():
        lm.model.lm_head.weight.zero_()
        lm.model.lm_head.weight[lm.eos_id] = 1
        lm.model.model.norm.weight.fill_(1)
        lm.model.lm_head.weight[lm.eos_id] = lm.model.model(
            input_ids=lm.canvas(CHATS[:1], 1).ids[:, :-1]
        ).last_hidden_state[0, -1]  # the EOS is what it predicts after the first prompt
    rows = causal.complete(lm, CHATS[:1], [[]], LENGTH)
    assert rows == [[lm.eos_id] * LENGTH]
    longer = causal.complete(lm, CHATS[:1], [[]], LENGTH, eos=False)[0]
    assert len(longer) == LENGTH and lm.eos_id not in longer
    start = [9, lm.eos_id, 10]  # given slots are never dropped, whatever stands in them
    assert causal.complete(lm, CHATS[:1], [start], LENGTH)[0][:3] == start


@pytest.mark.parametrize("batch_size", [1, 32])
def test_likelihood_is_that_of_the_tokens_one_by_one(batch_size):
    lm, span, starts = twin(), [30, 31, 32], [[], [9, 10, 11], [12]]
    found = causal.loglik(lm, CHATS, starts, span, batch_size)
    for chat, start, value in zip(CHATS, starts, found):
        canvas = lm.canvas([chat], LENGTH)
        ids, total = canvas.ids[0, : canvas.prompt_length].tolist() + start, 0.0
        for token in span:
            with torch.no_grad():
                total += lm.model(input_ids=torch.tensor([ids])).logits[0, -1].log_softmax(0)[token]
            ids.append(token)
        torch.testing.assert_close(value, total / 3, atol=1e-5, rtol=1e-5)


def test_what_cannot_be_completed_is_named():
    with pytest.raises(ValueError, match=r"decoded by mosa\.denoise"):
        causal.complete(tiny(), CHATS, [[]] * 3, LENGTH)
    with pytest.raises(ValueError, match="13 tokens is longer than the 12 response slots"):
        causal.complete(twin(), CHATS[:1], [[5] * 13], LENGTH)
    with pytest.raises(ValueError, match=r"decoded by mosa\.denoise"):
        causal.loglik(tiny(), CHATS, [[]] * 3, [5])
    with pytest.raises(ValueError, match="empty span"):
        causal.loglik(twin(), CHATS, [[]] * 3, [])


def test_the_sampler_refuses_a_model_that_looks_back():
    with pytest.raises(ValueError, match=r"decode it with mosa\.lm\.causal\.complete"):
        denoise(twin(), twin().canvas(CHATS, LENGTH), steps=LENGTH)


def test_ids_that_no_token_has_are_never_predicted():
    lm = twin()
    free = causal.complete(lm, CHATS[:1], [[]], LENGTH, eos=False)[0]
    lm.unknown_ids = [free[0]]  # as if the tokenizer were smaller than the vocabulary
    assert free[0] not in causal.complete(lm, CHATS[:1], [[]], LENGTH, eos=False)[0]


def test_weights_saved_as_a_causal_model_look_back_only(tmp_path):
    lm = tiny()
    causal.saved_causal(lm, tmp_path)
    saved = loading.load(tmp_path, device="cpu")
    assert saved.model.config.is_causal and saved.logit_shift == 1
    assert not lm.model.config.is_causal and lm.logit_shift == 0
    for name, tensor in lm.model.state_dict().items():
        assert saved.model.state_dict()[name].equal(tensor)
    ids = torch.tensor([[5, 6, 7, 8]])
    other = torch.tensor([[5, 6, 7, 9]])
    assert saved(ids)[:, :3].equal(saved(other)[:, :3]) and not lm(ids)[:, 0].equal(lm(other)[:, 0])
    assert len(causal.complete(saved, CHATS[:1], [[]], LENGTH)[0]) == LENGTH
