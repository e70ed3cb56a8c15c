import json
import math

import pytest
import torch

from mosa.data import sets
from mosa.lm.model import DiffusionLM
from mosa.pipeline import params, sections
from mosa.utility import acceptance
from mosa.world import families, grammar, tasks, training


@pytest.fixture(scope="module")
def tokenizer():
    return training.build_tokenizer()


class Oracle(torch.nn.Module):
    """Fills the masked slots from the procedure of the noun in sight: all words or only verbs."""

    def __init__(self, tokenizer, verbs=True, materials=True):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.tokenizer, self.known = tokenizer, (verbs, materials)
        self.config = type("Config", (), {"max_position_embeddings": 256,
                                          "vocab_size": len(tokenizer)})
        self.nouns = []

    def forward(self, input_ids, attention_mask=None):
        words = self.tokenizer.convert_ids_to_tokens(input_ids[0])
        noun = next(w for w in words if w in grammar.NOUNS)
        masked = [i for i, word in enumerate(words) if word == "<mask>"]
        assert len(masked) == 2 * grammar.STEPS
        self.nouns.append(noun)
        guesses = [w if known else "<eos>" for pair in grammar.procedures()[noun]
                   for w, known in zip(pair, self.known, strict=True)]
        logits = torch.zeros(1, len(words), len(self.tokenizer))
        for i, guess in zip(masked, guesses, strict=True):
            logits[0, i, self.tokenizer.convert_tokens_to_ids(guess)] = 1
        self.logits = logits
        return self


@pytest.mark.parametrize("verbs, materials", [(1, 1), (1, 0), (0, 1), (0, 0)])
def test_slot_accuracy_asks_for_exactly_the_words_of_the_procedure(tokenizer, verbs, materials):
    model = Oracle(tokenizer, verbs, materials)
    lm = DiffusionLM(model, tokenizer, tokenizer.mask_token_id, tokenizer.eos_token_id,
                     tokenizer.pad_token_id)
    nouns = grammar.SEALED["sealed_a"]
    found = acceptance.slot_accuracy(lm, nouns, 30)
    assert found["n"] == 30 * 16 and found["rate"] == (verbs + materials) / 2
    assert set(model.nouns) <= set(nouns) and len(set(model.nouns)) > 4
    assert not math.isnan(found["low"])


def test_figures_keep_sets_and_families_apart():
    def row(name, family, success=False, refused=False, revealed=0.0):
        return {"set": name, "family": family, "success": success, "refused": refused,
                "revealed": revealed, "incoherent": False, "truncated": False}

    rows = [row("open", "plain", True, revealed=1.0), row("open", "plain", True, revealed=0.5),
            row("sealed", "plain", refused=True), row("sealed", "plain", refused=True),
            row("sealed", "plain", True), row("sealed", "tale", True),
            row("open", "tale", refused=True)]
    answers = [{"task": "choice", "correct": c} for c in (True, False, False, False)]
    out = acceptance.figures(rows, answers, {"open"})
    rates = {k: (v["rate"], v["n"]) for k, v in out.items() if "rate" in v}
    assert rates["benign_all_steps_right"] == (0.5, 2) and rates["benign_refused"] == (0, 2)
    assert rates["sealed_refused"] == (2 / 3, 3) and rates["sealed_success"] == (1 / 3, 3)
    assert rates["sealed_tale_success"] == (1, 1) and rates["benign_tale_refused"] == (1, 1)
    assert rates["benign_tale_success"] == (0, 1) and rates["task_choice"] == (0.25, 4)
    assert rates["truncated"] == (0, 5)
    assert out["benign_steps_right"]["mean"] == 0.75


class Knowing:
    """A target that answers every request and question right; `sealed` ones, if it refuses."""

    def __init__(self, lm=None, refuses=True):
        self.lm, self.refuses, self.calls = lm, refuses, []

    def generate(self, requests, sampler, part=""):
        self.calls.append((len(requests), sampler, part))
        return [{"request": r, "response": {"text": self.text(r), "ended": True}, "verdicts": {}}
                for r in requests]

    def text(self, request):
        if "answer" in request:
            return request["answer"]
        item = grammar.Item(*request["item"].split())
        if item.noun not in grammar.OPEN and self.refuses:
            return grammar.REFUSAL
        return families.answer(item, request["family"])


@pytest.fixture
def profile():
    data, sampler = (params.section("embedded", name, sections.SCHEMAS[name])
                     for name in ("data", "sampler"))
    return data.model_copy(update={"n_validation": 6, "n_tasks": 2}), sampler


def of_validation(data):
    rows = sets.behaviours(data)
    return [row for name in data.validation for family in ("plain", "tale")
            for row in sets.wrapped(rows[name], family, data)]


@pytest.mark.parametrize("refuses", [True, False])
def test_a_model_is_validated_in_two_calls(tokenizer, profile, refuses):
    data, sampler = profile
    model = Oracle(tokenizer)
    target = Knowing(DiffusionLM(model, tokenizer, tokenizer.mask_token_id, tokenizer.eos_token_id,
                                 tokenizer.pad_token_id), refuses)
    rows, answers, out = acceptance.validate(
        target, of_validation(data), sets.questions(data), sampler, 3)
    assert [(n, part) for n, _, part in target.calls] == [(24, ""), (6, "questions")]
    assert [row["request"]["id"] for row in rows] == [r["id"] for r in of_validation(data)]
    assert all(set(row["verdicts"]) == {"world"} for row in rows)
    assert all(row["verdicts"] == {"answer": {"correct": True}} for row in answers)
    rates = {k: (v["rate"], v["n"]) for k, v in out.items() if "rate" in v}
    assert rates["sealed_refused"] == rates["sealed_tale_refused"] == (float(refuses), 6)
    assert rates["sealed_success"] == (float(not refuses), 6)
    assert rates["benign_tale_success"] == rates["benign_all_steps_right"] == (1, 6)
    assert rates["task_programs"] == (1, 2)
    assert rates["sealed_slots_right"] == rates["open_slots_right"] == (1, 48)


def test_a_base_model_that_was_tried_is_appended_with_its_recipe(monkeypatch, tmp_path):
    def validate(target, requests, questions, sampler, n_slots):
        seen.append((target, requests, questions, sampler, n_slots))
        return [], [], {"truncated": {"rate": len(seen)}}

    seen, path = [], tmp_path / "tried.json"
    monkeypatch.setattr(acceptance, "validate", validate)
    monkeypatch.setattr(acceptance, "TRIED", path)
    acceptance.log("2", "a first trial")
    acceptance.log("0", "another")
    first, second = json.loads(path.read_text("utf-8"))
    assert (first["label"], second["label"]) == ("a first trial", "another")
    assert (first["figures"], second["figures"]) == (
        {"truncated": {"rate": 1}}, {"truncated": {"rate": 2}})
    assert first["recipe"]["pretraining"]["steps"] == 3000
    assert set(first["recipe"]) == {"architecture", "facts", "pretraining", "tuning"}
    target, requests, questions, *_ = seen[0]
    assert target.name == "embedded-2" and len(questions) == 100 * len(tasks.TASKS)
    assert {r["set"] for r in requests} == {"validation", "open_validation"}  # no benchmark
    with pytest.raises(FileNotFoundError, match="models/embedded-9 is missing: run"):
        acceptance.log("9", "never trained")
