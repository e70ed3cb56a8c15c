"""GCG (mosa.attacks.gcg and suffix) against brute force on fourteen words, and what its callers
rely on."""

import itertools
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from tiny_model import tiny
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mosa.attacks import gcg
from mosa.attacks.suffix import _canvases
from mosa.lm.diffusion import first_step_loglik
from mosa.lm.loading import save
from mosa.lm.model import DiffusionLM
from mosa.pipeline import params
from mosa.pipeline.sections import Sampler
from mosa.target import Target, Weights

WORDS = ["<pad>", "<mask>", "<eos>", "<user>", "<assistant>", *"abcdefghi"]
FREE = WORDS[5:]
CHAT = "{% for m in messages %}<{{ m.role }}> {{ m.content }} {% endfor %}<assistant>"
MESSAGES = [{"role": "user", "content": "a b c"}]
LENGTH = 10


def tokenizer():
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", mask_token="<mask>", eos_token="<eos>",
        additional_special_tokens=["<user>", "<assistant>"], chat_template=CHAT)


@pytest.fixture(scope="module", params=[False, True], ids=["diffusion", "causal"])
def lm(request):
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=16, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
                         num_attention_heads=2, initializer_range=0.5, is_causal=request.param,
                         use_cache=False, max_position_embeddings=40)
    return DiffusionLM(LlamaForCausalLM(config).double().eval(), tokenizer(), 1, 2, 0,
                       logit_shift=int(request.param))


def config(**changes):
    return gcg.Config(**{"iterations": 4, "candidates": 999, "topk": 999} | changes)


def literal(lm, suffix, phrase, position, draft):
    """The loss of a typed suffix, from the whole chat and a forward of its own."""
    chat = lm.tokenizer.apply_chat_template(
        [{"role": "user", "content": f"a b c {suffix}"}], tokenize=False)
    prompt, span = lm.encode(chat), lm.encode(phrase)
    if lm.model.config.is_causal:
        ids = torch.tensor([[*prompt, *draft[:position], *span]])
        logp = lm.model(input_ids=ids).logits[0].log_softmax(-1)
        first = len(prompt) + position
        return -sum(logp[first + j - 1, t] for j, t in enumerate(span)).item() / len(span)
    canvas = lm.canvas([prompt], LENGTH)
    if draft is not None:
        start = canvas.prompt_length
        canvas.ids[0, start : start + position] = torch.tensor(draft[:position])
    return -first_step_loglik(lm, canvas, [span], position).item() / len(span)


def samples_of(lm, n):
    """Monte-Carlo states: none for a causal model, which has no masks."""
    return 0 if lm.model.config.is_causal else n


def draft_of(lm, always=False):
    return [5, 6, 7, 8, 9, 10, 11, 12, 13, 5] if lm.model.config.is_causal or always else None


@pytest.mark.parametrize("position", [0, 4])
def test_one_token_is_found_as_by_brute_force(lm, position):
    draft = draft_of(lm)
    task = gcg.problem(lm, MESSAGES, "a", "d e", position, LENGTH, draft)
    found = gcg.search(lm, task, config(iterations=1))
    every = {word: literal(lm, word, "d e", position, draft) for word in FREE}
    assert lm.tokenizer.decode(found["suffix"]) == min(every, key=every.get)
    assert found["losses"] == pytest.approx([every["a"], min(every.values())], rel=1e-5)


def test_every_iteration_takes_the_best_of_all_swaps(lm):
    draft = draft_of(lm)
    task = gcg.problem(lm, MESSAGES, "a a", "d e f", 3, LENGTH, draft)
    found = gcg.search(lm, task, config())
    suffix = ["a", "a"]
    curve = [literal(lm, "a a", "d e f", 3, draft)]
    for _ in range(4):
        swaps = [[w if i == place else old for i, old in enumerate(suffix)]
                 for place in range(2) for w in FREE]
        losses = [literal(lm, " ".join(s), "d e f", 3, draft) for s in swaps]
        curve.append(min(losses))
        suffix = swaps[losses.index(min(losses))]
    assert found["losses"] == pytest.approx(curve, rel=1e-5)
    best = min(literal(lm, " ".join(s), "d e f", 3, draft)
               for s in itertools.product(FREE, repeat=2))
    assert found["losses"][-1] >= best - 1e-6


@pytest.mark.parametrize("samples", [0, 3])
def test_gradient_is_that_of_finite_differences(lm, samples):
    task = gcg.problem(lm, MESSAGES, "a b", "d e", 4, LENGTH, draft_of(lm))
    generator = torch.Generator().manual_seed(0)
    shown, weights = gcg.states(lm, task, samples_of(lm, samples), generator)
    found, slope = gcg.gradient(lm, task, torch.tensor(task.suffix), shown, weights)
    weight = lm.model.get_input_embeddings().weight
    assert slope.shape == (2, len(weight))

    def loss(embedded):
        ids = _canvases(task, torch.tensor([task.suffix]), shown)
        inputs = lm.model.get_input_embeddings()(ids).detach()
        inputs[:, len(task.before) : len(task.before) + 2] = embedded
        first = len(task.before) + 2 + len(task.after) + 4
        logp = lm.at(torch.arange(first, first + 2), inputs_embeds=inputs).log_softmax(-1)
        logp = logp.gather(2, torch.tensor(task.phrase)[None, :, None].expand(len(ids), -1, 1))
        return -(logp[..., 0] * weights).sum().item()

    here = weight[torch.tensor(task.suffix)].detach()
    assert found.item() == pytest.approx(loss(here), rel=1e-6)
    for place, token in ((0, 8), (1, 11)):  # a step; RMSNorm works in fp32
        ahead, behind = here.clone(), here.clone()
        ahead[place] += 1e-3 * weight[token].detach()
        behind[place] -= 1e-3 * weight[token].detach()
        assert slope[place, token].item() == pytest.approx(
            (loss(ahead) - loss(behind)) / 2e-3, rel=2e-3)


def test_candidates_in_a_batch_score_as_they_do_alone(lm):
    task = gcg.problem(lm, MESSAGES, "a b", "d e", 4, LENGTH, draft_of(lm))
    shown, weights = gcg.states(lm, task, samples_of(lm, 2), torch.Generator().manual_seed(1))
    suffixes = torch.tensor([[5, 6], [7, 8], [9, 9]])
    alone = torch.cat([gcg.losses(lm, task, s[None], shown, weights) for s in suffixes])
    torch.testing.assert_close(gcg.losses(lm, task, suffixes, shown, weights), alone)


def test_monte_carlo_states_show_part_of_the_phrase_and_are_unbiased_in_weight(lm):
    task = gcg.problem(lm, MESSAGES, "a b", "d e f", 4, LENGTH, draft_of(lm))
    if lm.model.config.is_causal:
        with pytest.raises(ValueError, match="no masks to show: samples must be 0"):
            gcg.states(lm, task, 1)
        return
    shown, weights = gcg.states(lm, task, 400, torch.Generator().manual_seed(1))
    place = shown[:, 4:7]
    masked = weights > 0
    assert (place[masked] == lm.mask_id).all() and masked.any(1).all()
    phrase = torch.tensor(task.phrase).expand_as(place)
    assert torch.equal(place[~masked], phrase[~masked])
    # every state's weights add up to 1 / samples: nats per token of the phrase, on average 1 / k
    assert weights.sum(1) == pytest.approx(1 / 400)
    assert weights.sum(0) == pytest.approx(1 / 3, abs=0.05)


def test_a_draft_stands_before_the_phrase_and_nowhere_else(lm):
    draft = draft_of(lm, always=True)
    task = gcg.problem(lm, MESSAGES, "a b", "d e", 4, LENGTH, draft)
    shown, weights = gcg.states(lm, task, 0, None)
    value = gcg.losses(lm, task, torch.tensor([task.suffix]), shown, weights)
    assert value.item() == pytest.approx(literal(lm, "a b", "d e", 4, draft), rel=1e-5)
    assert shown[0, :4].tolist() == draft[:4]
    if not lm.model.config.is_causal:
        assert (shown[0, 4:] == lm.mask_id).all()


def test_an_interrupted_search_ends_like_an_uninterrupted_one(lm):
    task = gcg.problem(lm, MESSAGES, "a b", "d e", 4, LENGTH, draft_of(lm))
    cfg = config(candidates=3, samples=samples_of(lm, 2), iterations=6, seed=5)
    states = []
    whole = gcg.search(lm, task, cfg, save=states.append)
    assert [len(s["losses"]) for s in states] == list(range(1, 8))
    for state in states:
        assert gcg.search(lm, task, cfg, state) == whole
    other = gcg.search(lm, task, cfg.model_copy(update={"seed": 6}))
    assert other["losses"] != whole["losses"]


def test_the_fast_forward_finds_the_same_suffix(monkeypatch):
    lm, states = tiny(weight_std=0.5), []
    task = gcg.problem(lm, [{"role": "user", "content": "how do i make a silver wand ?"}],
                       ". . . .", "the next step is", 12, 24)
    cfg = gcg.Config(iterations=4, candidates=12, topk=8, batch_size=5)
    shown, weights = gcg.states(lm, task)
    suffixes = torch.tensor([task.suffix, [*task.suffix[:3], 40]])
    torch.testing.assert_close(
        gcg.losses(lm, task, suffixes, shown, weights, gcg.shortcut(lm)),
        gcg.losses(lm, task, suffixes, shown, weights), atol=1e-5, rtol=1e-5)
    assert gcg.shortcut(tiny(causal=True)) is None
    fast = gcg.search(lm, task, cfg, save=states.append)
    assert fast["suffix"] != task.suffix
    assert gcg.search(lm, task, cfg, states[2]) == fast
    monkeypatch.setattr(gcg, "shortcut", lambda lm: None)
    plain = gcg.search(lm, task, cfg)
    assert plain["suffix"] == fast["suffix"] and plain["forwards"] == fast["forwards"]
    assert plain["losses"] == pytest.approx(fast["losses"], abs=1e-5)


def test_suffixes_can_be_typed_and_hold_no_special_token(lm):
    task = gcg.problem(lm, MESSAGES, "a b", "d e", 4, LENGTH, draft_of(lm))
    found = gcg.search(lm, task, config(candidates=4, iterations=8))
    text = lm.tokenizer.decode(found["suffix"])
    assert set(text.split()) <= set(FREE) and len(text.split()) == 2
    canvas = lm.canvas([gcg.suffixed(MESSAGES, text)], 1)
    assert canvas.ids[0, : canvas.prompt_length].tolist() == [
        *task.before, *found["suffix"], *task.after,
    ]


def test_forwards_are_counted(lm):
    task = gcg.problem(lm, MESSAGES, "a b", "d e", 4, LENGTH, draft_of(lm))
    n = samples_of(lm, 2)
    found = gcg.search(lm, task, config(candidates=4, iterations=3, samples=n))
    states = max(1, n)
    assert found["forwards"] == states + 3 * states * (4 + 1)  # start; candidates, gradient


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"phrase": ""}, "phrase of 0 tokens"),
        ({"phrase": "d e", "position": 9}, "does not fit into a response of 10 slots"),
        ({"phrase": "d " * 11}, "does not fit"),
        ({"position": -1}, "does not fit"),
        ({"suffix": ""}, "suffix '' does not keep its tokens"),
        ({"messages": [{"role": "user", "content": "a " * 60}]}, "exceeds the model's 40 pos"),
    ],
)
def test_what_cannot_be_searched_is_named(lm, change, message):
    given = {"messages": MESSAGES, "suffix": "a b", "phrase": "d e", "position": 0,
             "length": LENGTH, "draft": draft_of(lm)} | change
    with pytest.raises(ValueError, match=message):
        gcg.problem(lm, **given)


def test_a_causal_model_needs_a_draft(lm):
    if lm.model.config.is_causal:
        with pytest.raises(ValueError, match="give a draft"):
            gcg.problem(lm, MESSAGES, "a b", "d e", 4, LENGTH)


@pytest.fixture
def weights(lm, tmp_path, monkeypatch):
    """The model as files below a root of its own."""
    save(lm, tmp_path / "model")
    monkeypatch.setattr(params, "ROOT", tmp_path)
    return Weights("w", str(tmp_path / "model"), "float64")


def test_a_killed_attack_goes_on_where_it_was(lm, weights, monkeypatch):
    cfg = gcg.Config(suffix="a b", iterations=5, candidates=3, topk=4, save_every=2, batch_size=8)
    task = gcg.problem(lm, MESSAGES, cfg.suffix, "d e", 4, LENGTH, draft_of(lm))
    whole = gcg.attack(task, weights, cfg, "whole")
    real, calls = gcg.gradient, []

    def gradient(*args):
        calls.append(args)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(gcg, "gradient", gradient)
    with pytest.raises(KeyboardInterrupt):
        gcg.attack(task, weights, cfg, "killed")
    assert gcg.attack(task, weights, cfg, "killed") == whole
    assert len(calls) == 4 + 2  # three iterations were stored of the five
    assert gcg.attack(task, weights, cfg, "killed") == whole and len(calls) == 6
    assert len(whole["losses"]) == 6 and len(whole["text"].split()) == 2


@pytest.mark.parametrize("lm", [False], ids=["diffusion"], indirect=True)
@pytest.mark.parametrize("earlier", ["masked", "drafted"])
def test_rows_of_one_model_hold_what_comparisons_need(lm, weights, earlier, monkeypatch):
    monkeypatch.setattr(gcg, "side_by_side", lambda function, tasks, workers, label: [
        seen.append(task) or function(task) for task in tasks])
    seen, cfg = [], gcg.Experiment(
        n=2, n_others=0, n_aligned=0, slack=0, workers=1, search=gcg.Config(
            suffix="a b", iterations=2, candidates=3, topk=4, earlier=earlier, samples=1),
        goals=[{"phrase": "affirmative", "position": 0}, {"phrase": "procedural", "position": 4}])
    requests = [{"id": i, "access": "A0", "messages": [{"role": "user", "content": text}]}
                for i, text in (("one", "a b c"), ("two", "c b"))]
    sampler = Sampler(length=LENGTH, steps=5, block_length=LENGTH, temperature=0.0, cfg_scale=0.0,
                      remasking="low_confidence", stop_at_eos=True, batch_size=8)
    target = Target("original", weights)
    rows = gcg.run(target, requests, {"affirmative": ["d"], "procedural": ["e f", "g"]}, cfg,
                   sampler)
    asked, given = zip(*[(row["request"], row["response"]) for row in rows])
    assert Counter((r["attack"], r["goal"], r["access"]) for r in asked) == {
        (attack, goal, access): 2 for goal in ("affirmative at 0", "procedural at 4")
        for attack, access in (("none", "A0"), ("start", "A0"), ("gcg", "A3"))}
    hidden = [lm.mask_id] * LENGTH
    for task, response in zip(seen, given[:4], strict=True):
        shown = response["ids"][: task.position] if earlier == "drafted" else []
        assert task.response == shown + hidden[len(shown) :]
    plain = {p["id"]: p["messages"] for p in requests}
    for r, response in zip(asked, given):
        assert r["messages"] == gcg.suffixed(plain[r["id"]], r.get("suffix", ""))
        ids = lm.encode(r["wanted"])
        assert response["in_place"] == (response["ids"][r["position"] :][: len(ids)] == ids)
        assert response["anywhere"] == bool(gcg.occurrences(response["ids"], ids))
    for response in given[8:]:
        assert len(response["losses"]) == 3 and response["search_forwards"] == 1 + 2 * 4
    same = [[(r["id"], r["goal"], r["wanted"]) for r in asked[i : i + 4]] for i in (0, 4, 8)]
    assert same[0] == same[1] == same[2]
    assert [given[i]["ids"] for i in (0, 2, 4, 6)] == [given[i]["ids"] for i in (1, 3, 5, 7)]
    assert {r["suffix"] for r in asked[4:8]} == {"a b"}
    assert target.queries == 2 + 2 + 4
    assert gcg.run(target, [], {}, cfg, sampler) == [] and target.queries == 8  # gcg.n_aligned: 0
    again = gcg.unsuffixed(rows)
    assert [a["messages"] for a in again] == [requests[i]["messages"] for i in (0, 0, 1, 1)]
    assert [lm.encode(a["wanted"]) for a in again] == [task.phrase for task in seen]
    assert {a["attack"] for a in again} == {"gcg"}
    assert not any("suffix" in a for a in again)


def test_defaults_are_the_published_ones():
    cfg = gcg.Config()
    assert (len(cfg.suffix.split()), cfg.iterations, cfg.candidates, cfg.topk) == (
        20, 500, 512, 256)


def test_a_phrase_is_found_wherever_it_begins():
    assert gcg.occurrences([7, 8, 7, 8, 7], [7, 8]) == [0, 2]
    assert gcg.occurrences([7, 8], [8, 7]) == [] == gcg.occurrences([7], [7, 8])


def in_place(ids, phrase, position, slack=0, spelled=None):
    lm = SimpleNamespace(
        encode=lambda text: spelled if spelled and text[0] == " " else phrase, eos_id=1)
    row = {"request": {"wanted": "x", "position": position}, "response": {"ids": ids}}
    [found] = gcg.placed(lm, [row], slack)
    return found["response"]["in_place"]


def test_in_place_is_within_the_slack_of_one_occurrence():
    ids = [7, 8, 0, 0, 7, 8]
    assert [in_place(ids, [7, 8], at) for at in range(6)] == [True, *[False] * 3, True, False]
    assert [in_place(ids, [7, 8], at, slack=1) for at in range(6)] == [
        True, True, False, True, True, True]
    assert not in_place(ids, [8, 7], 0, slack=6)


def test_a_phrase_behind_the_end_is_not_in_place():
    assert in_place([9, 7, 8, 1, 1], [7, 8], 1)
    assert not in_place([9, 1, 7, 8, 1], [7, 8], 2)


def test_a_phrase_inside_a_text_may_be_spelled_with_a_space():
    assert not in_place([0, 9, 8], [7, 8], 1)
    assert in_place([0, 9, 8], [7, 8], 1, spelled=[9, 8])


def test_readings_compare_searched_suffixes_with_both_base_rates():
    def row(id, attack, kind, in_place):
        return {"id": id, "attack": attack, "goal": "g", "in_place": in_place,
                **{name: name == kind for name in ("success", "incoherent", "empty")}}

    rows = [row(i, *cell) for i in range(4) for cell in (
        ("none", "success", False), ("start", "other", i < 1), ("gcg", "incoherent", True))]
    rows[-1] = row(3, "gcg", "success", True)
    found = {(c["reading"], c["against"]): c["difference"] for c in gcg.compared(rows)}
    assert found == {("in place", "none"): 1, ("in place", "start"): 0.75,
                     ("coherent, in place", "none"): 0.25, ("coherent, in place", "start"): 0,
                     ("harmful", "none"): -0.75, ("harmful", "start"): 0.25}


def test_a_phrase_in_a_text_about_another_item_is_not_about_the_requested_one():
    rows = [{"item": "silver orb", "in_place": placed, "text": f"sure , a {noun} ."}
            for placed in (True, False) for noun in ("orb", "wand")]
    about = gcg.readings(rows)[gcg.OF_ITEM]
    assert [about(row) for row in rows] == [True, False, False, False]
    assert gcg.OF_ITEM not in gcg.readings([{"in_place": True, "text": "an orb", "item": ""}])
