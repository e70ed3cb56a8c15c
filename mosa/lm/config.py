"""config.json of LLaDA, MMaDA, Dream and our own models as configurations of native modules.

LLaDA is Llama under other names; Dream has Qwen2's.
"""

import math
import re
from collections.abc import Callable
from pathlib import Path

from huggingface_hub.errors import StrictDataclassError
from transformers import LlamaForCausalLM, PreTrainedConfig, Qwen2ForCausalLM

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
}
LLADA_OPTIONAL = {"embedding_size": "vocab_size", "n_kv_heads": "num_key_value_heads"}
DREAM_CONFIG = {name: name for name in [*LLADA_CONFIG.values(), "num_key_value_heads"]}
# Switches the native modules do not have: another value would give other logits, so it is refused.
LLADA_FIXED = {
    **{"block_type": "llama", "layer_norm_type": "rms", "activation_type": "silu", "rope": True},
    **{"rope_full_precision": True, "alibi": False, "scale_logits": False, "input_emb_norm": False},
    **{"attention_layer_norm": False, "multi_query_attention": False},
}
DREAM_FIXED = {"hidden_act": "silu", "use_sliding_window": False}


def native(raw: dict, path: Path) -> tuple[PreTrainedConfig, Callable[[str], str]]:
    """The native configuration of a checkpoint, and the function from native to its tensor names.

    raw: the contents of config.json; path: where it is. Beyond transformers' own fields the
    configuration has is_causal, mask_token_id and logit_shift. Raises ValueError, naming file and
    key, for a value that makes no sense, or that the native modules would not follow.
    """
    ids, file_name, kind = {}, str, raw.get("model_type")
    architectures = str(raw.get("architectures"))
    if kind == "llada" or "'LLaDAModelLM'" in architectures or "'MMadaModelLM'" in architectures:
        optional = {key: name for key, name in LLADA_OPTIONAL.items() if raw.get(key) is not None}
        ids, file_name = LLADA_IDS, llada_name
        fields = _translate(raw, LLADA_CONFIG | optional, LLADA_FIXED, path)
        fields["model_type"] = "llama"
    elif kind == "Dream":
        ids, fields = DREAM_IDS, _translate(raw, DREAM_CONFIG, DREAM_FIXED, path)
        fields |= {"model_type": "qwen2", "logit_shift": 1}
        full = ["full_attention"] * fields["num_hidden_layers"]
        if (raw.get("layer_types") or full) != full:
            raise ValueError(f"{path}: layer_types must all be 'full_attention'")
    elif kind in [*NATIVE] and isinstance(raw.get("is_causal"), bool):  # written by loading.save
        fields = raw | _translate(raw, DREAM_CONFIG, {}, path)
    else:
        raise ValueError(
            f"{path}: model_type {kind!r} is no masked diffusion model known here; use LLaDA, "
            "MMaDA, Dream, or a folder written by mosa.lm.loading.save")
    fields = {"logit_shift": 0, "is_causal": False, **fields, "use_cache": False}
    for key in ("mask_token_id", "eos_token_id", "pad_token_id"):
        fields[key] = ids.get(key) if raw.get(key) is None else raw[key]
        if type(fields[key]) is not int or not 0 <= fields[key] < fields["vocab_size"]:
            raise ValueError(f"{path}: {key} must be an id of the vocabulary, not {fields[key]!r}")
    if fields["mask_token_id"] == fields["eos_token_id"]:
        raise ValueError(f"{path}: mask_token_id and eos_token_id must differ")
    if fields["logit_shift"] not in (0, 1):
        raise ValueError(f"{path}: logit_shift must be 0 or 1, not {fields['logit_shift']!r}")
    try:
        return NATIVE[fields.pop("model_type")].config_class(**fields), file_name
    except (AttributeError, KeyError, StrictDataclassError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from error


def llada_name(name: str) -> str:
    """LLaDA's name of a Llama tensor: model.layers.3.mlp.gate_proj.weight is
    model.transformer.blocks.3.ff_proj.weight."""
    module, _, kind = name.rpartition(".")
    if block := re.fullmatch(r"model\.layers\.(\d+)\.(.+)", module):
        return f"model.transformer.blocks.{block[1]}.{LLADA_BLOCK[block[2]]}.{kind}"
    return f"model.transformer.{LLADA_TOP[module]}.{kind}"


def _translate(raw, names, fixed, path):
    for key, value in fixed.items():
        if (raw.get(key, value) or False) != value:  # null is no
            raise ValueError(f"{path}: {key} is {raw[key]!r}, only {value!r} is supported")
    if missing := [key for key in names if raw.get(key) is None]:
        raise ValueError(f"{path} lacks {', '.join(missing)}")
    for key, name in names.items():
        _check(key, name, raw[key], path)
    fields = {name: raw[key] for key, name in names.items()}  # embedding_size over vocab_size
    fields.setdefault("num_key_value_heads", fields["num_attention_heads"])
    width, heads, shared = (
        fields[key] for key in ("hidden_size", "num_attention_heads", "num_key_value_heads"))
    if width % (2 * heads) or heads % shared:
        raise ValueError(f"{path}: {width} channels, {heads} attention heads and {shared} of keys "
                         "and values do not fit together")
    return fields | {"rope_parameters": {"rope_type": "default",
                                         "rope_theta": _rope_theta(raw, path)}}


def _check(key, name, value, path):
    """One value by the native name of its key."""
    if name == "tie_word_embeddings":
        good, kind = isinstance(value, bool), "true or false"
    elif name in ("rms_norm_eps", "rope_theta"):
        good, kind = type(value) in (int, float) and 0 < value < math.inf, "a positive number"
    else:
        good, kind = type(value) is int and value > 0, "a positive whole number"
    if not good:
        raise ValueError(f"{path}: {key} must be {kind}, not {value!r}")


def _rope_theta(raw, path):
    """From rope_theta, or from rope_parameters, where transformers 5 writes it."""
    found = {"rope_theta": raw.get("rope_theta")}
    for key in ("rope_parameters", "rope_scaling"):
        rope = raw.get(key) or {}
        if not isinstance(rope, dict) or any(
                value != "default" for name, value in rope.items() if name != "rope_theta"):
            raise ValueError(f"{path}: {key} is {rope!r}, only rope_type 'default' is supported")
        found[f"{key}.rope_theta"] = rope.get("rope_theta")
    found = {key: theta for key, theta in found.items() if theta is not None}
    for key, theta in found.items():
        _check(key, "rope_theta", theta, path)
    if len(set(found.values())) != 1:
        raise ValueError(f"{path}: {' and '.join(found)} contradict each other" if found else
                         f"{path} lacks rope_theta")
    return found.popitem()[1]
