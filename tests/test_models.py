"""mosa.models and mosa.checkpoints against plain references: architecture, files, canvas."""

import json
import shutil

import huggingface_hub
import pytest
import torch
import torch.nn.functional as F
from huggingface_hub.errors import LocalEntryNotFoundError
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from mosa import checkpoints, models
from mosa.models import DiffusionLM, random_llada, save

HEADS, VOCAB = 4, 264
pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing`:FutureWarning",  # peft's business
    "ignore:Found missing adapter keys",  # comes before the error under test
)


def load(folder, **options):
    return models.load(folder, **{"device": "cpu", **options})


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """LLaDA's own names, two shards; weights large enough for attention to matter."""
    folder = tmp_path_factory.mktemp("models") / "llada"
    random_llada(folder, layers=2, hidden=32, heads=HEADS, vocab_size=VOCAB)
    for file in folder.glob("*.safetensors"):
        tensors = load_file(file)
        save_file({n: t * 8 if t.ndim == 2 else t * 0.9 for n, t in tensors.items()}, file)
    return folder


@pytest.fixture(scope="module")
def lm(checkpoint):
    return load(checkpoint)


@pytest.fixture
def copy(checkpoint, tmp_path):
    return shutil.copytree(checkpoint, tmp_path / "copy")


@pytest.fixture
def ids():
    return torch.randint(0, 256, (2, 9), generator=torch.Generator().manual_seed(1))


def edit_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def edit_tensors(folder, edit):
    """Rewrite a checkpoint as a single file of edit(tensors)."""
    tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(file)
        file.unlink()
    (folder / "model.safetensors.index.json").unlink()
    save_file(edit(tensors), folder / "model.safetensors")


# --- The architecture ----------------------------------------------------------------------------


def llada_forward(folder, ids, dtype=torch.float32, rope_dtype=torch.float32):
    """LLaDA's forward pass in plain torch, in LLaDA's tensor names."""
    w = {}
    for file in folder.glob("*.safetensors"):
        w |= {
            name.removeprefix("model.transformer."): t.to(dtype)
            for name, t in load_file(file).items()
        }

    def rms_norm(x, weight):
        x = x.float()
        return weight * (x * (x.pow(2).mean(-1, keepdim=True) + 1e-5).rsqrt()).to(dtype)

    def rotate(x):  # (B, heads, T, d): pairs are (i, i + d/2)
        half = x.shape[-1] // 2
        frequency = 1.0 / 500000.0 ** (torch.arange(half).float() / half)
        angle = torch.arange(x.shape[-2])[:, None] * frequency  # (T, d/2)
        cos, sin = angle.cos().to(rope_dtype), angle.sin().to(rope_dtype)
        a, b = x.to(rope_dtype).split(half, dim=-1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).to(dtype)

    x = w["wte.weight"][ids]
    for n in range(2):
        block = {k.removeprefix(f"blocks.{n}."): v for k, v in w.items() if f"blocks.{n}." in k}
        h = rms_norm(x, block["attn_norm.weight"])
        q, k, v = (
            (h @ block[f"{name}_proj.weight"].T).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for name in "qkv"
        )
        q, k = rotate(q), rotate(k)
        h = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)  # no mask at all
        x = x + h @ block["attn_out.weight"].T
        h = rms_norm(x, block["ff_norm.weight"])
        gate, up = h @ block["ff_proj.weight"].T, h @ block["up_proj.weight"].T
        x = x + (F.silu(gate) * up) @ block["ff_out.weight"].T
    return rms_norm(x, w["ln_f.weight"]) @ w["ff_out.weight"].T


def test_llada_equals_a_plain_reference(checkpoint, lm, ids):
    logits = lm(ids)
    assert logits.std() > 0.5
    torch.testing.assert_close(logits, llada_forward(checkpoint, ids), atol=1e-5, rtol=1e-5)


def test_bf16_rotates_in_fp32_as_llada_does(checkpoint, ids):
    lm = load(checkpoint, dtype="bfloat16")
    assert {p.dtype for p in lm.model.parameters()} == {torch.bfloat16}
    assert lm.model.model.rotary_emb.inv_freq.dtype == torch.float32
    logits = lm(ids).float()
    full, low = (
        (logits - llada_forward(checkpoint, ids, torch.bfloat16, rope)).abs().mean()
        for rope in (torch.float32, torch.bfloat16)
    )
    assert full < low / 10  # measured: 0.0 and 6e-3


def test_the_last_token_changes_the_first_logit(lm, ids):
    changed = ids.clone()
    changed[:, -1] = (changed[:, -1] + 1) % 256
    for mask in (None, torch.ones_like(ids)):
        assert (lm(ids, mask) - lm(changed, mask)).abs()[:, 0].max() > 1e-3


@pytest.mark.parametrize("pad", [0, 258])
def test_left_padding_is_exact(lm, ids, pad):
    padded = torch.cat([torch.full((2, 4), pad), ids], dim=1)
    mask = torch.ones_like(padded)
    padded[1, :4], mask[0, :4] = torch.arange(4), 0
    logits = lm(padded, mask)
    torch.testing.assert_close(logits[:1, 4:], lm(ids[:1]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(logits[1:], lm(padded[1:]), atol=1e-5, rtol=1e-5)


def test_a_mask_of_ones_is_dropped(lm, ids):
    seen = []
    hook = lm.model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["attention_mask"]), with_kwargs=True
    )
    mask = torch.ones_like(ids)
    lm(ids, mask)
    mask[1, 0] = 0
    lm(ids, mask)
    hook.remove()
    assert seen[0] is None and seen[1].equal(mask)


def test_a_row_of_padding_only_leaves_the_others_alone(lm, ids):
    mask = torch.ones_like(ids)
    mask[0] = 0
    torch.testing.assert_close(lm(ids, mask)[1], lm(ids)[1], atol=1e-5, rtol=1e-5)


def test_eos_as_input_gets_an_embedding_gradient(checkpoint):
    lm = load(checkpoint)
    lm(torch.tensor([[1, lm.eos_id, 2]])).sum().backward()
    assert lm.model.model.embed_tokens.weight.grad[lm.pad_id].abs().sum() > 0


def test_no_cache_is_built(lm, ids):
    assert lm.model(ids).past_key_values is None


# --- Checkpoints ---------------------------------------------------------------------------------


def test_special_tokens_come_from_config_or_are_llada_s(checkpoint, lm, copy):
    assert (lm.mask_id, lm.eos_id, lm.pad_id, lm.logit_shift) == (256, 258, 258, 0)
    assert lm.tokenizer.convert_ids_to_tokens(lm.mask_id) == "<|mdm_mask|>"
    edit_config(copy, mask_token_id=None, eos_token_id=None, pad_token_id=None)
    with pytest.raises(
        ValueError, match="mask_token_id must be an id of the vocabulary, not 126336"
    ):
        load(copy)
    edit_config(copy, embedding_size=126464)
    config, _ = checkpoints.read_config(copy / "config.json")
    assert (config.mask_token_id, config.eos_token_id) == (126336, 126081)
    assert config.pad_token_id == 126081


def test_sharded_equals_single(lm, copy, ids):
    edit_tensors(copy, dict)
    assert [file.name for file in copy.glob("*.safetensors")] == ["model.safetensors"]
    assert (load(copy)(ids) - lm(ids)).abs().max() == 0.0


def test_mmada_is_recognised_by_its_architecture(lm, copy, ids):
    edit_config(copy, model_type="mmada", architectures=["MMadaModelLM"])
    assert (load(copy)(ids) - lm(ids)).abs().max() == 0.0


def test_a_checkpoint_s_code_is_never_run(copy, ids):
    edit_config(copy, auto_map={"AutoModelForCausalLM": "modeling_llada.LLaDAModelLM"})
    (copy / "modeling_llada.py").write_text("raise SystemExit('remote code was run')")
    assert load(copy)(ids).isfinite().all()


def test_tied_head(copy, ids):
    edit_config(copy, weight_tying=True)
    with pytest.raises(ValueError, match=r"no tensor model\.transformer\.ff_out\.weight"):
        load(copy)
    head = "model.transformer.ff_out.weight"
    edit_tensors(copy, lambda tensors: {k: v for k, v in tensors.items() if k != head})
    lm = load(copy)
    assert lm.model.lm_head.weight is lm.model.model.embed_tokens.weight
    tensors = load_file(copy / "model.safetensors")
    save_file(
        tensors | {head: tensors["model.transformer.wte.weight"].clone()},
        copy / "model.safetensors",
    )
    torch.testing.assert_close(lm(ids), llada_forward(copy, ids), atol=1e-5, rtol=1e-5)
    save(lm, copy / "saved")
    assert "lm_head.weight" not in load_file(copy / "saved/model.safetensors")
    assert load(copy / "saved")(ids).equal(lm(ids))


def test_missing_tensors_are_named(copy):
    lost = {"model.transformer.ln_f.weight", "model.transformer.blocks.1.ff_out.weight"}
    edit_tensors(copy, lambda tensors: {k: v for k, v in tensors.items() if k not in lost})
    with pytest.raises(ValueError, match=r"model\.safetensors\) lacks") as error:
        load(copy)
    assert all(name in str(error.value) for name in lost)


def test_an_unexpected_tensor_is_named(copy):
    extra = "model.transformer.blocks.0.q_proj.bias"
    edit_tensors(copy, lambda tensors: tensors | {extra: torch.zeros(32)})
    with pytest.raises(ValueError, match=rf"model\.safetensors: .* no tensor {extra}"):
        load(copy)


def test_a_wrong_shape_is_named(copy):
    edit_config(copy, mlp_hidden_size=48)
    with pytest.raises(ValueError, match=r"blocks\.0\.ff_.* has shape .*96.* implies .*48"):
        load(copy)


@pytest.mark.parametrize("keep", [-100, 200, 4])
def test_a_truncated_file_is_named(copy, keep):
    file = copy / "model-00002-of-00002.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"model-00002-of-00002\.safetensors is damaged"):
        load(copy)


def test_a_missing_shard_is_named(copy):
    (copy / "model-00001-of-00002.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model-00001-of-00002\.safetensors is missing"):
        load(copy)


def test_a_loaded_model_does_not_change_with_its_file(copy, ids):
    lm = load(copy)
    before = lm(ids)
    for file in copy.glob("*.safetensors"):  # in place: get_tensor() maps the file
        with open(file, "r+b") as stream:
            stream.seek(-64, 2)
            stream.write(b"\xff" * 64)  # NaN
    assert load(copy)(ids).isnan().any()
    assert lm(ids).equal(before)


def test_only_safetensors_are_read(copy):
    for file in copy.glob("*.safetensors*"):
        file.unlink()
    torch.save({}, copy / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match="safetensors only"):
        load(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "gpt2", "architectures": None}, "model_type 'gpt2' is no masked diffusion"),
        ({"model_type": "llama", "architectures": None}, "written by"),
        ({"alibi": True}, "alibi is True, only False"),
        ({"d_model": None, "n_heads": None}, "lacks d_model, n_heads"),
        ({"mask_token_id": VOCAB}, "mask_token_id must be an id of the vocabulary, not 264"),
    ],
)
def test_a_configuration_the_native_modules_cannot_express_is_refused(copy, change, message):
    edit_config(copy, **change)
    with pytest.raises(ValueError, match=message) as error:
        load(copy)
    assert "config.json" in str(error.value)


def test_an_unknown_dtype(checkpoint):
    with pytest.raises(ValueError, match="dtype 'bf16' is no torch dtype"):
        load(checkpoint, dtype="bf16")


def test_no_config(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config\.json is missing"):
        load(tmp_path)


def test_names_are_downloaded_without_code(checkpoint, monkeypatch, ids):
    asked = {}

    def download(name, allow_patterns):
        asked.update(name=name, patterns=allow_patterns)
        return str(checkpoint)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert load("GSAI-ML/LLaDA-8B-Instruct")(ids).isfinite().all()
    assert asked["name"] == "GSAI-ML/LLaDA-8B-Instruct"
    assert not any(pattern.endswith((".py", ".bin", "*")) for pattern in asked["patterns"])


def test_offline_is_one_clear_error(monkeypatch):
    def download(name, allow_patterns):
        raise LocalEntryNotFoundError("long text\nof several lines")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(FileNotFoundError, match="some/model is no folder") as error:
        load("some/model")
    assert "\n" not in str(error.value)


# --- Saving --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_saved_and_loaded_logits_are_identical(checkpoint, tmp_path, ids, dtype):
    lm = load(checkpoint, dtype=dtype)
    save(lm, tmp_path)
    again = load(tmp_path)
    assert again(ids).dtype == getattr(torch, dtype)
    assert (again(ids) - lm(ids)).abs().max() == 0.0
    assert (again.mask_id, again.eos_id, again.pad_id) == (256, 258, 258)
    assert again.canvas(["é"]).ids.tolist() == lm.canvas(["é"]).ids.tolist()


def test_saved_folders_are_plain_transformers_folders(lm, tmp_path, ids):
    save(lm, tmp_path)
    plain = LlamaForCausalLM.from_pretrained(tmp_path)
    torch.testing.assert_close(plain(ids).logits, lm(ids), atol=1e-5, rtol=1e-5)


def test_a_module_built_elsewhere_can_be_saved(lm, tmp_path, ids):
    model = LlamaForCausalLM(lm.model.config)
    save(DiffusionLM(model, None, mask_id=7, eos_id=8, pad_id=9), tmp_path)
    again = load(tmp_path)
    assert (again.mask_id, again.eos_id, again.pad_id) == (7, 8, 9)
    assert again.tokenizer is None
    assert (again(ids) - model(ids).logits).abs().max() == 0.0


def test_saving_to_the_folder_one_loaded_from(lm, tmp_path, ids):
    save(lm, tmp_path)
    again = load(tmp_path)
    with torch.no_grad():
        again.model.lm_head.weight.mul_(2)
    save(again, tmp_path)
    torch.testing.assert_close(load(tmp_path)(ids), 2 * lm(ids))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_an_edited_file_is_refused(lm, tmp_path, name):
    save(lm, tmp_path)
    content = bytearray((tmp_path / name).read_bytes())
    content[-3] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} is not .* `git checkout .*{name}` or `make re"):
        load(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=f"{name} is not the file"):
        load(tmp_path)


# --- Dream ---------------------------------------------------------------------------------------


@pytest.fixture
def dream(tmp_path):
    """A Dream checkpoint (Qwen2's names, tokenizer in Python code) and its causal Qwen2 twin."""
    sizes = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, vocab_size=300)
    sizes |= dict(num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64)
    torch.manual_seed(0)
    qwen = Qwen2ForCausalLM(Qwen2Config(**sizes, initializer_range=0.3)).eval()
    folder = tmp_path / "dream"
    folder.mkdir()
    save_file(qwen.state_dict(), folder / "model.safetensors")
    config = {"model_type": "Dream", "rms_norm_eps": 1e-6, "tie_word_embeddings": False, **sizes}
    config |= {
        "rope_theta": 10000.0,
        "mask_token_id": 29,
        "eos_token_id": 28,
        "pad_token_id": 28,
    }
    (folder / "config.json").write_text(json.dumps(config))
    words = {chr(97 + i): i for i in range(26)} | {"Ġ": 26, "ab": 27}
    (folder / "vocab.json").write_text(json.dumps(words))
    (folder / "merges.txt").write_text("#version: 0.2\na b\n")
    names = {28: "<|endoftext|>", 29: "<|mask|>"}
    tokens = {str(i): {"content": text, "special": True} for i, text in names.items()}
    tokenizer = {"tokenizer_class": "DreamTokenizer", "added_tokens_decoder": tokens}
    tokenizer |= {"auto_map": {"AutoTokenizer": ["tokenization_dream.DreamTokenizer", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    (folder / "tokenization_dream.py").write_text("raise SystemExit('remote code was run')")
    return folder, qwen


def test_dream_is_a_bidirectional_shifted_qwen2(dream, ids):
    folder, qwen = dream
    lm = load(folder)
    everything = torch.zeros(2, 1, 9, 9)  # an additive mask that hides nothing
    unshifted = qwen(ids, attention_mask=everything).logits
    logits = lm(ids)
    torch.testing.assert_close(logits[:, 1:], unshifted[:, :-1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(logits[:, 0], unshifted[:, 0], atol=1e-5, rtol=1e-5)
    assert (qwen(ids).logits[:, 0] - unshifted[:, 0]).abs().max() > 1e-2  # the causal control
    assert (lm.mask_id, lm.eos_id, lm.logit_shift) == (29, 28, 1)
    mask = torch.tensor([[0] * 3 + [1] * 9])
    padded = torch.cat([torch.full((1, 3), 258), ids[:1]], dim=1)
    torch.testing.assert_close(lm(padded, mask)[:, 4:], logits[:1, 1:], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["llada", "dream"])
def test_logits_at_some_positions_are_those_of_all(lm, dream, ids, family):
    lm = lm if family == "llada" else load(dream[0])
    ids = ids.clamp(max=27)
    some, everywhere = lm.at([0, 3, 8], input_ids=ids), lm(ids)
    torch.testing.assert_close(some, everywhere[:, [0, 3, 8]])
    embedded = lm.model.get_input_embeddings()(ids)
    torch.testing.assert_close(lm.at([0, 3, 8], inputs_embeds=embedded), some)


def test_dream_s_tokenizer_needs_no_code(dream):
    lm = load(dream[0])
    assert lm.tokenizer("abc ab<|mask|>")["input_ids"] == [27, 2, 26, 27, 29]
    assert lm.decode(torch.tensor([[27, 29, 2, 28, 3]])) == ["abc"]


def test_dream_survives_saving(dream, tmp_path, ids):
    lm = load(dream[0], dtype=torch.bfloat16)
    save(lm, tmp_path / "saved")
    again = load(tmp_path / "saved")
    assert again.logit_shift == 1
    assert (again(ids) - lm(ids)).abs().max() == 0.0
    assert again.tokenizer("ab c")["input_ids"] == lm.tokenizer("ab c")["input_ids"]


# --- Canvas and texts ----------------------------------------------------------------------------


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
    for index in ([1], slice(1, 2), torch.tensor([1])):
        row = canvas.rows(index)
        assert row.ids.tolist() == [[6, 7, 8, mask, mask]]
        assert (row.prompt_length, row.length) == (3, 2)
        assert row.attention_mask.tolist() == [[1, 1, 1, 1, 1]]


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
        ("text", {}, "must be a list of prompts"),
        ([1, 2], {}, "must be a list of prompts"),
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


# --- Adapters ------------------------------------------------------------------------------------


@pytest.fixture
def adapter(checkpoint, tmp_path):
    model = get_peft_model(
        load(checkpoint).model, LoraConfig(r=2, target_modules=["q_proj", "o_proj", "gate_proj"])
    )
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_an_adapter_changes_the_logits_and_can_be_switched_off(checkpoint, lm, adapter, ids):
    tuned = load(checkpoint, adapter=adapter)
    assert (tuned(ids) - lm(ids)).abs().max() > 0.1
    assert not tuned.model.training
    with tuned.model.disable_adapter():
        assert (tuned(ids) - lm(ids)).abs().max() == 0.0
    assert tuned.canvas(["a"], length=2).ids.tolist() == lm.canvas(["a"], length=2).ids.tolist()


def test_an_adapter_is_saved_by_merging_only(checkpoint, adapter, tmp_path, ids):
    tuned = load(checkpoint, adapter=adapter)
    expected = tuned(ids)
    with pytest.raises(ValueError, match="merge_and_unload"):
        save(tuned, tmp_path / "merged")
    tuned.model = tuned.model.merge_and_unload()
    save(tuned, tmp_path / "merged")
    torch.testing.assert_close(load(tmp_path / "merged")(ids), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("fault", ["missing", "unexpected", "shape", "pickle"])
def test_an_adapter_that_does_not_fit_is_refused(checkpoint, adapter, fault):
    file = adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    name = sorted(tensors)[0]
    if fault == "missing":
        del tensors[name]
    elif fault == "unexpected":
        tensors[name.replace("gate_proj", "ff_proj")] = tensors.pop(name)
    elif fault == "shape":
        tensors[name] = torch.zeros(2, 31)
    save_file(tensors, file)
    if fault == "pickle":
        file.unlink()
        torch.save(tensors, adapter / "adapter_model.bin")
    with pytest.raises((ValueError, FileNotFoundError), match="adapter") as error:
        load(checkpoint, adapter=adapter)
    stem = "adapter_model.safetensors" if fault == "pickle" else name.removesuffix(".weight")
    assert stem in str(error.value) and "\n" not in str(error.value)


# --- The rehearsal checkpoint --------------------------------------------------------------------


def test_random_llada_has_llada_s_layout_and_depends_on_its_seed_only(tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        random_llada(tmp_path / name, seed=seed)
    assert torch.rand(1) == expected  # the caller's random numbers are left alone
    files = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    a, b, c = (load_file(tmp_path / n / files[0]) for n in "abc")
    assert all(a[name].equal(b[name]) for name in a)
    assert not a["model.transformer.wte.weight"].equal(c["model.transformer.wte.weight"])
    names = set(a) | set(load_file(tmp_path / "a" / files[1]))
    assert len(names) == 2 * 9 + 3
    assert {"model.transformer.blocks.1.ff_proj.weight", "model.transformer.ff_out.weight"} <= names
    with pytest.raises(ValueError, match="vocab_size must be at least 262"):
        random_llada(tmp_path / "d", vocab_size=256)
