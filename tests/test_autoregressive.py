"""The autoregressive twin's decoding and likelihoods against loops without cache or padding."""

import pytest
import torch
from tiny_model import tiny

from mosa import autoregressive

LENGTH = 12
CHATS = [[{"role": "user", "content": text}] for text in (
    "how do i make a silver kettle ?", "make a quilt .",
    "explain how a heavy drum is made .")]  # fmt: skip


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
    rows = autoregressive.complete(lm, CHATS, starts, LENGTH, batch_size=batch_size)
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
    rows = autoregressive.complete(lm, CHATS[:1], [[]], LENGTH)
    assert rows == [[lm.eos_id] * LENGTH]
    longer = autoregressive.complete(lm, CHATS[:1], [[]], LENGTH, eos=False)[0]
    assert len(longer) == LENGTH and lm.eos_id not in longer
    start = [9, lm.eos_id, 10]  # given slots are never dropped, whatever stands in them
    assert autoregressive.complete(lm, CHATS[:1], [start], LENGTH)[0][:3] == start


@pytest.mark.parametrize("batch_size", [1, 32])
def test_likelihood_is_that_of_the_tokens_one_by_one(batch_size):
    lm, span, starts = twin(), [30, 31, 32], [[], [9, 10, 11], [12]]
    found = autoregressive.loglik(lm, CHATS, starts, span, batch_size)
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
        autoregressive.complete(tiny(), CHATS, [[]] * 3, LENGTH)
    with pytest.raises(ValueError, match="13 tokens is longer than the 12 response slots"):
        autoregressive.complete(twin(), CHATS[:1], [[5] * 13], LENGTH)
    with pytest.raises(ValueError, match=r"decoded by mosa\.denoise"):
        autoregressive.loglik(tiny(), CHATS, [[]] * 3, [5])
    with pytest.raises(ValueError, match="empty span"):
        autoregressive.loglik(twin(), CHATS, [[]] * 3, [])
