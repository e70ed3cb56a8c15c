"""Loading and saving against plain references: architecture, Dream's shift, adapters."""

import json
import socket

import pytest
import torch
import torch.nn.functional as F
from lm.folders import HEADS, edit_config, edit_tensors, load
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

from mosa.lm import loading
from mosa.lm.loading import note_base, save
from mosa.lm.model import DiffusionLM
from mosa.pipeline.params import ROOT

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing`:FutureWarning",  # peft's business
    "ignore:Found missing adapter keys",  # comes before the error under test
)


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


def test_an_unknown_dtype(checkpoint):
    with pytest.raises(ValueError, match="dtype 'bf16' is none of weights"):
        load(checkpoint, dtype="bf16")
    with pytest.raises(ValueError, match="dtype 'int64' is none of weights"):
        load(checkpoint, dtype="int64")
    with pytest.raises(TypeError, match="must be a folder or a name, not None"):
        load(None)


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


def saved_adapter(folder, base, saving, **lora):
    """An adapter that peft itself loads, and the logits of its model."""
    torch.manual_seed(0)
    model = get_peft_model(load(base).model, LoraConfig(r=2, **lora)).eval()
    for name, parameter in model.named_parameters():
        if "lora_B" in name or "lora_embedding_A" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder, **saving)
    return lambda ids: model(input_ids=ids).logits


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("saving", "lora"),
    [
        ({"save_embedding_layers": True}, {"target_modules": ["q_proj"]}),
        ({"save_embedding_layers": False}, {"target_modules": ["q_proj", "embed_tokens"]}),
        ({"save_embedding_layers": True}, {"target_modules": ["q_proj", "embed_tokens"]}),
        ({}, {"target_modules": "all-linear"}),
        ({}, {"target_modules": ["q_proj"], "use_dora": True}),
        ({}, {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}),
        ({}, {"target_modules": ["q_proj"], "trainable_token_indices": [5, 6]}),
    ],
    ids=str,
)
def test_adapters_that_peft_loads_are_loaded(checkpoint, tmp_path, ids, saving, lora):
    expected = saved_adapter(tmp_path, checkpoint, saving, **lora)(ids)
    torch.testing.assert_close(load(checkpoint, adapter=tmp_path)(ids), expected)


@pytest.mark.parametrize("base", ["an MMaDA folder", "GSAI-ML/LLaDA-8B-Instruct"])
def test_two_local_folders_need_no_network(copy, tmp_path, ids, monkeypatch, base):
    """Whatever base the adapter names: MMaDA's vocab_size is smaller than its embedding."""
    saved_adapter(tmp_path / "adapter", copy, {}, target_modules=["q_proj"])
    if base == "an MMaDA folder":
        base = str(copy)
        edit_config(copy, architectures=["MMadaModelLM"], vocab_size=262, embedding_size=264)
    file, asked = tmp_path / "adapter/adapter_config.json", []
    expected = load(copy, adapter=tmp_path / "adapter")(ids)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": base}))
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *_, **__: asked.append(host))
    assert load(copy, adapter=tmp_path / "adapter")(ids).equal(expected)
    file.unlink()
    with pytest.raises(FileNotFoundError, match=r"adapter_config\.json is missing"):
        load(copy, adapter=tmp_path / "adapter")
    assert asked == []


def test_an_adapter_of_another_base_model_is_refused(checkpoint, copy, adapter, ids):
    """Of the same shapes: without the note, which others' adapters lack, nothing would tell."""
    expected = load(checkpoint, adapter=adapter)(ids)
    note_base(adapter, checkpoint)
    assert load(checkpoint, adapter=adapter)(ids).equal(expected)
    edit_tensors(copy, lambda tensors: {name: 2 * tensor for name, tensor in tensors.items()})
    with pytest.raises(ValueError, match=r"trained on \S*, and .* has other") as error:
        load(copy, adapter=adapter)
    assert all(name in str(error.value) for name in (f" {checkpoint.name},", str(copy)))
    assert "\n" not in str(error.value)
    (adapter / "base_model.json").unlink()
    assert load(copy, adapter=adapter)(ids).shape == expected.shape


def test_the_hash_of_large_weights_is_of_pieces_all_over_them(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "PIECE", 4)
    monkeypatch.setattr(loading, "PIECES", 8)
    file, found = tmp_path / "model.safetensors", set()
    for small in (True, False):
        content = bytearray(b"x" * (20 if small else 3200))
        for place in [None, *range(0, len(content), 1 if small else 400)]:
            file.write_bytes(content if place is None else
                             content[:place] + b"y" + content[place + 1:])
            found.add(loading._weights(tmp_path))
    assert len(found) == 1 + 20 + 1 + 8


@pytest.mark.parametrize("folder", sorted(ROOT.glob("adapters/*/*-*")), ids=lambda f: "/".join(
    f.parts[-2:]))
def test_shipped_adapters_say_what_they_were_trained_on(folder):
    base = folder.name.rpartition("-")[0]
    note = json.loads((folder / "base_model.json").read_text("utf-8"))
    assert note == {"name": base, "weights": loading._weights(ROOT / "models" / base)}


def test_an_adapter_that_lacks_a_saved_module_is_refused(checkpoint, tmp_path):
    saved_adapter(tmp_path, checkpoint, {}, target_modules=["q_proj"], modules_to_save=["lm_head"])
    file = tmp_path / "adapter_model.safetensors"
    save_file({n: t for n, t in load_file(file).items() if "lm_head" not in n}, file)
    with pytest.raises(ValueError, match=r"does not fit the model: .*lm_head") as error:
        load(checkpoint, adapter=tmp_path)
    assert "\n" not in str(error.value)
