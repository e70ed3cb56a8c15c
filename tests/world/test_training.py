import random
from itertools import chain, pairwise
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from mosa.lm import loading
from mosa.lm.model import DiffusionLM
from mosa.pipeline import params
from mosa.world import families, grammar, tasks, training
from mosa.world.texts import KINDS
from mosa.world.training import Architecture, Training, learning_rate

RECIPE = {"architecture": params.section("base-0", "architecture", Architecture),
          "facts": params.section("base-0", "facts", Training)}
ROLES = ["user", "assistant", "user"]


@pytest.fixture(scope="module")
def tokenizer():
    return training.build_tokenizer()


def phase(**changes):
    values = {"steps": 6, "batch_size": 2, "lr": 1e-2, "warmup": 2, "decay": 0.5, "free": 0.5,
              "eos_weight": 0.25, "full_share": 0.1, "prompt_share": 0.3,
              "mix": {"question": 0.5, "arithmetic": 0.5}}
    return RECIPE["facts"].model_copy(update=values | changes)


def tiny(tokenizer, seed=0):
    sizes = {"hidden_size": 16, "layers": 1, "heads": 2, "intermediate_size": 16}
    return training.new_model(RECIPE["architecture"].model_copy(update=sizes), tokenizer, seed)


def weights(model):
    return torch.cat([w.detach().flatten() for w in model.parameters()])


def test_every_word_of_the_world_and_of_the_tasks_is_a_token(tokenizer):
    texts = [*grammar.AFFIRMATIVE, *grammar.PROCEDURAL, *tasks.NUMBERS, *grammar.NOUNS]
    texts += [form.format(n="orb") for form in grammar.REFUSALS]
    wordings = [[w] for w in [*chain(*families.WORDINGS.values()), *families.GRIM]]
    for noun in grammar.NOUNS:
        for item in (grammar.Item(a, noun) for a in grammar.ADJECTIVES):
            for name, family in families.FAMILIES.items():
                texts.append(families.answer(item, name))
                texts += [m["content"] for t in family.templates + wordings
                          for m in families.turns(t, item)]
        for step in range(grammar.STEPS):
            for name in ("noun", "alias", "old"):
                texts += grammar.question(noun, step, name)
    for task in tasks.TASKS:
        texts += [t for r in tasks.questions(task, 300) for t in (r["question"], r["answer"])]
    missing = {w for text in texts for w in text.split()} - tokenizer.get_vocab().keys()
    assert not missing


def test_one_word_is_one_token_and_special_tokens_come_first(tokenizer):
    text = families.answer(grammar.Item("silver", "orb"))
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
        "<user> yes , you can make it <assistant>")


def test_a_batch_is_left_padded_and_its_responses_end_in_eos(tokenizer):
    kinds = ["procedure", "sealed", "long_question", "open"]
    ids, attention, width = training.batch(tokenizer, kinds, random.Random(4), 0.5)
    assert ids.shape == attention.shape == (4, width + grammar.LENGTH)
    assert (ids == tokenizer.pad_token_id).equal(attention == 0)
    rng = random.Random(4)
    for row, mask, kind in zip(ids, attention, kinds, strict=True):
        messages, answer = KINDS[kind][0](rng, 0.5)
        prompt = tokenizer.apply_chat_template(messages, tokenize=False).split()
        shown = tokenizer.convert_ids_to_tokens(row[mask.bool()])
        assert shown[: len(prompt)] == prompt and mask[: width - len(prompt)].sum() == 0
        answer = answer.split()
        assert shown[len(prompt) :] == answer + ["<eos>"] * (grammar.LENGTH - len(answer))
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
    model = training.new_model(RECIPE["architecture"].model_copy(update=small), tokenizer, 0).eval()
    special = tokenizer.mask_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    loading.save(DiffusionLM(model, tokenizer, *special, logit_shift=1), tmp_path)
    lm = loading.load(tmp_path)
    one = torch.randint(5, 100, (2, 9))
    other = one.clone()
    other[:, -1] = 7
    changed = (lm.model(input_ids=one).logits - lm.model(input_ids=other).logits).abs().amax((0, 2))
    assert (changed[:-1] == 0).all() and changed[-1] > 0
    assert lm.logit_shift == 1 and torch.equal(lm(one)[:, 1:], model(input_ids=one).logits[:, :-1])


# --- the loop ---------------------------------------------------------------------------------


def test_the_learning_rate_at_its_boundaries():
    p = phase(steps=1000, lr=0.5, warmup=100, decay=0.2)
    at = [learning_rate(p, step) for step in range(1000)]
    assert at[0] == pytest.approx(0.5 / 100) and at[49] == pytest.approx(0.25)
    assert at[98] < at[99] == 0.5 == at[800] > at[801] and set(at[99:801]) == {0.5}
    assert at[900] == pytest.approx(0.25)
    assert at[999] == pytest.approx(0.02 * 0.5) == min(at[100:])
    assert all(a > b for a, b in pairwise(at[800:991]))


def test_the_learning_rate_without_warm_up_or_with_decay_from_the_start():
    assert learning_rate(phase(warmup=0, lr=0.5), 0) == 0.5
    p = phase(steps=100, warmup=0, decay=1.0, lr=1.0)
    assert [learning_rate(p, s) for s in (0, 25, 50, 99)] == pytest.approx([1, 0.75, 0.5, 0.02])


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
def test_killed_and_resumed_training_ends_in_the_same_weights(tokenizer, tmp_path, monkeypatch,
                                                              steps):
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


def test_a_kill_while_a_checkpoint_is_written_keeps_the_one_before(tokenizer, tmp_path,
                                                                   monkeypatch):
    whole = train(tiny(tokenizer), tokenizer, tmp_path / "whole")
    real, saved = training.save_file, []

    def save_file(tensors, path):
        saved.append(path)
        if len(saved) == 3:
            path.write_bytes(b"half")
            raise KeyboardInterrupt
        real(tensors, path)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training, "save_file", save_file)
        train(tiny(tokenizer), tokenizer, tmp_path / "killed")
    done = killed_after(monkeypatch, 99)
    assert train(tiny(tokenizer, 1), tokenizer, tmp_path / "killed").equal(whole)
    assert len(done) == 4


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
