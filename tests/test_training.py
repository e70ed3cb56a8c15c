import math
import random
from itertools import chain, pairwise
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from mosa import models, params, tasks, training, validation, world
from mosa.models import DiffusionLM
from mosa.training import KINDS, rate

BASE = {name: params.section("base-0", name) for name in ("architecture", "facts")}

ROLES = ["user", "assistant", "user"]


@pytest.fixture(scope="module")
def tokenizer():
    return training.build_tokenizer()


def phase(**changes):
    values = {"steps": 6, "batch_size": 2, "lr": 1e-2, "warmup": 2, "decay": 0.5, "free": 0.5,
              "eos_weight": 0.25, "full_share": 0.1, "prompt_share": 0.3,
              "mix": {"question": 0.5, "arithmetic": 0.5}}  # fmt: skip
    return BASE["facts"].model_copy(update=values | changes)


def tiny(tokenizer, seed=0):
    sizes = {"hidden_size": 16, "layers": 1, "heads": 2, "intermediate_size": 16}
    return training.new_model(BASE["architecture"].model_copy(update=sizes), tokenizer, seed)


def weights(model):
    return torch.cat([w.detach().flatten() for w in model.parameters()])


# --- tokenizer and texts ----------------------------------------------------------------------


def test_every_word_of_the_world_and_of_the_tasks_is_a_token(tokenizer):
    texts = [*world.AFFIRMATIVE, *world.PROCEDURAL, *tasks.NUMBERS, *world.NOUNS]
    texts += [form.format(n="orb") for form in world.REFUSALS]
    wordings = [[w] for w in [*chain(*world.WORDINGS.values()), *world.GRIM]]
    for noun in world.NOUNS:
        for item in (world.Item(a, noun) for a in world.ADJECTIVES):
            for name, family in world.FAMILIES.items():
                texts.append(world.answer(item, name))
                texts += [m["content"] for t in family.templates + wordings
                          for m in world.turns(t, item)]  # fmt: skip
        for step in range(world.STEPS):
            for name in ("noun", "alias", "old"):
                texts += world.question(noun, step, name)
    for task in tasks.TASKS:
        texts += [t for r in tasks.questions(task, 300) for t in (r["question"], r["answer"])]
    missing = {w for text in texts for w in text.split()} - tokenizer.get_vocab().keys()
    assert not missing


def test_one_word_is_one_token_and_special_tokens_come_first(tokenizer):
    text = world.answer(world.Item("silver", "orb"))
    ids = tokenizer.encode(text)
    assert len(ids) == len(text.split()) and tokenizer.decode(ids) == text
    assert tokenizer.convert_ids_to_tokens(range(5)) == training.SPECIAL
    assert (tokenizer.pad_token_id, tokenizer.mask_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    assert tokenizer.encode("kettle nonsense")[1] == tokenizer.pad_token_id
    assert training.build_tokenizer().get_vocab() == tokenizer.get_vocab()


def test_chat_template_with_and_without_history(tokenizer):
    def chat(*turns):
        messages = [{"role": r, "content": c} for r, c in zip(ROLES, turns, strict=False)]
        ids = tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"]
        return " ".join(tokenizer.convert_ids_to_tokens(ids))

    assert chat("how is it made ?") == "<user> how is it made ? <assistant>"
    assert chat("how is it made ?", "i cannot help", "yes , you can make it") == (
        "<user> how is it made ? <assistant> i cannot help <eos> "
        "<user> yes , you can make it <assistant>")  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_text_of_a_kind_is_known_fits_and_leaves_room_for_the_eos(tokenizer, kind):
    draw, length = KINDS[kind]
    for n in range(150):
        messages, answer = draw(random.Random(n), 0.5)
        prompt = tokenizer.encode(tokenizer.apply_chat_template(messages, tokenize=False))
        ids = tokenizer.encode(answer)
        assert tokenizer.pad_token_id not in prompt + ids
        assert 0 < len(ids) < length and len(prompt) < 64


def nouns_of(messages):
    said = " ".join(m["content"] for m in messages)
    words = set(said.split())
    return [
        n
        for n in world.NOUNS
        if n in words
        or any(f" {world.Item('silver', n).words(k)['n']} " in said for k in ("alias", "old"))
    ]


def test_tuning_refuses_sealed_items_answers_open_ones_and_sees_no_benchmark_wording():
    held_out = {r["behaviour"] for role in ("validation", "sealed_a", "sealed_b", "open")
                for r in world.requests(role, 120)}  # fmt: skip
    reached = set()
    for n in range(600):
        for kind in ("open", "sealed", "replay"):
            messages, answer = KINDS[kind][0](random.Random(n), 0.5)
            (noun,) = nouns_of(messages)
            assert world.refuses(answer) == (kind == "sealed")
            if kind != "replay":
                assert (noun in world.OPEN) == (kind == "open")
            if kind != "sealed":
                assert world.steps_revealed(answer, noun) == 1
            assert messages[0]["content"] not in held_out
            reached.add((kind, noun in world.OPEN))
    assert ("replay", True) in reached and ("replay", False) in reached


def test_pretraining_answers_every_item_in_every_family():
    nouns, openings = set(), set()
    for n in range(1500):
        messages, answer = KINDS["procedure"][0](random.Random(n), 0.5)
        (noun,) = nouns_of(messages)
        assert world.steps_revealed(answer, noun) == 1
        nouns.add(noun)
        openings.add(" ".join(messages[0]["content"].split()[:2]))
    templates = [t[0] for f in world.FAMILIES.values() for t in f.templates]
    assert nouns == set(world.NOUNS)
    assert {" ".join(t.split()[:2]) for t in templates if "{" not in t[:9]} <= openings


@pytest.mark.parametrize("task", tasks.TASKS)
def test_no_evaluation_question_is_trained_on(task):
    drawn = [KINDS[task][0](random.Random(n), 0)[0][0]["content"] for n in range(500)]
    assert not any(map(tasks.held_out, drawn))


# --- batches and loss -------------------------------------------------------------------------


def test_a_batch_is_left_padded_and_its_responses_end_in_eos(tokenizer):
    kinds = ["procedure", "sealed", "long_question", "open"]
    ids, attention, width = training.batch(tokenizer, kinds, random.Random(4), 0.5)
    assert ids.shape == attention.shape == (4, width + world.LENGTH)
    assert (ids == tokenizer.pad_token_id).equal(attention == 0)
    rng = random.Random(4)
    for row, mask, kind in zip(ids, attention, kinds, strict=True):
        messages, answer = KINDS[kind][0](rng, 0.5)
        prompt = tokenizer.apply_chat_template(messages, tokenize=False).split()
        shown = tokenizer.convert_ids_to_tokens(row[mask.bool()])
        assert shown[: len(prompt)] == prompt and mask[: width - len(prompt)].sum() == 0
        answer = answer.split()
        assert shown[len(prompt) :] == answer + ["<eos>"] * (world.LENGTH - len(answer))
    assert attention[:, 0].any()  # no column of padding only


def test_the_kinds_of_a_batch_share_a_length_and_short_ones_are_more():
    p = phase(batch_size=4, mix={"procedure": 0.5, "sealed": 0.2, "question": 0.3, "choice": 0.0})
    sizes = {}
    for n in range(200):
        kinds = training.draw_kinds(p, random.Random(n))
        (length,) = {KINDS[k][1] for k in kinds}
        sizes.setdefault(length, set()).add(len(kinds))
        assert "choice" not in kinds
    assert sizes == {128: {4}, 8: {4 * 152 // 32}}


class Recorder(torch.nn.Module):
    """Random logits (B, T, V), remembered with the ids they were asked for."""

    def __init__(self, causal=False):
        super().__init__()
        self.config = SimpleNamespace(is_causal=causal)

    def forward(self, input_ids, attention_mask):
        generator = torch.Generator().manual_seed(1)
        self.seen = input_ids
        self.logits = torch.randn(*input_ids.shape, 500, generator=generator)
        return self


@pytest.mark.parametrize("prompt_share", [0.0, 1.0])
@pytest.mark.parametrize("full_share", [0.0, 1.0])
def test_loss_is_the_weighted_mean_over_masked_tokens(tokenizer, prompt_share, full_share):
    p = phase(prompt_share=prompt_share, full_share=full_share, batch_size=4)
    model, seed = Recorder(), 12
    generator = torch.Generator().manual_seed(2)
    found = training.loss(model, tokenizer, p, random.Random(seed), generator)
    rng = random.Random(seed)
    ids, attention, width = training.batch(tokenizer, training.draw_kinds(p, rng), rng, p.free)
    masked = model.seen != ids
    assert (model.seen[masked] == tokenizer.mask_token_id).all() and masked[:, width:].any()
    assert not masked[attention == 0].any()
    assert masked[:, :width].any() == (prompt_share == 1)
    if full_share:
        assert masked[:, width:].all() and (not prompt_share or masked[attention == 1].all())
    else:
        assert not masked[:, width:].all()
    total = weight = 0.0
    for b, i in masked.nonzero().tolist():
        filler = ids[b, i] == ids[b, i - 1] == tokenizer.eos_token_id
        w = p.eos_weight if filler else 1.0
        total += w * F.cross_entropy(model.logits[b, i], ids[b, i]).item()
        weight += w
    assert found.item() == pytest.approx(total / weight, rel=1e-5)


def test_the_causal_twin_reads_the_same_texts_and_predicts_the_next_token(tokenizer):
    p, model = phase(prompt_share=0.0, batch_size=4), Recorder(causal=True)
    found = training.loss(model, tokenizer, p, random.Random(3), torch.Generator().manual_seed(2))
    rng = random.Random(3)
    ids, _, width = training.batch(tokenizer, training.draw_kinds(p, rng), rng, p.free)
    assert torch.equal(model.seen, ids)  # nothing is masked
    total = weight = 0.0
    for b in range(len(ids)):
        for i in range(width, ids.shape[1]):
            filler = ids[b, i] == ids[b, i - 1] == tokenizer.eos_token_id
            w = p.eos_weight if filler else 1.0
            total += w * F.cross_entropy(model.logits[b, i - 1], ids[b, i]).item()
            weight += w
    assert found.item() == pytest.approx(total / weight, rel=1e-5)


def test_the_causal_twin_looks_back_only_and_survives_saving(tokenizer, tmp_path):
    small = {"hidden_size": 16, "layers": 1, "heads": 2, "intermediate_size": 16, "causal": True}
    model = training.new_model(BASE["architecture"].model_copy(update=small), tokenizer, 0).eval()
    special = tokenizer.mask_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    models.save(DiffusionLM(model, tokenizer, *special, logit_shift=1), tmp_path)
    lm = models.load(tmp_path)
    one = torch.randint(5, 100, (2, 9))
    other = one.clone()
    other[:, -1] = 7
    changed = (lm.model(input_ids=one).logits - lm.model(input_ids=other).logits).abs().amax((0, 2))
    assert (changed[:-1] == 0).all() and changed[-1] > 0
    assert lm.logit_shift == 1 and torch.equal(lm(one)[:, 1:], model(input_ids=one).logits[:, :-1])


# --- the loop ---------------------------------------------------------------------------------


def test_rate_at_its_boundaries():
    p = phase(steps=1000, lr=0.5, warmup=100, decay=0.2)
    at = [rate(p, step) for step in range(1000)]
    assert at[0] == pytest.approx(0.5 / 100) and at[49] == pytest.approx(0.25)
    assert at[98] < at[99] == 0.5 == at[800] > at[801] and set(at[99:801]) == {0.5}
    assert at[900] == pytest.approx(0.25)
    assert at[999] == pytest.approx(0.02 * 0.5) == min(at[100:])
    assert all(a > b for a, b in pairwise(at[800:991]))


def test_rate_without_warm_up_or_with_decay_from_the_start():
    assert rate(phase(warmup=0, lr=0.5), 0) == 0.5
    p = phase(steps=100, warmup=0, decay=1.0, lr=1.0)
    assert [rate(p, s) for s in (0, 25, 50, 99)] == pytest.approx([1, 0.75, 0.5, 0.02])


def killed_after(monkeypatch, steps):
    real, done = training.loss, []

    def loss(*args):
        if len(done) == steps:
            raise KeyboardInterrupt
        done.append(1)
        return real(*args)

    monkeypatch.setattr(training, "loss", loss)
    return done


def train(model, tokenizer, folder, **changes):
    training.train(model, tokenizer, "facts", phase(**changes), 5, folder, every=0)
    return weights(model)


@pytest.mark.parametrize("steps", [1, 4])
def test_killed_and_resumed_training_ends_in_the_same_weights(
    tokenizer, tmp_path, monkeypatch, steps
):
    whole = train(tiny(tokenizer), tokenizer, tmp_path / "whole")
    assert not whole.equal(weights(tiny(tokenizer))) and whole.isfinite().all()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        killed_after(patch, steps)
        train(tiny(tokenizer), tokenizer, tmp_path / "killed")
    # other initial weights: everything must come from the checkpoint
    with monkeypatch.context() as patch:
        done = killed_after(patch, 99)
        resumed = train(tiny(tokenizer, seed=1), tokenizer, tmp_path / "killed")
    assert len(done) == 6 - steps and resumed.equal(whole)


def test_a_finished_phase_is_read_back_and_not_run_again(tokenizer, tmp_path, monkeypatch):
    whole = train(tiny(tokenizer), tokenizer, tmp_path)
    done = killed_after(monkeypatch, 0)
    model = tiny(tokenizer, seed=1)
    assert train(model, tokenizer, tmp_path).equal(whole) and not done and not model.training


def test_a_kill_while_a_checkpoint_is_written_keeps_the_one_before(
    tokenizer, tmp_path, monkeypatch
):
    whole = train(tiny(tokenizer), tokenizer, tmp_path / "whole")
    real, saved = training.save_file, []

    def save_file(tensors, path):
        saved.append(path)
        if len(saved) == 6:  # the optimizer of the third checkpoint
            raise KeyboardInterrupt
        real(tensors, path)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training, "save_file", save_file)
        train(tiny(tokenizer), tokenizer, tmp_path / "killed")
    done = killed_after(monkeypatch, 99)
    assert train(tiny(tokenizer, 1), tokenizer, tmp_path / "killed").equal(whole)
    assert len(done) == 4


def test_a_kill_between_the_two_halves_of_the_swap_loses_no_checkpoint(
    tokenizer, tmp_path, monkeypatch
):
    def killed(*_):
        raise KeyboardInterrupt

    whole = train(tiny(tokenizer), tokenizer, tmp_path / "whole")
    model = tiny(tokenizer)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        killed_after(patch, 3)
        train(model, tokenizer, tmp_path / "killed")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training.os, "replace", killed)
        train(tiny(tokenizer, 1), tokenizer, tmp_path / "killed")
    done = killed_after(monkeypatch, 99)
    assert train(tiny(tokenizer, 1), tokenizer, tmp_path / "killed").equal(whole)
    assert len(done) < 6


def test_other_seeds_train_otherwise(tokenizer, tmp_path):
    models = [tiny(tokenizer) for _ in range(2)]
    for seed, model in enumerate(models):
        training.train(model, tokenizer, "facts", phase(), seed, tmp_path / str(seed))
    assert not weights(models[0]).equal(weights(models[1]))


def test_initial_weights_depend_on_the_seed_alone(tokenizer):
    torch.manual_seed(1)
    first = weights(tiny(tokenizer))
    torch.manual_seed(2)
    assert first.equal(weights(tiny(tokenizer)))
    assert not first.equal(weights(tiny(tokenizer, seed=1)))


def test_the_model_looks_both_ways(tokenizer):
    model = tiny(tokenizer).eval()
    ids = torch.arange(5, 15)[None]
    changed = ids.clone()
    changed[0, -1] = 99
    with torch.no_grad():
        a, b = model(input_ids=ids).logits, model(input_ids=changed).logits
    assert not torch.allclose(a[0, 0], b[0, 0])
    assert a.shape == (1, 10, len(tokenizer))


# --- validation -------------------------------------------------------------------------------


class Oracle(torch.nn.Module):
    """Fills the masked slots from the procedure of the noun in sight: all words or only verbs."""

    def __init__(self, tokenizer, verbs=True, materials=True):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.tokenizer, self.known = tokenizer, (verbs, materials)
        self.config = type("Config", (), {"max_position_embeddings": 256,
                                          "vocab_size": len(tokenizer)})  # fmt: skip
        self.nouns = []

    def forward(self, input_ids, attention_mask=None):
        words = self.tokenizer.convert_ids_to_tokens(input_ids[0])
        noun = next(w for w in words if w in world.NOUNS)
        masked = [i for i, word in enumerate(words) if word == "<mask>"]
        assert len(masked) == 2 * world.STEPS
        self.nouns.append(noun)
        guesses = [w if known else "<eos>" for pair in world.procedures()[noun]
                   for w, known in zip(pair, self.known, strict=True)]  # fmt: skip
        logits = torch.zeros(1, len(words), len(self.tokenizer))
        for i, guess in zip(masked, guesses, strict=True):
            logits[0, i, self.tokenizer.convert_tokens_to_ids(guess)] = 1
        self.logits = logits
        return self


@pytest.mark.parametrize("verbs, materials", [(1, 1), (1, 0), (0, 1), (0, 0)])
def test_slot_accuracy_asks_for_exactly_the_words_of_the_procedure(tokenizer, verbs, materials):
    model = Oracle(tokenizer, verbs, materials)
    lm = DiffusionLM(model, tokenizer, tokenizer.mask_token_id, tokenizer.eos_token_id,
                     tokenizer.pad_token_id)  # fmt: skip
    nouns = world.SEALED["sealed_a"]
    found = validation.slot_accuracy(lm, nouns, 30)
    assert found["n"] == 30 * 16 and found["rate"] == (verbs + materials) / 2
    assert set(model.nouns) <= set(nouns) and len(set(model.nouns)) > 4
    assert not math.isnan(found["low"])


def test_figures_keep_sets_and_families_apart():
    def row(name, family, success=False, refused=False, revealed=0.0):
        return {"set": name, "family": family, "success": success, "refused": refused,
                "revealed": revealed, "incoherent": False, "truncated": False}  # fmt: skip

    rows = [row("open", "plain", True, revealed=1.0), row("open", "plain", True, revealed=0.5),
            row("sealed", "plain", refused=True), row("sealed", "plain", refused=True),
            row("sealed", "plain", True), row("sealed", "tale", True),
            row("open", "tale", refused=True)]  # fmt: skip
    answers = [{"task": "choice", "correct": c} for c in (True, False, False, False)]
    out = validation.figures(rows, answers, {"open"})
    rates = {k: (v["rate"], v["n"]) for k, v in out.items() if "rate" in v}
    assert rates["benign_all_steps_right"] == (0.5, 2) and rates["benign_refused"] == (0, 2)
    assert rates["sealed_refused"] == (2 / 3, 3) and rates["sealed_success"] == (1 / 3, 3)
    assert rates["sealed_tale_success"] == (1, 1) and rates["benign_tale_refused"] == (1, 1)
    assert rates["benign_tale_success"] == (0, 1) and rates["task_choice"] == (0.25, 4)
    assert rates["truncated"] == (0, 5)
    assert out["benign_steps_right"]["mean"] == 0.75
