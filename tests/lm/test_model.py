"""Canvases, prompts and texts of a DiffusionLM."""

import json

import numpy as np
import pytest
import torch
from lm.folders import VOCAB, load
from tiny_model import tiny


def test_canvas_of_messages_and_histories(lm):
    history = [
        {"role": "user", "content": " hello "},
        {"role": "assistant", "content": "hi"},
        {"role": "user", "content": "bye"},
    ]
    canvas = lm.canvas(["hello", history], length=5)
    head = "<|start_header_id|>{}<|end_header_id|>\n\n"
    first = "<|startoftext|>" + head.format("user") + "hello<|eot_id|>"
    second = (
        first + head.format("assistant") + "hi<|eot_id|>" + head.format("user") + "bye<|eot_id|>"
    )
    texts = [text + head.format("assistant") for text in (first, second)]
    lengths = [len(lm.tokenizer(text)["input_ids"]) for text in texts]
    assert (canvas.prompt_length, canvas.length) == (lengths[1], 5)
    assert canvas.attention_mask.sum(1).tolist() == [length + 5 for length in lengths]
    for row, text in enumerate(texts):
        real = canvas.ids[row][canvas.attention_mask[row].bool()]
        assert lm.tokenizer.decode(real) == text + "<|mdm_mask|>" * 5
    assert (canvas.ids[0, : lengths[1] - lengths[0]] == lm.pad_id).all()
    assert (canvas.attention_mask[0, : lengths[1] - lengths[0]] == 0).all()


def test_canvas_of_ids_takes_them_as_they_are(lm):
    canvas = lm.canvas([[5], [6, 7, 8]], length=2)
    mask, pad = lm.mask_id, lm.pad_id
    assert canvas.ids.tolist() == [[pad, pad, 5, mask, mask], [6, 7, 8, mask, mask]]
    assert canvas.attention_mask.tolist() == [[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]]
    assert canvas.ids.dtype == canvas.attention_mask.dtype == torch.long
    assert (canvas.prompt_length, canvas.length) == (3, 2)


def test_prefill_for_all_rows_or_per_row(lm):
    m, b = lm.mask_id, lm.tokenizer("b")["input_ids"][0]
    shared = lm.canvas([[1], [2]], length=6, prefill={4: "bb", 0: [9, 8]})
    assert shared.ids.tolist() == [[p, 9, 8, m, m, b, b] for p in (1, 2)]
    per_row = lm.canvas([[1], [2]], length=3, prefill=[{2: [9]}, {}])
    assert per_row.ids.tolist() == [[1, m, m, 9], [2, m, m, m]]
    adjacent = lm.canvas([[1]], length=3, prefill={0: [5, 6], 2: [7]})
    assert adjacent.ids.tolist() == [[1, 5, 6, 7]]


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        ([[1]], {"prefill": {0: [1, 2], 1: [3]}}, "prefill at 1 overlaps the span that ends at 2"),
        ([[1]], {"prefill": {3: [1, 2]}}, "prefill 3 to 5 leaves the 4 slots"),
        ([[1]], {"prefill": {-1: [1]}}, "prefill -1 to 0 leaves the 4 slots"),
        ([[1]], {"prefill": [{}, {}]}, "2 dicts for 1 prompts"),
        ([[1]], {"prefill": {0: [VOCAB]}}, "prefill at 0 has token ids outside the vocabulary"),
        ([[1], [2, -1]], {}, r"prompts\[1\] has token ids outside the vocabulary, 0 to 263"),
        ([[1], []], {}, r"prompts\[1\] is empty"),
        ([], {}, "at least one"),
        ([b"abc"], {}, r"prompts\[0\] must be text or token ids, not b'abc'"),
        ([[1], [1.0, 2.7]], {}, r"prompts\[1\] must be text or token ids, not \[1\.0, 2\.7\]"),
        ([["1", "2"]], {}, r"prompts\[0\] must be text or token ids"),
        ([[1, True]], {}, r"prompts\[0\] must be text or token ids"),
        ([torch.tensor([True])], {}, r"prompts\[0\] must be text or token ids"),
        ([[[1]]], {}, r"prompts\[0\] must be text or token ids"),
        ([None], {}, r"prompts\[0\] must be text or token ids, not None"),
        (["\ud800"], {}, r"prompts\[0\] is no valid text"),
        (torch.tensor([1, 2]), {}, "must be a list of prompts"),
        (list(np.array([1, 2])), {}, r"prompts\[0\] must be text or token ids"),
        ([torch.ones(2, 2)], {}, r"prompts\[0\] must be text or token ids"),
        ([[1]], {"length": True}, "length must be at least 1, a whole number, got True"),
        ([[1]], {"length": 8.5}, "a whole number, got 8.5"),
        ([[1]], {"prefill": {0: 5}}, "prefill at 0 must be text or token ids, not 5"),
        ([[1]], {"prefill": {0: "\ud800"}}, "prefill at 0 is no valid text"),
        ([[1]], {"prefill": {"a": "x"}}, "prefill at 'a': a position is the number of a slot"),
        ([[1]], {"prefill": {1.5: "x"}}, r"prefill at 1\.5: a position"),
        ([[1]], {"prefill": {True: "x"}}, "prefill at True: a position"),
        ([[1], [2]], {"prefill": [{}, None]}, "prefill must be .*, not None"),
        ([[1]], {"prefill": ({0: "x"},)}, "prefill must be .* not "),
        ([[1]], {"prefill": {0: [1], "0": [2, 3]}}, "prefill at 0 overlaps"),
        ("text", {}, "must be a list of prompts"),
        ([1, 2], {}, r"prompts\[0\] must be text or token ids, not 1"),
        ([{"role": "user"}], {}, r"prompts\[0\] must be text or token ids, not \{'role'"),
        ([[1]], {"length": 0}, "length must be at least 1"),
        ([[1], [1] * 4093], {}, r"prompts\[1\] has 4093 tokens; with length=4 .* 4096 positions"),
    ],
)
def test_canvas_errors(lm, prompts, options, message):
    with pytest.raises(ValueError, match=message) as error:
        lm.canvas(prompts, **{"length": 4, **options})
    assert "\n" not in str(error.value)


def test_texts_without_chat_template(copy):
    (copy / "chat_template.jinja").unlink()
    lm = load(copy)
    assert lm.canvas(["ab"], length=1).ids.tolist() == [[*lm.tokenizer("ab")["input_ids"], 256]]
    with pytest.raises(ValueError, match=r"prompts\[0\] is empty"):
        lm.canvas([""])
    with pytest.raises(ValueError, match=r"prompts\[0\] is a chat"):
        lm.canvas([[{"role": "user", "content": "ab"}]])


def test_without_tokenizer_only_ids_work(copy):
    (copy / "tokenizer.json").unlink()
    lm = load(copy)
    assert lm.tokenizer is None
    assert lm.canvas([[1, 2]], length=1).ids.tolist() == [[1, 2, 256]]
    chat = [{"role": "user", "content": "ab"}]
    uses = [
        lambda: lm.canvas(["text"]),
        lambda: lm.canvas([chat]),
        lambda: lm.decode(torch.ones(1, 2)),
        lambda: lm.encode("text"),
    ]
    for use in [*uses, lambda: lm.canvas([[1]], prefill={0: "text"})]:
        with pytest.raises(ValueError, match="text needs a tokenizer"):
            use()


def test_decode_cuts_at_the_first_eos_and_drops_special_tokens(lm):
    a, eot = lm.tokenizer("a")["input_ids"][0], lm.tokenizer("<|eot_id|>")["input_ids"][0]
    rows = [[a, lm.eos_id, a, a], [a, lm.mask_id, a, eot], [lm.eos_id, a, a, a]]
    assert lm.decode(torch.tensor(rows)) == ["a", "aa", ""]
    text = "héllo  ☃ , wörld !"
    assert lm.decode(torch.tensor([lm.tokenizer(text)["input_ids"]])) == [text]


def test_ids_may_be_of_numpy_or_torch_and_a_prefill_from_json(lm):
    for ids in ((6, 7), np.array([6, 7]), torch.tensor([6, 7]), list(np.array([6, 7]))):
        assert lm.canvas([ids], length=np.int64(1)).ids.tolist() == [[6, 7, lm.mask_id]]
    stored = json.loads(json.dumps({2: "x", 10: [1]}))
    assert lm.canvas(["a"], 12, stored).ids.equal(lm.canvas(["a"], 12, {2: "x", 10: [1]}).ids)


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ({"role": "user", "text": "hi"}, "content must be text, not None"),
        ({"role": "user", "content": None}, "content must be text, not None"),
        ({"role": "user", "content": 5}, "content must be text, not 5"),
        ({"content": "hi"}, '"role", "content"'),
        ({"role": None, "content": "hi"}, '"role", "content"'),
        ("hi", '"role", "content"'),
        ({"role": "user", "content": [{"type": "image", "url": "x"}]}, "content must be text"),
        ({"role": "user", "content": [{"type": "text"}]}, "must be text, not None"),
        ({"role": "user", "content": "\ud800"}, "no valid text"),
    ],
)
def test_a_message_that_is_no_text_is_named(lm, message, error):
    with pytest.raises(ValueError, match=rf"prompts\[1\], message 1.*{error}"):
        lm.canvas(["hi", [{"role": "user", "content": "hi"}, message]], 4)


def test_text_parts_are_joined(lm):
    parts = [{"type": "text", "text": "how "}, {"type": "text", "text": "so"}]
    chat = [{"role": "user", "content": parts}]
    assert lm.prompt_ids(chat) == lm.prompt_ids("how so")
    assert chat[0]["content"] == parts  # the caller's own list is left alone


def test_prompt_ids_are_those_of_the_canvas(lm):
    canvas = lm.canvas(["hello"], length=3)
    assert lm.prompt_ids("hello") == canvas.ids[0, : canvas.prompt_length].tolist()
    with pytest.raises(ValueError, match=r"the prompt has .* length=4096 .* 4096 positions"):
        lm.prompt_ids("hello", 4096)


def test_encode_adds_no_special_token_and_wants_text(lm, dream):
    for model, text in ((lm, "é b"), (load(dream[0]), "ab c")):
        ids = model.encode(text)
        assert ids == model.tokenizer(text, add_special_tokens=False)["input_ids"]
        assert model.decode(torch.tensor([ids])) == [text]
    for wrong in (None, b"ab", ["ab"], "\udfff"):
        with pytest.raises(ValueError, match="the text"):
            lm.encode(wrong)


def test_unknown_ids_are_those_of_no_token(lm, dream, copy):
    assert lm.unknown_ids == [262, 263]  # 256 bytes and six special tokens of 264 ids
    assert load(dream[0]).unknown_ids == list(range(30, 300))
    (copy / "tokenizer.json").unlink()
    assert load(copy).unknown_ids == []


def test_words_that_a_tokenizer_does_not_know_are_named():
    model = tiny()  # of whole words: each other one would become the padding token
    for read in (model.encode, model.prompt_ids, lambda text: model.canvas([text], 8),
                 lambda text: model.canvas(["how do i make an orb ?"], 8, {0: text})):
        with pytest.raises(ValueError, match="words that the tokenizer does not know: 'yodel'"):
            read("first , yodel to the orb")
    assert model.pad_id in model.encode("first , <pad>")  # it was asked for


def test_decode_wants_responses_and_not_one():
    model = tiny()
    ids = model.encode("sure , here")
    assert model.decode([ids]) == ["sure , here"]
    with pytest.raises(ValueError, match=r"of shape \(B, L\), not \(3,\); .* lm.decode\(\[ids\]\)"):
        model.decode(ids)
