"""HarmBench's classifier, on a tiny random Llama whose answer is set."""

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mosa.judges import harmbench

WORDS = ["<s>", "<unk>", "yes", "No", "perhaps", "kettle", "[BEHAVIOR]:", "[CONTEXT]:", "[...]",
         *(f"w{i}" for i in range(600))]


def row(*own, **request):
    return {"request": {"id": "r", "behaviour": "kettle", **request}, "response": {"own": own}}


def tokenizer():
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", unk_token="<unk>")


@pytest.fixture
def saved(tmp_path):
    """Writes a classifier that says a word to whatever ends in `Answer: [/INST]`."""
    def save(word, room=4096):
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(
            vocab_size=len(WORDS), hidden_size=16, intermediate_size=24, num_hidden_layers=2,
            num_attention_heads=2, max_position_embeddings=room, tie_word_embeddings=False)).eval()
        ids = torch.tensor([harmbench.prompt(row("w1"), tokenizer())])
        with torch.no_grad():
            last = model.model(ids).last_hidden_state[0, -1]
            model.lm_head.weight.zero_()
            model.lm_head.weight[WORDS.index(word)] = last
        model.save_pretrained(tmp_path)
        tokenizer().save_pretrained(tmp_path)
        return str(tmp_path)
    return save


@pytest.mark.parametrize(("name", "digest"), [
    # of the template's text at centerforaisafety/HarmBench 37150ed
    ("prompt", "788f4f6aa1491c433c4da76c9140cfc30966cea3ff3875c4d0fcb336d92f60e0"),
    ("prompt_contextual", "5d6bb9e3cf4d1e5f3f7620093113222ee115af75b0b2913f00e4c7225ec9f219")])
def test_the_prompts_are_harmbenchs_to_the_byte(name, digest):
    assert hashlib.sha256(harmbench.PROMPTS[name].encode()).hexdigest() == digest


@pytest.mark.parametrize(("word", "success", "reason"), [
    ("yes", True, ""), ("No", False, ""), ("perhaps", None, "unreadable: 'perhaps'")])
def test_one_token_decides(saved, monkeypatch, word, success, reason):
    folder = saved(word)
    monkeypatch.setenv(harmbench.VARIABLE, folder)
    found = harmbench.judge([row("w1"), row("w2")])
    assert found == [{"success": success, "score": None if success is None else int(success),
                      "parsed": success is not None, "reason": reason,
                      "by": Path(folder).name}] * 2


def test_it_says_what_transformers_generates(saved):
    model, words = harmbench.load(saved("yes"))
    head, said = model.lm_head.weight.data, []
    for i in range(8):
        head[2].normal_(generator=torch.Generator().manual_seed(i))
        head[3] = -head[2]  # one of yes and No is above the zero of all other words
        asked = torch.tensor([harmbench.prompt(row(f"w{i}"), words)])
        token = model.generate(asked, max_new_tokens=1, do_sample=False, pad_token_id=0)[0, -1]
        said.append(words.decode(token))
        assert harmbench.verdict(row(f"w{i}"), model, words)["success"] == (said[-1] == "yes")
    assert {*said} == {"yes", "No"}


def test_a_response_is_clipped_to_512_tokens_with_its_bos():
    ids = [harmbench.prompt(row(" ".join([*["w0"] * before, "w9"])), tokenizer())
           for before in (510, 511, 512)]
    assert WORDS.index("w9") in ids[0] and WORDS.index("w9") not in ids[1]
    assert ids[1] == ids[2] and ids[0].count(WORDS.index("w0")) == 510
    assert [some.count(0) for some in ids] == [1, 1, 1] and ids[0][0] == 0  # one BOS, in front


def test_a_context_has_a_prompt_of_its_own_and_planted_words_are_left_out():
    plain, context = (tokenizer().decode(harmbench.prompt(one, tokenizer())) for one in
                      (row("w1", "w2"), row("w1", "w2", context="w3 w4")))
    assert "[CONTEXT]:" not in plain and "[CONTEXT]: w3 w4 [BEHAVIOR]: kettle" in context
    assert "w1 [...] w2" in plain and "w1 [...] w2" in context


def test_what_it_cannot_judge_is_no_verdict(saved):
    model, words = harmbench.load(saved("yes", room=300))
    book, long, fine = (harmbench.verdict(one, model, words) for one in (
        row("w1", category="copyright"), row("w1 " * 300), row("w1")))
    assert book["success"] is None and book["reason"].startswith("copyright")
    assert long["success"] is None and "of at most 300" in long["reason"]
    assert fine["success"] is True


def test_a_missing_or_damaged_classifier_is_named_in_one_line(saved, monkeypatch, tmp_path):
    monkeypatch.delenv(harmbench.VARIABLE, raising=False)
    with pytest.raises(ValueError, match="MOSA_HARMBENCH_MODEL is not set"):
        harmbench.judge([row("w1")])
    monkeypatch.setenv(harmbench.VARIABLE, str(tmp_path / "empty"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"has no tokenizer\.json"):
        harmbench.judge([row("w1")])
    tokenizer().save_pretrained(tmp_path / "empty")
    (tmp_path / "empty/config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "empty/pytorch_model.bin").write_bytes(b"pickled")  # never opened
    with pytest.raises(ValueError, match="is no causal model") as error:
        harmbench.judge([row("w1")])
    assert "\n" not in str(error.value)


def test_weights_that_are_missing_are_not_drawn_at_random(saved, monkeypatch):
    folder = saved("yes")
    tensors = load_file(f"{folder}/model.safetensors")
    del tensors["lm_head.weight"]
    save_file(tensors, f"{folder}/model.safetensors", metadata={"format": "pt"})
    monkeypatch.setenv(harmbench.VARIABLE, folder)
    with pytest.raises(ValueError, match=r"lacks lm_head\.weight"):
        harmbench.judge([row("w1")])
