"""The files of masked diffusion models: LLaDA's, MMaDA's and Dream's as published, and our own.

LLaDA is Llama under other names; Dream has Qwen2's. No code of a checkpoint is ever run: tensors
are read from safetensors and renamed, and every one of them must be accounted for.
"""

import hashlib
import json
import re
from pathlib import Path

import huggingface_hub
import torch
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2ForCausalLM, Qwen2Tokenizer

from mosa.params import ROOT

NATIVE = {"llama": LlamaForCausalLM, "qwen2": Qwen2ForCausalLM}  # by transformers' model_type
# Special tokens where config.json does not give them: <|mdm_mask|>, <|endoftext|>; <|mask|>.
LLADA_IDS = {"mask_token_id": 126336, "eos_token_id": 126081, "pad_token_id": 126081}
DREAM_IDS = {"mask_token_id": 151666}

# Tensor names, transformers' Llama to LLaDA's. In a block, ff_proj is the projection that passes
# through SiLU; the ff_out outside the blocks is the head.
LLADA_TOP = {"model.embed_tokens": "wte", "model.norm": "ln_f", "lm_head": "ff_out"}
LLADA_BLOCK = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "q_proj",
    "self_attn.k_proj": "k_proj",
    "self_attn.v_proj": "v_proj",
    "self_attn.o_proj": "attn_out",
    "post_attention_layernorm": "ff_norm",
    "mlp.gate_proj": "ff_proj",
    "mlp.up_proj": "up_proj",
    "mlp.down_proj": "ff_out",
}
# Configuration names, LLaDA's to transformers'. Dream's are Qwen2's own.
LLADA_CONFIG = {
    "d_model": "hidden_size",
    "mlp_hidden_size": "intermediate_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "vocab_size": "vocab_size",
    "max_sequence_length": "max_position_embeddings",
    "rms_norm_eps": "rms_norm_eps",
    "weight_tying": "tie_word_embeddings",
    "rope_theta": "rope_theta",
}
DREAM_CONFIG = {name: name for name in [*LLADA_CONFIG.values(), "num_key_value_heads"]}
# Switches the native modules do not have: another value would give other logits, so it is refused.
LLADA_FIXED = {
    **{"block_type": "llama", "layer_norm_type": "rms", "activation_type": "silu", "rope": True},
    **{"rope_full_precision": True, "alibi": False, "scale_logits": False, "input_emb_norm": False},
}
DREAM_FIXED = {"hidden_act": "silu", "rope_scaling": None, "use_sliding_window": False}

LLADA_CHAT = (  # LLaDA-8B-Instruct's own template
    "{% for message in messages %}{{ bos_token if loop.first }}<|start_header_id|>"
    "{{ message['role'] }}<|end_header_id|>\n\n{{ message['content'] | trim }}<|eot_id|>"
    "{% endfor %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
)


def local_folder(name):
    """The local folder of a model, downloaded if need be, its checksums verified if it has any."""
    folder = Path(name) if Path(name).is_dir() else ROOT / name  # notebooks run in their folder
    if not folder.is_dir():
        try:
            patterns = ["*.json", "*.safetensors", "*.jinja", "merges.txt"]  # no code, no pickles
            folder = Path(huggingface_hub.snapshot_download(str(name), allow_patterns=patterns))
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
            raise FileNotFoundError(
                f"{name} is no folder, and could not be downloaded ({type(error).__name__}): check "
                "the path or name, or download the model elsewhere and give its folder"
            ) from error
    if (folder / "checksums.json").is_file():
        for file, checksum in _read_json(folder / "checksums.json").items():
            if not (folder / file).is_file() or _sha256(folder / file) != checksum:
                raise ValueError(
                    f"{folder / file} is not the file that checksums.json describes: restore it "
                    f"with `git checkout {folder / file}` or `make retrain`"
                )
    return folder


def read_config(path):
    """The native configuration of a checkpoint, and the function from native to its tensor names.

    Beyond transformers' own fields it has is_causal, mask_token_id and logit_shift.
    """
    raw, ids, file_name = _read_json(path), {}, str
    kind, architectures = raw.get("model_type"), set(raw.get("architectures") or [])
    if kind == "llada" or architectures & {"LLaDAModelLM", "MMadaModelLM"}:
        ids, file_name = LLADA_IDS, llada_name
        fields = _translate(raw, LLADA_CONFIG, LLADA_FIXED, path)
        fields["vocab_size"] = raw.get("embedding_size") or raw["vocab_size"]  # rows of wte
        fields["num_key_value_heads"] = raw.get("n_kv_heads") or raw["n_heads"]
        fields["model_type"] = "llama"
    elif kind == "Dream":
        ids = DREAM_IDS
        fields = _translate(raw, DREAM_CONFIG, DREAM_FIXED, path)
        fields |= {"model_type": "qwen2", "logit_shift": 1}
    elif kind in NATIVE and isinstance(raw.get("is_causal"), bool):  # written by mosa.models.save
        fields = dict(raw)
    else:
        raise ValueError(
            f"{path}: model_type {kind!r} is no masked diffusion model known here; use LLaDA, "
            "MMaDA, Dream, or a folder written by mosa.models.save"
        )
    for key in ("mask_token_id", "eos_token_id", "pad_token_id"):
        fields[key] = ids.get(key) if raw.get(key) is None else raw[key]
        if fields[key] is None or not 0 <= fields[key] < fields["vocab_size"]:
            raise ValueError(f"{path}: {key} must be an id of the vocabulary, not {fields[key]}")
    fields = {"logit_shift": 0, "is_causal": False, **fields, "use_cache": False}
    return NATIVE[fields.pop("model_type")].config_class(**fields), file_name


def _translate(raw, names, fixed, path):
    for key, value in fixed.items():
        if raw.get(key, value) != value:
            raise ValueError(f"{path}: {key} is {raw[key]!r}, only {value!r} is supported")
    missing = [key for key in names if raw.get(key) is None]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}")
    fields = {native: raw[key] for key, native in names.items()}
    fields["rope_parameters"] = {"rope_type": "default", "rope_theta": fields.pop("rope_theta")}
    return fields


def llada_name(name):
    """LLaDA's name of a Llama tensor: model.layers.3.mlp.gate_proj.weight is
    model.transformer.blocks.3.ff_proj.weight."""
    module, _, kind = name.rpartition(".")
    if block := re.fullmatch(r"model\.layers\.(\d+)\.(.+)", module):
        return f"model.transformer.blocks.{block[1]}.{LLADA_BLOCK[block[2]]}.{kind}"
    return f"model.transformer.{LLADA_TOP[module]}.{kind}"


def read_tensors(folder, expected, dtype, device):
    """{native name: tensor} of a checkpoint; expected: {name in file: (native name, shape)}."""
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file():
        files = ["model.safetensors"]
    elif index.is_file():
        files = sorted(set(_read_json(index)["weight_map"].values()))
    else:
        raise FileNotFoundError(
            f"{folder} has neither model.safetensors nor {index.name}: weights are read from "
            "safetensors only, convert other formats (.bin, .pt) first"
        )
    tensors = {}
    for file in files:
        for name, tensor in stored_tensors(folder / file):
            native, shape = expected.get(name, (None, None))
            if native is None:
                raise ValueError(f"{folder / file}: config.json implies no tensor {name}")
            if tensor.shape != shape:
                raise ValueError(
                    f"{folder / file}: {name} has shape {tuple(tensor.shape)}, "
                    f"config.json implies {tuple(shape)}"
                )
            # A copy: the tensor itself is mapped to the file, and would change and vanish with it.
            tensors[native] = tensor.to(device=device, dtype=dtype, copy=True)
    missing = [name for name, (native, _) in expected.items() if native not in tensors]
    if missing:
        raise ValueError(f"{folder} ({', '.join(files)}) lacks {', '.join(missing)}")
    return tensors


def stored_tensors(path):
    """The (name, tensor) pairs of a safetensors file, one in memory at a time."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: download the model again")
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():
                yield name, file.get_tensor(name)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}): restore or download it again") from error


def read_tokenizer(folder):
    """From tokenizer.json, or from vocab.json and merges.txt as Dream publishes; or None."""
    if (folder / "tokenizer.json").is_file():
        return PreTrainedTokenizerFast.from_pretrained(folder)
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return Qwen2Tokenizer.from_pretrained(folder)
    return None


def random_llada(folder, layers=2, hidden=64, heads=4, vocab_size=264, seed=0):
    """Write a checkpoint with random fp32 weights exactly as LLaDA publishes its own.

    LLaDA's tensor and configuration names, two shards with an index, feed-forward layers of
    3 * hidden, and a tokenizer of bytes (ids 0 to 255) with LLaDA's special tokens and chat
    template: what the `rehearsal` profile loads to exercise the path of the 8B model.
    """
    mask, bos, eos = "<|mdm_mask|>", "<|startoftext|>", "<|endoftext|>"
    specials = [mask, bos, eos, "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    if vocab_size < 256 + len(specials):
        raise ValueError(f"vocab_size must be at least {256 + len(specials)}, got {vocab_size}")
    folder = Path(folder)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE(vocab={byte: i for i, byte in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(specials)
    named = {"bos_token": bos, "eos_token": eos, "pad_token": eos, "chat_template": LLADA_CHAT}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named).save_pretrained(folder)
    raw = {
        **{"architectures": ["LLaDAModelLM"], "model_type": "llada", **LLADA_FIXED},
        **{"d_model": hidden, "n_layers": layers, "n_heads": heads, "n_kv_heads": heads},
        **{"mlp_hidden_size": 3 * hidden, "max_sequence_length": 4096, "weight_tying": False},
        **{"vocab_size": vocab_size, "embedding_size": vocab_size},
        **{"rms_norm_eps": 1e-5, "rope_theta": 500000.0},
        "mask_token_id": tokenizer.token_to_id(mask),
        **dict.fromkeys(["eos_token_id", "pad_token_id"], tokenizer.token_to_id(eos)),
    }
    write_json(folder / "config.json", raw)
    config, _ = read_config(folder / "config.json")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tensors = LlamaForCausalLM(config).state_dict()
    tensors = {llada_name(name): tensor for name, tensor in tensors.items()}
    names, half, weight_map = list(tensors), (len(tensors) + 1) // 2, {}
    for i, shard in enumerate((names[:half], names[half:]), start=1):
        file = f"model-0000{i}-of-00002.safetensors"
        save_file({name: tensors[name] for name in shard}, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(shard, file)
    write_json(folder / "model.safetensors.index.json", {"weight_map": weight_map})


def write_checksums(folder, files):
    """checksums.json over the given files of a folder; `local_folder` verifies them."""
    checksums = {file.name: _sha256(file) for file in sorted(files) if file.is_file()}
    write_json(folder / "checksums.json", checksums)


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_json(path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing: is this a model's folder?") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON ({error}): restore it") from error


def write_json(path, content):
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
