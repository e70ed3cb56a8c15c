"""The goals of training phases, read from a diffusion model and from its autoregressive twin."""

import pytest
import torch
from tiny_model import tiny

from mosa.lm.model import DiffusionLM
from mosa.pipeline.params import section
from mosa.utility import first_step, goals
from mosa.world import lexicon, training

NOUNS = lexicon.OPEN[:5]


class Knows(torch.nn.Module):
    """Names the token after each one right, except those of `wrong`; it looks at what follows."""

    def __init__(self, lm, wrong=()):
        super().__init__()
        self.config, self.weight = lm.model.config, torch.nn.Parameter(torch.zeros(1))
        self.wrong = torch.tensor(lm.tokenizer.convert_tokens_to_ids([*wrong]))

    def forward(self, input_ids, attention_mask=None):
        after = input_ids.roll(-1, 1)
        after[torch.isin(after, self.wrong)] = 0
        logits = torch.nn.functional.one_hot(after, self.config.vocab_size)
        return type("Out", (), {"logits": logits.float()})


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("phase", ["places", "pretraining", "practice", "tuning"])
def test_every_goal_is_measured_whichever_way_a_model_looks(monkeypatch, phase, causal):
    monkeypatch.setattr(goals, "N", 4)
    lm = tiny(causal=causal)
    found = goals.measure(phase, lm.tokenizer)(lm.model)
    assert all(0 <= share <= 1 for share in found.values())
    for other in training.PHASES:
        if goals.MEASURES[other] is goals.MEASURES[phase]:
            goal = section("base-ar" if causal else "base-0", other, training.Training).goal
            assert goal.keys() <= found.keys()
            assert not training.holds(goal, found)  # it is untrained


def test_a_causal_model_is_asked_for_every_procedure_word_after_what_stands_before_it():
    lm = tiny(causal=True)
    with_words = [DiffusionLM(Knows(lm, wrong), lm.tokenizer, lm.mask_id, lm.eos_id, lm.pad_id, 1)
                  for wrong in ((), sum(lexicon.MATERIALS, []), sum(lexicon.VERBS, []))]
    every, verbs, materials = (goals.slots(model, NOUNS) for model in with_words)
    assert every == 1.0
    assert verbs + materials == pytest.approx(1)
    assert verbs == pytest.approx(0.5, abs=0.05)  # a text may end between a verb and its material


def test_the_texts_are_those_of_the_diffusion_model(monkeypatch):
    made, canvas = [], DiffusionLM.canvas
    monkeypatch.setattr(DiffusionLM, "canvas", lambda self, *args: made.append(
        canvas(self, *args)) or made[-1])
    goals.slots(tiny(causal=True), NOUNS)
    first_step.slots_right(tiny(), NOUNS, 0)
    assert len(made) == 2 * len(NOUNS)
    assert all(a.ids.equal(b.ids) for a, b in zip(made, made[len(NOUNS):]))


def test_what_a_model_says_is_cut_at_its_end_either_way():
    for causal in (False, True):
        lm = tiny(causal=causal)
        texts = goals.said(lm, [[{"role": "user", "content": "make a kettle ."}]] * 2, 8)
        assert len(texts) == 2 and texts[0] == texts[1]
        assert len(texts[0].split()) <= 8
