"""First-step profiles against the model's own logits, and the exact ones against drawn texts."""

import random

import numpy as np
import pytest
from tiny_model import tiny

from mosa.utility import first_step
from mosa.world import lexicon, requests

LENGTH = 12


@pytest.fixture(scope="module")
def rows():
    return requests.requests("sealed_a", 3)


def test_profiles_are_those_of_the_blank_response(rows):
    lm = tiny()
    chats = [requests.wrap(row, "plain") for row in rows]
    found = first_step.profiles(lm, chats, LENGTH, batch=2)
    assert tuple(found) == first_step.PROFILES
    for i, chat in enumerate(chats):  # alone: no padding, no batch
        ids = lm.canvas([chat], LENGTH).ids
        p = lm(ids)[0, -LENGTH:].softmax(-1).detach()
        np.testing.assert_allclose(found["p(EOS)"][i], p[:, lm.eos_id], rtol=1e-3)
        np.testing.assert_allclose(found["largest probability"][i], p.amax(1), rtol=1e-3)


def test_the_exact_p_eos_is_the_share_of_texts_that_have_ended(rows):
    [row] = rows[:1]
    [p] = first_step.exact_profiles([row], "refusal", lexicon.LENGTH)["p(EOS)"]
    item = lexicon.Item(*row["item"].split())
    lengths = [len(requests.refusal(random.Random(i), item).split()) for i in range(2000)]
    ended = np.array([np.mean([n <= slot for n in lengths]) for slot in range(lexicon.LENGTH)])
    assert abs(p - ended).max() < 0.05
    assert (np.diff(p) > -1e-9).all()  # nothing follows an end


def test_an_answer_overfills_the_response_and_its_start_is_surest(rows):
    found = first_step.exact_profiles(rows, "answer", lexicon.LENGTH)
    sure = found["largest probability"].mean(0)
    assert found["p(EOS)"][:, :100].max() < 0.01
    assert sure[:8].mean() > 2 * sure[64:].mean()
