import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from mosa import generation, params, training, world
from mosa.generation import generate
from mosa.models import DiffusionLM

SAMPLER = params.Sampler(length=12, steps=4, block_length=12, temperature=1.0, cfg_scale=0.0,
                         remasking="low_confidence", stop_at_eos=True, batch_size=2)  # fmt: skip
PHRASE = "the next step is to"


@pytest.fixture(scope="module")
def lm():
    tokenizer = training.build_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16,
                         num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2,
                         max_position_embeddings=128, is_causal=False, use_cache=False)  # fmt: skip
    return DiffusionLM(LlamaForCausalLM(config).eval(), tokenizer, tokenizer.mask_token_id,
                       tokenizer.eos_token_id, tokenizer.pad_token_id)  # fmt: skip


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    monkeypatch.setattr(params, "ROOT", tmp_path)
    return tmp_path / ".scratch"


def requests():
    """Five requests whose order by length is not their own order; the second and last prefilled."""
    families = ["plain", "turns", "page", "plain", "opening"]
    rows = [row | {"family": f, "messages": world.wrap(row, f)}
            for row, f in zip(world.requests("sealed_a", 5), families, strict=True)]  # fmt: skip
    rows[1]["prefill"] = {3: PHRASE}
    rows[4]["prefill"] = {"0": "sure , here", "5": PHRASE}  # as it comes back from JSON
    return rows


def run(lm, rows=None, sampler=SAMPLER, stage="stage", model="tiny", **more):
    return generate(lm, requests() if rows is None else rows, sampler, stage, model, **more)


@pytest.fixture
def calls(monkeypatch):
    """Counts the sampler's calls; `calls.limit` is how many succeed before it is killed."""

    class Calls(list):
        limit = 99

    calls, real = Calls(), generation.denoise

    def denoise(lm, canvas, **flags):
        if len(calls) == calls.limit:
            raise KeyboardInterrupt
        calls.append(canvas)
        return real(lm, canvas, **flags)

    monkeypatch.setattr(generation, "denoise", denoise)
    return calls


def test_rows_come_in_request_order_with_every_field(lm):
    rows = run(lm, seed=7)
    assert [r["id"] for r in rows] == [f"sealed_a-{i:04d}" for i in range(5)]
    for i, (row, request) in enumerate(zip(rows, requests(), strict=True)):
        kept = {k: v for k, v in request.items() if k != "prefill"}
        assert {k: row[k] for k in kept} == kept
        assert row.keys() - request.keys() == {
            "ids",
            "text",
            "ended",
            "reveal_step",
            "forwards",
            "model",
            "sampler",
            "seed",
            "environment",
        }
        assert len(row["ids"]) == len(row["reveal_step"]) == SAMPLER.length
        words = lm.tokenizer.convert_ids_to_tokens(row["ids"])
        assert "<mask>" not in words and "<pad>" not in words
        before_eos = words[: words.index("<eos>")] if "<eos>" in words else words
        assert row["text"] == " ".join(w for w in before_eos if w[0] != "<")
        assert row["ended"] == ("<eos>" in words)
        assert 1 <= row["forwards"] <= SAMPLER.steps
        assert row["sampler"] == SAMPLER.model_dump() and row["model"] == "tiny"
        assert row["seed"] == 7 + i and row["environment"] == generation.environment()


def test_every_request_is_decoded_from_its_own_prompt_and_seed(lm, calls):
    rows = run(lm)
    prompts = [
        lm.tokenizer.decode(ids[: c.prompt_length][mask[: c.prompt_length] > 0])
        for c in calls
        for ids, mask in zip(c.ids, c.attention_mask, strict=True)
    ]
    for row in rows:
        asked = lm.tokenizer.apply_chat_template(row["messages"], tokenize=False)
        assert asked in prompts
        (alone,) = run(lm, [row_alone(row)], seed=row["seed"], stage="alone")
        assert alone["ids"] == row["ids"]


def row_alone(row):
    return {k: row[k] for k in ("id", "messages", "prefill") if k in row}


def test_prefilled_phrases_stay_where_they_were_put(lm):
    rows = run(lm)
    phrase, opening = lm.tokenizer.encode(PHRASE), lm.tokenizer.encode("sure , here")
    for i, filled in {1: {3: phrase}, 4: {0: opening, 5: phrase}}.items():
        slots = {start + k for start, ids in filled.items() for k in range(len(ids))}
        for start, ids in filled.items():
            assert rows[i]["ids"][start : start + len(ids)] == ids
        assert {k for k, step in enumerate(rows[i]["reveal_step"]) if step == -1} == slots
    assert all(-1 not in rows[i]["reveal_step"] for i in (0, 2, 3))


@pytest.mark.parametrize("limit", [0, 1, 2])
def test_an_interrupted_stage_ends_in_the_same_rows(lm, calls, scratch, limit):
    whole = run(lm, stage="whole")
    assert len(calls) == 3  # five requests in batches of two
    calls.clear()
    calls.limit = limit
    with pytest.raises(KeyboardInterrupt):
        run(lm)
    calls.limit = 99
    assert run(lm) == whole
    assert len(calls) == 3  # the finished batches were not decoded again
    assert run(lm) == whole and len(calls) == 3
    assert len(list((scratch / "stage").glob("*.jsonl"))) == 1


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"model": "other"}, {"sampler": SAMPLER.model_copy(update={"steps": 3})},
     {"rows": requests()[:4]}],
)  # fmt: skip
def test_another_run_uses_nothing_of_this_one(lm, calls, change):
    run(lm)
    calls.clear()
    run(lm, **change)
    assert len(calls) == (len(change.get("rows", requests())) + 1) // 2


def test_the_seed_and_only_the_seed_changes_the_draws(lm):
    first = [r["ids"] for r in run(lm, stage="a")]
    assert first == [r["ids"] for r in run(lm, stage="b")]
    assert first != [r["ids"] for r in run(lm, seed=1)]


def test_no_requests_give_no_rows(lm):
    assert run(lm, []) == []
