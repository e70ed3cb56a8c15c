"""The sampler against a slow reference, and the properties its callers rely on."""

import dataclasses
import random

import numpy as np
import pytest
import torch
from lm.folders import random_llama
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from mosa.lm import sampler
from mosa.lm.model import Canvas, DiffusionLM
from mosa.lm.sampler import ANNEALED, REMASKING, denoise

VOCAB, MASK, EOS, PAD = 17, 16, 1, 0


@pytest.fixture(scope="module")
def lm():
    """A random model with wide weights; float64, so that rounding cannot reorder confidences."""
    words = Tokenizer(WordLevel({f"w{i}": i for i in range(VOCAB)}, unk_token="w2"))
    return DiffusionLM(
        random_llama(VOCAB), PreTrainedTokenizerFast(tokenizer_object=words), MASK, EOS, PAD
    )


@dataclasses.dataclass
class Scripted:
    """A language model whose logits are a given function of (input_ids, attention_mask)."""

    call: object
    tokenizer: None = None
    mask_id: int = MASK
    eos_id: int = EOS
    pad_id: int = PAD
    unknown_ids: tuple = ()
    model: None = None
    logit_shift: int = 0

    def __call__(self, input_ids, attention_mask=None):
        return self.call(input_ids, attention_mask)


def one_row(length):
    """A prompt of one token and `length` masked slots."""
    ids = torch.tensor([[3] + [MASK] * length])
    return Canvas(ids, torch.ones_like(ids), 1)


def reference(
    lm,
    prompt,
    response,
    steps,
    block_length=None,
    temperature=0.0,
    remasking="low_confidence",
    cfg_scale=0.0,
    entropy=(0, 0),
):
    """One row, without padding, batching or early exit -> ids, reveal steps, forwards."""
    response, block_length = list(response), block_length or len(response)
    reveal_step, forwards, step = [-1] * len(response), 0, 0
    state = np.random.SeedSequence(entropy).generate_state(1)[0]
    generator = torch.Generator().manual_seed(int(state))
    steps_per_block = steps // (len(response) // block_length)
    for left in range(0, len(response), block_length):
        block = range(left, left + block_length)
        n = sum(response[slot] == MASK for slot in block)
        for i in range(steps_per_block):
            k = n // steps_per_block + (1 if i < n % steps_per_block else 0)
            if k > 0:
                logits = lm(torch.tensor([prompt + response]))[0, len(prompt) :]
                forwards += 1
                if cfg_scale > 0:
                    un = lm(torch.tensor([[MASK] * len(prompt) + response]))[0, len(prompt) :]
                    logits = un + (cfg_scale + 1) * (logits - un)
                    forwards += 1
                logits[:, [MASK, PAD]] = -torch.inf
                slots = [slot for slot in block if response[slot] == MASK]
                draw = {"generator": generator, "dtype": torch.float64}
                if temperature > 0:
                    u = torch.rand(len(slots), VOCAB, **draw)
                    scores = logits[slots].exp() / (-u.log()) ** temperature  # LLaDA's own form
                else:
                    scores = logits[slots]
                token = {
                    slot: row.index(max(row))
                    for slot, row in zip(slots, scores.tolist(), strict=True)
                }
                sure = {s: logits[s].softmax(-1)[token[s]].item() for s in slots}
                if remasking in ("forward", "backward"):
                    sure = {s: s if remasking == "backward" else -s for s in slots}
                elif remasking != "low_confidence":
                    share = 1.0  # of chance
                    if remasking == "annealed":  # from ANNEALED at the first step to 0 at the last
                        share = ANNEALED * (1 - step / (steps - 1)) if steps > 1 else ANNEALED
                    chance = torch.rand(len(slots), **draw).tolist()
                    sure = {s: (1 - share) * sure[s] + share * luck
                            for s, luck in zip(slots, chance, strict=True)}
                for slot in sorted(slots, key=lambda slot: (-sure[slot], slot))[:k]:
                    response[slot], reveal_step[slot] = token[slot], step
            step += 1
    return response, reveal_step, forwards


def stopped(ids, reveal_step, cost):
    """What stop_at_eos makes of a run that went to the end."""
    if EOS not in ids:
        return ids, reveal_step, cost * len(set(reveal_step) - {-1})
    final = max(reveal_step[: ids.index(EOS) + 1])  # the last slot up to the first EOS
    cut = [EOS if step > final else token for token, step in zip(ids, reveal_step, strict=True)]
    steps = [max(final, 0) if step > final else step for step in reveal_step]
    return cut, steps, cost * len({step for step in reveal_step if -1 < step <= final})


@pytest.mark.parametrize("case", range(80))
def test_equals_the_reference(lm, case):
    rng = random.Random(case)
    length = rng.choice([1, 4, 6, 8, 12])
    block_length = rng.choice([n for n in range(1, length + 1) if length % n == 0])
    options = {
        "steps": length // block_length * rng.randint(1, block_length + 1),
        "block_length": block_length,
        "temperature": rng.choice([0.0, 0.5, 1.5]),
        "remasking": rng.choice(["low_confidence", *REMASKING]),
        "cfg_scale": rng.choice([0.0, 0.0, 1.5]),
    }
    rows = rng.randint(1, 4)
    tokens = range(1, MASK)
    prompts = [rng.choices(tokens, k=rng.randint(1, 6)) for _ in range(rows)]
    prefill = [
        {slot: [rng.choice(tokens)] for slot in rng.sample(range(length), k)}
        for k in (rng.randint(0, min(length, 4)) for _ in range(rows))
    ]
    seed = rng.randrange(2**40)
    seeds = rng.choice([seed, [seed + 7 * row for row in range(rows)]])
    canvas = lm.canvas(prompts, length=length, prefill=prefill)
    full = denoise(lm, canvas, seed=seeds, stop_at_eos=False, **options)
    early = denoise(lm, canvas, seed=seeds, stop_at_eos=True, **options)
    for row, prompt in enumerate(prompts):
        response = [prefill[row].get(slot, [MASK])[0] for slot in range(length)]
        ids, reveal_step, forwards = reference(
            lm, prompt, response, entropy=(seed, row) if seeds == seed else seeds[row], **options
        )
        assert full.ids[row].tolist() == ids
        assert full.reveal_step[row].tolist() == reveal_step
        assert full.forwards[row] == forwards
        want = stopped(ids, reveal_step, 2 if options["cfg_scale"] else 1)
        assert (
            early.ids[row].tolist(),
            early.reveal_step[row].tolist(),
            early.forwards[row].item(),
        ) == want


PROMPTS = [[3, 4, 5, 6, 7, 8], [9], [2, 2, 12], [14, 3]]
PREFILL = [{}, {0: [5, 6]}, {4: [7], 7: [8]}, {3: [9, 10, 11]}]


def test_prompt_and_prefill_never_change_and_no_mask_remains(lm):
    canvas = lm.canvas(PROMPTS, length=8, prefill=PREFILL)
    before = canvas.ids.clone()
    for options in ({}, {"block_length": 4}, {"temperature": 1.0, "remasking": "random"},
                    {"remasking": "annealed"}):
        out = denoise(lm, canvas, steps=4, **options)
        assert (canvas.ids == before).all()
        given_slots = before[:, canvas.prompt_length :] != MASK
        assert (out.ids[given_slots] == before[:, canvas.prompt_length :][given_slots]).all()
        assert (out.reveal_step == -1).equal(given_slots)
        assert not (out.ids == MASK).any()


def test_masks_in_the_prompt_stay(lm):
    seen = []
    model = Scripted(lambda ids, mask: seen.append(ids.clone()) or lm(ids, mask))
    denoise(model, lm.canvas([[3, MASK, 4]], length=4), steps=2)
    assert [ids[0, :3].tolist() for ids in seen] == [[3, MASK, 4]] * 2


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"block_length": 2},
        {"cfg_scale": 1.0},
        {"remasking": "random"},
        {"remasking": "annealed"},
        {"remasking": "annealed", "temperature": 1.0, "block_length": 4},
        {"temperature": 1.0},
    ],
    ids=str,
)
@pytest.mark.parametrize("stop_at_eos", [True, False])
def test_a_row_does_not_depend_on_its_batch(lm, options, stop_at_eos):
    options = {"steps": 4, "stop_at_eos": stop_at_eos, **options}
    together = denoise(
        lm, lm.canvas(PROMPTS, length=8, prefill=PREFILL), seed=[5, 6, 7, 8], **options
    )
    for row in range(4):
        alone = denoise(
            lm, lm.canvas([PROMPTS[row]], length=8, prefill=PREFILL[row]), seed=[5 + row], **options
        )
        for field in ("ids", "reveal_step", "forwards"):
            assert getattr(alone, field)[0].equal(getattr(together, field)[row]), field
        assert alone.texts[0] == together.texts[row]


@pytest.mark.parametrize(
    ("length", "steps", "block_length", "prefill", "counts"),
    [
        (10, 4, None, {}, [3, 3, 2, 2]),  # LLaDA puts the remainder first
        (10, 4, None, {2: [3, 4, 5]}, [2, 2, 2, 1]),
        (10, 4, None, {0: [3] * 8}, [1, 1, 0, 0]),  # fewer slots than steps
        (12, 8, 6, {}, [2, 2, 1, 1, 2, 2, 1, 1]),
        (12, 4, 6, {5: [3, 4]}, [3, 2, 3, 2]),
        (4, 1, None, {}, [4]),
        (4, 2, 2, {0: [3, 4]}, [0, 2]),  # a block without masks
    ],
)
def test_schedule(lm, length, steps, block_length, prefill, counts):
    out = denoise(
        lm,
        lm.canvas([[3, 4], [5]], length=length, prefill=prefill),
        steps=steps,
        block_length=block_length,
        stop_at_eos=False,
    )
    for row in range(2):
        shown = out.reveal_step[row]
        assert shown[shown >= 0].bincount(minlength=steps).tolist() == counts
        assert out.forwards[row] == np.count_nonzero(counts)


def test_texts_are_the_decoded_responses(lm):
    out = denoise(lm, lm.canvas([[3]], length=4, prefill={0: [5, 6, EOS]}), steps=2)
    assert out.texts == ["w5 w6"]
    assert denoise(Scripted(lm), lm.canvas([[3]], length=4), steps=2).texts == []


def test_blocks_are_filled_left_to_right(lm):
    out = denoise(lm, lm.canvas([[3]], length=8), steps=8, block_length=2, stop_at_eos=False)
    assert (out.reveal_step[0] // 2).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_same_seed_same_output(lm):
    canvas = lm.canvas(PROMPTS, length=8)
    options = {"steps": 4, "temperature": 1.0, "remasking": "random", "seed": 3}
    assert denoise(lm, canvas, **options).ids.equal(denoise(lm, canvas, **options).ids)


def test_rows_with_one_prompt_and_one_seed_differ(lm):
    out = denoise(lm, lm.canvas([[3, 4]] * 4, length=8), steps=4, temperature=1.0, seed=3)
    assert len({tuple(row) for row in out.ids.tolist()}) == 4


def test_the_global_generator_is_neither_read_nor_moved(lm):
    canvas = lm.canvas([[3, 4]], length=8)
    state = torch.get_rng_state()
    first = denoise(lm, canvas, steps=4, temperature=1.0, remasking="random")
    assert torch.get_rng_state().equal(state)
    torch.manual_seed(99)
    assert denoise(lm, canvas, steps=4, temperature=1.0, remasking="random").ids.equal(first.ids)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("steps", 2),
        ("block_length", 2),
        ("temperature", 0.3),
        ("remasking", "random"),
        ("remasking", "annealed"),
        ("cfg_scale", 2.0),
        ("seed", 1),
        ("seed", [0, 1, 2, 3]),
        ("stop_at_eos", False),
    ],
)
def test_every_argument_changes_the_output(lm, argument, value):
    canvas = lm.canvas(PROMPTS, length=8)
    options = {"steps": 8, "temperature": 1.0, "seed": 0}
    base = denoise(lm, canvas, **options).ids
    assert not denoise(lm, canvas, **{**options, argument: value}).ids.equal(base)


@pytest.mark.parametrize(("steps", "block_length", "shares"), [
    (4, 8, [0.3, 0.2, 0.1, 0.0]), (4, 4, [0.3, 0.2, 0.1, 0.0]), (2, 8, [0.3, 0.0]), (1, 8, [0.3])])
def test_the_share_of_chance_falls_to_0_at_the_last_step(
        lm, monkeypatch, steps, block_length, shares):
    seen, predict = [], sampler._predict
    monkeypatch.setattr(
        sampler, "_predict", lambda *given: seen.append(given[-1]) or predict(*given))
    denoise(lm, lm.canvas([[3, 4]], length=8), steps=steps, block_length=block_length,
            remasking="annealed", stop_at_eos=False)
    assert seen == pytest.approx(shares)


def test_annealed_remasking_is_by_confidence_where_nothing_is_left_to_chance(lm, monkeypatch):
    canvas = lm.canvas(PROMPTS, length=8, prefill=PREFILL)
    options = {"steps": 4, "stop_at_eos": False}
    sure = denoise(lm, canvas, **options)
    assert not denoise(lm, canvas, remasking="annealed", **options).reveal_step.equal(
        sure.reveal_step)
    monkeypatch.setattr(sampler, "ANNEALED", 0.0)
    found = denoise(lm, canvas, remasking="annealed", **options)
    assert found.ids.equal(sure.ids) and found.reveal_step.equal(sure.reveal_step)
    monkeypatch.setattr(sampler, "ANNEALED", 1.0)
    random = denoise(lm, canvas, remasking="random", **options)
    first = denoise(lm, canvas, remasking="annealed", **options)
    assert (first.reveal_step == 0).equal(random.reveal_step == 0)  # at the first step it is chance


def test_sampled_tokens_follow_the_tempered_softmax():
    probabilities = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4] + [0.0] * (VOCAB - 5))
    model = Scripted(lambda ids, mask: probabilities.log().expand(*ids.shape, VOCAB))
    out = denoise(model, one_row(2000), steps=1, temperature=0.5, stop_at_eos=False)
    want = probabilities**2 / (probabilities**2).sum()  # temperature 1/2 squares, then normalises
    share = out.ids.flatten().bincount(minlength=VOCAB) / 2000
    assert (share - want).abs().max() < 0.04  # 3.6 standard errors of a share of one half


def test_stop_at_eos_keeps_the_text_and_saves_forwards(lm):
    canvas = lm.canvas(PROMPTS * 3, length=8)
    options = {"steps": 8, "temperature": 1.0, "seed": 2}
    full = denoise(lm, canvas, stop_at_eos=False, **options)
    early = denoise(lm, canvas, stop_at_eos=True, **options)
    for row in range(len(canvas.ids)):
        long, short = full.ids[row].tolist(), early.ids[row].tolist()
        end = long.index(EOS) if EOS in long else 8
        assert long[: end + 1] == short[: end + 1]
        assert full.texts[row] == early.texts[row]
    assert (full.forwards == 8).all()
    assert (early.forwards < 8).any() and (early.forwards == 8).any()


def test_eos_behind_a_mask_does_not_stop_a_row(lm):
    out = denoise(lm, lm.canvas([[3]], length=4, prefill={1: [EOS]}), steps=3)
    # slot 0 must be revealed before the prefilled EOS at slot 1 ends the text
    assert out.reveal_step[0, 1] == -1 and out.forwards[0] == out.reveal_step[0, 0] + 1


def test_a_prefilled_eos_at_the_start_costs_nothing(lm):
    out = denoise(lm, lm.canvas([[3]], length=4, prefill={0: [EOS], 2: [7]}), steps=4)
    assert out.ids.tolist() == [[EOS, EOS, 7, EOS]]
    assert out.reveal_step.tolist() == [[-1, 0, -1, 0]] and out.forwards.tolist() == [0]


def test_finished_rows_and_spare_padding_leave_the_forward_batch(lm):
    shapes = []
    model = Scripted(lambda ids, mask: shapes.append(tuple(ids.shape)) or lm(ids, mask))
    canvas = lm.canvas([[3] * 9, [4, 5], [6]], length=4, prefill=[{0: [EOS]}, {}, {1: [7, 7, 7]}])
    out = denoise(model, canvas, steps=4, stop_at_eos=True, remasking="random", seed=[0, 0, 0])
    assert shapes[0] == (2, 2 + 4)  # the long row is final before the first forward
    assert shapes[1:] == [(1, 2 + 4)] * (len(shapes) - 1) and len(shapes) > 1
    assert out.forwards.tolist() == [0, len(shapes), 1]
    shapes.clear()
    denoise(model, canvas, steps=4, cfg_scale=1.0)
    assert shapes[0] == (4, 2 + 4)  # both halves of the guidance in one forward


def test_mask_and_pad_are_never_predicted():
    logits = torch.zeros(VOCAB).index_fill(0, torch.tensor([MASK, PAD]), 100.0)
    logits[5] = 1.0
    model = Scripted(lambda ids, mask: logits.expand(*ids.shape, VOCAB))
    for options in ({}, {"temperature": 1.0}, {"cfg_scale": 1.0}):
        out = denoise(model, one_row(50), steps=1, stop_at_eos=False, **options)
        assert not torch.isin(out.ids, torch.tensor([MASK, PAD])).any()
    assert (denoise(model, one_row(50), steps=1).ids == 5).all()
    same = dataclasses.replace(model, pad_id=EOS)  # then the pad id is a token like any other
    same.call = lambda ids, mask: (torch.arange(VOCAB) == EOS).double().expand(*ids.shape, VOCAB)
    assert (denoise(same, one_row(4), steps=1).ids == EOS).all()


def test_ids_that_no_token_has_are_never_predicted(lm):
    words = Tokenizer(WordLevel({f"w{i}": i for i in (0, 1, 2, 5, 9, MASK)}, unk_token="w2"))
    small = dataclasses.replace(lm, tokenizer=PreTrainedTokenizerFast(tokenizer_object=words))
    for options in ({}, {"temperature": 2.0}, {"remasking": "random", "cfg_scale": 1.0}):
        out = denoise(small, lm.canvas([[3]] * 8, 12), steps=6, stop_at_eos=False, **options)
        assert set(out.ids.flatten().tolist()) <= {EOS, 2, 5, 9}
    bare = dataclasses.replace(lm, tokenizer=None)  # nothing is known of its ids
    out = denoise(bare, lm.canvas([[3]] * 8, 12), steps=6, temperature=2.0, stop_at_eos=False)
    assert set(out.ids.flatten().tolist()) - {EOS, 2, 5, 9}


def test_ties_go_to_the_lower_position_and_the_lower_id():
    model = Scripted(lambda ids, mask: torch.zeros(*ids.shape, VOCAB))
    out = denoise(model, one_row(64), steps=64, stop_at_eos=False)
    assert out.reveal_step[0].tolist() == list(range(64))
    assert (out.ids == 1).all()  # 0 is the pad


def test_guidance_sees_masks_in_place_of_the_prompt(lm):
    seen = []
    model = Scripted(lambda ids, mask: seen.append((ids.clone(), mask.clone())) or lm(ids, mask))
    denoise(model, lm.canvas([[3, 4, 5], [6]], length=2, prefill={0: [7]}), steps=1, cfg_scale=1.0)
    ((ids, mask),) = seen
    assert ids[2].tolist() == [MASK] * 3 + [7, MASK]
    assert ids[3, 2:].tolist() == [MASK, 7, MASK]
    assert mask[:2].equal(mask[2:]) and mask[3].tolist() == [0, 0, 1, 1, 1]


def test_large_guidance_does_not_overflow():
    logits = 900.0 * torch.arange(VOCAB).double() / VOCAB  # exp(900) is beyond float64
    model = Scripted(lambda ids, mask: logits.expand(*ids.shape, VOCAB))
    out = denoise(model, one_row(4), steps=1, temperature=1.0)
    assert (out.ids == VOCAB - 2).all()  # the highest id that is not the mask


@pytest.mark.parametrize(("canvas", "options", "message"), [
    (["text"], {}, "canvas must be what lm.canvas.. gives, not list"),
    (one_row(4), {"steps": "2"}, "steps must be a whole number, got '2'"),
    (one_row(4), {"steps": 2.0}, "steps must be a whole number, got 2.0"),
    (one_row(4), {"block_length": "2"}, "block_length must be a whole number, got '2'")])
def test_what_is_of_another_kind_is_named(lm, canvas, options, message):
    with pytest.raises(TypeError, match=message):
        denoise(lm, canvas, **options)


def test_ids_can_enter_a_loss(lm):
    """On-policy training feeds generations back: tensors of inference_mode would be refused."""
    ids = denoise(lm, lm.canvas([[3]], length=4), steps=2).ids
    torch.nn.Embedding(VOCAB, 2)(ids).sum().backward()


@pytest.mark.parametrize(
    ("options", "cure"),
    [
        ({"steps": 0}, "multiple of 1"),
        ({"steps": -4}, "multiple of 1"),
        ({"steps": 5, "block_length": 4}, "multiple of 2, such as 4 or 6"),
        ({"block_length": 3}, "use one of 1, 2, 4, 8"),
        ({"block_length": 0}, "1, 2, 4, 8"),
        ({"block_length": 16}, "1, 2, 4, 8"),
        ({"temperature": -0.1}, "temperature"),
        ({"cfg_scale": -1.0}, "cfg_scale"),
        ({"temperature": float("nan")}, "finite"),
        ({"cfg_scale": float("inf")}, "finite"),
        ({"remasking": "entropy"}, "low_confidence, random, annealed, forward, backward"),
        ({"seed": [1, 2]}, "2 values for 1 rows"),
        ({"seed": -1}, "negative"),
    ],
)
def test_bad_arguments(lm, options, cure):
    with pytest.raises(ValueError, match=cure):
        denoise(lm, lm.canvas([[3]], length=8), **{"steps": 4, **options})
