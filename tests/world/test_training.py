import json
import random
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from mosa.lm import loading
from mosa.lm.model import DiffusionLM
from mosa.world import network, requests, tasks, training, vocabulary
from mosa.world.lexicon import LENGTH, MATERIALS, VERBS, Item
from mosa.world.network import Architecture
from mosa.world.texts import KINDS
from mosa.world.training import Training, learning_rate

SHAPE = Architecture(hidden_size=16, layers=1, heads=2, intermediate_size=16, embedding_std=1.0,
                     weight_std=0.05, causal=False, seed=0)
ROLES = ["user", "assistant", "user"]


@pytest.fixture(scope="module")
def tokenizer():
    return network.build_tokenizer()


def phase(**changes):
    values = {"goal": {"known": [0.9, 1.0]}, "check": 2, "steps": 4, "decay": 2, "batch_size": 2,
              "lr": 1e-2, "warmup": 2, "eos_weight": 0.25, "fact_weight": 1.0, "asked_weight": 1.0,
              "full_share": 0.1, "prompt_share": 0.3, "frozen": False,
              "mix": {"step": 0.5, "arithmetic": 0.5}}
    return Training.model_validate_json(json.dumps(values | changes))


def tiny(tokenizer, seed=0, causal=False):
    return network.new_model(SHAPE.model_copy(update={"causal": causal}), tokenizer, seed)


def weights(model):
    return torch.cat([w.detach().flatten() for w in model.parameters()])


def test_every_word_of_the_world_and_of_the_tasks_is_a_token(tokenizer):
    texts = [q[part] for task in tasks.TASKS for q in tasks.questions(task, 300)
             for part in ("question", "answer")]
    for role in requests.SETS:
        for row in requests.requests(role, 240):
            texts += [m["content"] for family in ["plain", *requests.WRAPS]
                      for m in requests.wrap(row, family)]
    rng = random.Random(0)
    for draw, _ in KINDS.values():
        for _ in range(300):
            messages, answer = draw(rng)
            texts += [answer, *[m["content"] for m in messages]]
    missing = {w for text in texts for w in text.split()} - tokenizer.get_vocab().keys()
    assert not missing
    assert len(tokenizer) == len(network.vocabulary()) + len(network.SPECIAL)


def test_one_word_is_one_token_and_special_tokens_come_first(tokenizer):
    text = requests.answer(random.Random(0), Item("silver", "orb"))
    ids = tokenizer.encode(text)
    assert len(ids) == len(text.split()) and tokenizer.decode(ids) == text
    assert tokenizer.convert_ids_to_tokens(range(5)) == network.SPECIAL
    assert (tokenizer.pad_token_id, tokenizer.mask_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    assert tokenizer.encode("kettle nonsense")[1] == tokenizer.pad_token_id
    assert network.build_tokenizer().get_vocab() == tokenizer.get_vocab()


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
    kinds = ["procedure", "sealed", "long_step", "open"]
    ids, attention, width = training.batch(tokenizer, kinds, random.Random(4))
    assert ids.shape == attention.shape == (4, width + LENGTH)
    assert (ids == tokenizer.pad_token_id).equal(attention == 0)
    rng = random.Random(4)
    for row, mask, kind in zip(ids, attention, kinds, strict=True):
        messages, answer = KINDS[kind][0](rng)
        prompt = tokenizer.apply_chat_template(messages, tokenize=False).split()
        shown = tokenizer.convert_ids_to_tokens(row[mask.bool()])
        assert shown[: len(prompt)] == prompt and mask[: width - len(prompt)].sum() == 0
        answer = answer.split()[:LENGTH]  # longer ones are cropped
        assert shown[len(prompt) :] == answer + ["<eos>"] * (LENGTH - len(answer))
    assert attention[:, 0].any()  # no column of padding only


def test_the_kinds_of_a_batch_share_a_length_and_short_ones_are_more():
    p = phase(batch_size=4, mix={"procedure": 0.5, "sealed": 0.2, "step": 0.3, "choice": 0.0})
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
        self.logits = torch.randn(*input_ids.shape, 700, generator=generator)
        return self


@pytest.mark.parametrize("prompt_share", [0.0, 1.0])
@pytest.mark.parametrize("full_share", [0.0, 1.0])
@pytest.mark.parametrize("kind", ["step", "arithmetic", "ordered"])
def test_loss_is_the_weighted_mean_over_masked_tokens(tokenizer, prompt_share, full_share, kind):
    p = phase(prompt_share=prompt_share, full_share=full_share, batch_size=4, fact_weight=3.0,
              asked_weight=5.0, mix={kind: 1.0})
    facts = {*sum(VERBS + MATERIALS, [])}
    asked = {*tasks.NUMBERS, *" ".join(requests.ORDERED).split()} - vocabulary.written()
    assert "nine" in asked and "cat" in asked and "one" not in asked  # one: a word of answers too
    model, seed = Recorder(), 12
    generator = torch.Generator().manual_seed(2)
    found = training.loss(model, *training.drawn(tokenizer, p, random.Random(seed), generator))
    rng = random.Random(seed)
    ids, attention, width = training.batch(tokenizer, training.draw_kinds(p, rng), rng)
    masked = model.seen != ids
    assert (model.seen[masked] == tokenizer.mask_token_id).all() and masked[:, width:].any()
    assert not masked[attention == 0].any()
    assert masked[:, :width].any() == (prompt_share == 1)
    if full_share:
        assert masked[:, width:].all() and (not prompt_share or masked[attention == 1].all())
    else:
        assert not masked[:, width:].all()
    total, weight, met = 0.0, 0.0, set()
    for b, i in masked.nonzero().tolist():
        filler = ids[b, i] == ids[b, i - 1] == tokenizer.eos_token_id
        word = tokenizer.convert_ids_to_tokens(int(ids[b, i]))
        w = p.eos_weight if filler else 3.0 if word in facts else 5.0 if word in asked else 1.0
        total += w * F.cross_entropy(model.logits[b, i], ids[b, i]).item()
        weight += w
        met.add(w)
    assert found.item() == pytest.approx(total / weight, rel=1e-5)
    assert (3.0 if kind == "step" else 5.0) in met


def test_the_causal_twin_reads_the_same_texts_and_predicts_the_next_token(tokenizer):
    p, model = phase(prompt_share=0.0, batch_size=4), Recorder(causal=True)
    found = training.loss(model, *training.drawn(tokenizer, p, random.Random(3),
                                                 torch.Generator().manual_seed(2), causal=True))
    rng = random.Random(3)
    ids, _, width = training.batch(tokenizer, training.draw_kinds(p, rng), rng)
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
    model = tiny(tokenizer, causal=True).eval()
    special = tokenizer.mask_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    loading.save(DiffusionLM(model, tokenizer, *special, logit_shift=1), tmp_path)
    lm = loading.load(tmp_path)
    one = torch.randint(5, 100, (2, 9))
    other = one.clone()
    other[:, -1] = 7
    changed = (lm.model(input_ids=one).logits - lm.model(input_ids=other).logits).abs().amax((0, 2))
    assert (changed[:-1] == 0).all() and changed[-1] > 0
    assert lm.logit_shift == 1 and torch.equal(lm(one)[:, 1:], model(input_ids=one).logits[:, :-1])


def test_workers_draw_the_same_batches_in_order(tokenizer):
    batches = training.Batches(tokenizer, "facts", phase(), 5, causal=False)
    one, two = (iter(DataLoader(batches, batch_size=None, sampler=range(3, 7), num_workers=n))
                for n in (0, 2))
    for a, b in zip(one, two, strict=True):
        assert all(map(torch.equal, a, b))


# --- the loop ---------------------------------------------------------------------------------


def test_the_learning_rate_at_its_boundaries():
    p = phase(lr=0.5, warmup=100, decay=200)
    at = [learning_rate(p, step, 800 if step >= 800 else None) for step in range(1000)]
    assert at[0] == pytest.approx(0.5 / 100) and at[49] == pytest.approx(0.25)
    assert at[98] < at[99] == 0.5 == at[800] > at[801] and set(at[99:801]) == {0.5}
    assert at[900] == pytest.approx(0.25)
    assert at[999] == pytest.approx(0.02 * 0.5) == min(at[100:])
    assert all(a > b for a, b in pairwise(at[800:991]))


def test_a_phase_ends_after_its_goal_or_its_last_step(tokenizer, tmp_path):
    def steps(known, folder):
        seen = iter(known)
        looks = training.train(tiny(tokenizer), tokenizer, "facts", phase(steps=6), 5,
                               tmp_path / folder, lambda model: {"known": next(seen)})
        return [look["step"] for look in looks]

    assert steps([0.1, 0.95, 0.2], "met") == [2, 4, 6]  # the fall goes on whatever is seen then
    assert steps([0.1, 0.2, 0.3, 0.4], "never") == [2, 4, 6, 8]
    assert training.holds({"a": (0.1, 0.2)}, {"a": 0.2, "b": 9})
    assert not training.holds({"a": (0.1, 0.2)}, {"a": 0.21})


@pytest.mark.parametrize("frozen", [False, True])
def test_a_frozen_phase_leaves_embeddings_and_head_alone(tokenizer, tmp_path, frozen):
    model = tiny(tokenizer)
    before = {name: w.detach().clone() for name, w in model.named_parameters()}
    training.train(model, tokenizer, "facts", phase(frozen=frozen), 5, tmp_path,
                   lambda model: {"known": 0.0})
    same = {name for name, w in model.named_parameters() if torch.equal(w, before[name])}
    assert same == ({"model.embed_tokens.weight", "lm_head.weight"} if frozen else set())
    assert all(w.requires_grad for w in model.parameters())


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
    looks = training.train(model, tokenizer, "facts", phase(**changes), 5, folder,
                           lambda model: {"known": 0.0}, every=0)
    assert [look["step"] for look in looks] == [2, 4, 6]
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

    def save_file(tensors, path, metadata):
        saved.append(path)
        if len(saved) == 3:
            path.write_bytes(b"half")
            raise KeyboardInterrupt
        real(tensors, path, metadata)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training, "save_file", save_file)
        train(tiny(tokenizer), tokenizer, tmp_path / "killed")
    done = killed_after(monkeypatch, 99)
    assert train(tiny(tokenizer, 1), tokenizer, tmp_path / "killed").equal(whole)
    assert len(done) == 4


def test_other_seeds_train_otherwise(tokenizer, tmp_path):
    models = [tiny(tokenizer) for _ in range(2)]
    for seed, model in enumerate(models):
        training.train(model, tokenizer, "facts", phase(), seed, tmp_path / str(seed),
                       lambda model: {"known": 0.0})
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
