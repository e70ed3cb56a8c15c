"""Masked diffusion language models (LLaDA, MMaDA, Dream, ours) as native transformers modules.

    lm = load("GSAI-ML/LLaDA-8B-Instruct", dtype="bfloat16")      # or a folder
    canvas = lm.canvas(["How do tides work?"], length=128, prefill={40: "the next step is"})
    logits = lm(canvas.ids, canvas.attention_mask)                # (B, P+L, V)

LLaDA is Llama with bidirectional attention under other names; Dream is Qwen2 with bidirectional
attention, whose position i-1 predicts token i. No code of a checkpoint is ever run: tensors are
read from safetensors and renamed, and every one of them must be accounted for.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
import torch
import transformers
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from peft import PeftModel, get_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from mosa.params import ROOT

# Special tokens where config.json does not give them: <|mdm_mask|>, <|endoftext|>; <|mask|>.
LLADA_IDS = {"mask_token_id": 126336, "eos_token_id": 126081, "pad_token_id": 126081}
LLADA_EOT = 126348  # <|eot_id|> ends LLaDA's turns, before the EOS tokens that fill the response
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
NATIVE = {
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
    "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
}


@dataclass
class Canvas:
    """Prompts and the response slots after them: what a diffusion model sees and fills in."""

    ids: torch.Tensor  # (B, P+L) long; prompts left-padded to P
    attention_mask: torch.Tensor  # (B, P+L) long; 0 on the left padding
    prompt_length: int  # P

    @property
    def length(self):
        """L, the number of response slots."""
        return self.ids.shape[1] - self.prompt_length

    def rows(self, index):
        """The canvas of some rows only; `index` is a list, slice or tensor."""
        return Canvas(self.ids[index], self.attention_mask[index], self.prompt_length)


@dataclass
class DiffusionLM:
    """A native transformers module (in eval mode) and what masked diffusion must know about it."""

    model: torch.nn.Module
    tokenizer: PreTrainedTokenizerFast | None
    mask_id: int
    eos_id: int
    pad_id: int
    logit_shift: int = 0  # the module's logits at i are for token i + logit_shift; 1 for Dream

    @property
    def device(self):
        return next(self.model.parameters()).device

    def __call__(self, input_ids, attention_mask=None):
        """Logits (B, T, V) of ids (B, T); position i predicts token i in every family.

        attention_mask (B, T) is 0 on padding. RoPE is relative, so left padding needs no position
        ids. Dream has no logits for the first token; the second's are repeated, as in its code.
        """
        if attention_mask is not None and attention_mask.all():
            attention_mask = None  # lets SDPA choose its fast kernels
        logits = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        if self.logit_shift:
            logits = torch.cat([logits[:, :1], logits[:, :-1]], dim=1)
        return logits

    def canvas(self, prompts, length=128, prefill=None):
        """Prompts followed by `length` response slots, masked except where prefilled.

        prompts: one entry a row: a user message (through the chat template if the tokenizer has
        one), a chat history (list of {"role", "content"}), or a list of token ids, taken as is.
        prefill: {response position: text or ids}, one dict for all rows or a list with one a row.
        Raises ValueError for empty prompts, ids outside the vocabulary, spans that overlap or
        leave the response, and more positions than the model has.
        """
        if isinstance(prompts, str) or len(prompts) == 0 or isinstance(prompts[0], int | dict):
            raise ValueError("prompts must be a list of prompts, with at least one")
        if length < 1:
            raise ValueError(f"length must be at least 1, got {length}")
        prefills = prefill if isinstance(prefill, list) else [prefill or {}] * len(prompts)
        if len(prefills) != len(prompts):
            raise ValueError(f"prefill has {len(prefills)} dicts for {len(prompts)} prompts")
        rows = [self._prompt_ids(prompt, f"prompts[{i}]") for i, prompt in enumerate(prompts)]
        longest = max(range(len(rows)), key=lambda i: len(rows[i]))
        prompt_length, limit = len(rows[longest]), self.model.config.max_position_embeddings
        if prompt_length + length > limit:
            raise ValueError(
                f"prompts[{longest}] has {prompt_length} tokens; with length={length} that exceeds "
                f"the model's {limit} positions: shorten the prompt or lower length"
            )
        ids = torch.full((len(rows), prompt_length + length), self.mask_id)
        attention_mask = torch.ones_like(ids)
        for i, prompt in enumerate(rows):
            padding = prompt_length - len(prompt)
            ids[i, :padding], attention_mask[i, :padding] = self.pad_id, 0
            ids[i, padding:prompt_length] = torch.tensor(prompt)
            self._write_prefill(ids[i, prompt_length:], prefills[i])
        return Canvas(ids.to(self.device), attention_mask.to(self.device), prompt_length)

    def decode(self, ids):
        """Texts of response ids (B, L), each cut at its first EOS, special tokens dropped."""
        rows = [[*row, self.eos_id] for row in ids.tolist()]
        rows = [row[: row.index(self.eos_id)] for row in rows]
        return [self._tokenizer().decode(row, skip_special_tokens=True) for row in rows]

    def _tokenizer(self):
        if self.tokenizer is None:
            raise ValueError(
                "text needs a tokenizer, and this model's folder has none: "
                "pass token ids, or add its tokenizer.json to the folder"
            )
        return self.tokenizer

    def _prompt_ids(self, prompt, where):
        if isinstance(prompt, str) and self._tokenizer().chat_template:
            prompt = [{"role": "user", "content": prompt}]
        if isinstance(prompt, str):
            prompt = self.tokenizer(prompt)["input_ids"]
        if len(prompt) == 0:
            raise ValueError(f"{where} is empty: a prompt needs at least one token")
        if isinstance(prompt[0], dict):
            if not self._tokenizer().chat_template:
                raise ValueError(f"{where} is a chat, but the tokenizer has no chat template")
            prompt = self.tokenizer.apply_chat_template(
                prompt, add_generation_prompt=True, return_dict=True
            )["input_ids"]
        return self._checked(prompt, where)

    def _write_prefill(self, response, prefill):
        end = 0  # of the span before
        for start, span in sorted(prefill.items()):
            if isinstance(span, str):
                span = self._tokenizer()(span, add_special_tokens=False)["input_ids"]
            if 0 <= start < end:
                raise ValueError(f"prefill at {start} overlaps the span that ends at {end}")
            end = start + len(span)
            if start < 0 or end > len(response):
                raise ValueError(f"prefill {start} to {end} leaves the {len(response)} slots")
            response[start:end] = torch.tensor(self._checked(span, f"prefill at {start}"))

    def _checked(self, ids, where):
        ids, size = [int(token) for token in ids], self.model.config.vocab_size
        if ids and not 0 <= min(ids) <= max(ids) < size:
            raise ValueError(f"{where} has token ids outside the vocabulary, 0 to {size - 1}")
        return ids


# --- Loading -------------------------------------------------------------------------------------


def load(name_or_folder, adapter=None, dtype=None, device=None):
    """Load a masked diffusion model as a DiffusionLM.

    name_or_folder: a folder, or a Hugging Face Hub name, with the published files of a LLaDA,
    MMaDA or Dream model, or with what `save` wrote. adapter: the same for a PEFT adapter. dtype:
    of the weights, a torch dtype or its name; by default as stored. device: by default the GPU,
    if there is one. Raises FileNotFoundError or ValueError, naming file and tensors, where
    anything is missing, unexpected, damaged, or other than the folder's checksums.json says.
    """
    folder = _folder(name_or_folder)
    config, file_name = _config(folder / "config.json")
    if isinstance(dtype, str):
        if not isinstance(getattr(torch, dtype, None), torch.dtype):
            raise ValueError(f"dtype {dtype!r} is no torch dtype: use float32 or bfloat16")
        dtype = getattr(torch, dtype)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    with torch.device("meta"):  # no memory, no random numbers: every tensor comes from the files
        model = NATIVE[config.model_type][1](config)
    expected = {file_name(name): (name, t.shape) for name, t in model.state_dict().items()}
    if config.tie_word_embeddings:
        del expected[file_name("lm_head.weight")]
    tensors = _read_tensors(folder, expected, dtype, device)
    if config.tie_word_embeddings:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    model.load_state_dict(tensors, assign=True)
    model.tie_weights()
    # RoPE's frequencies are in no file, and stay fp32 whatever the weights are.
    rotary = FullPrecisionRoPE if config.model_type == "llama" else type(model.model.rotary_emb)
    model.model.rotary_emb = rotary(config).to(device)
    # A padding_idx would keep gradients from the embedding of EOS (= pad); LLaDA has none.
    model.model.embed_tokens.padding_idx = None
    if adapter is not None:
        model = _with_adapter(model, _folder(adapter))
    special_ids = config.mask_token_id, config.eos_token_id, config.pad_token_id
    return DiffusionLM(model.eval(), _tokenizer(folder), *special_ids, config.logit_shift)


class FullPrecisionRoPE(LlamaRotaryEmbedding):
    """LLaDA rotates queries and keys in fp32 (rope_full_precision); Llama in the model's dtype."""

    def forward(self, x, position_ids):
        return super().forward(x[:0].float(), position_ids)  # only x's dtype and device matter


def _sdpa_after_rope(module, query, key, value, *args, **kwargs):
    query, key = query.to(value.dtype), key.to(value.dtype)
    return sdpa_attention_forward(module, query, key, value, *args, **kwargs)


transformers.AttentionInterface.register("sdpa_after_rope", _sdpa_after_rope)
transformers.AttentionMaskInterface.register("sdpa_after_rope", sdpa_mask)


def _folder(name):
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


def _config(path):
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
        fields |= {"model_type": "llama", "logit_shift": 0}
    elif kind == "Dream":
        ids = DREAM_IDS
        fields = _translate(raw, DREAM_CONFIG, DREAM_FIXED, path)
        fields |= {"model_type": "qwen2", "logit_shift": 1}
    elif kind in NATIVE and raw.get("is_causal") is False:
        fields = {"logit_shift": 0, **raw}
    else:
        raise ValueError(
            f"{path}: model_type {kind!r} is no masked diffusion model known here; use LLaDA, "
            "MMaDA, Dream, or a folder written by mosa.models.save (is_causal false)"
        )
    for key in ("mask_token_id", "eos_token_id", "pad_token_id"):
        fields[key] = ids.get(key) if raw.get(key) is None else raw[key]
        if fields[key] is None or not 0 <= fields[key] < fields["vocab_size"]:
            raise ValueError(f"{path}: {key} must be an id of the vocabulary, not {fields[key]}")
    fields |= {"is_causal": False, "use_cache": False}
    if fields["model_type"] == "llama":
        fields["attn_implementation"] = "sdpa_after_rope"
    return NATIVE[fields.pop("model_type")][0](**fields), file_name


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


def _read_tensors(folder, expected, dtype, device):
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
        for name, tensor in _open(folder / file):
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


def _open(path):
    """The (name, tensor) pairs of a safetensors file, one in memory at a time."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: download the model again")
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():
                yield name, file.get_tensor(name)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}): restore or download it again") from error


def _tokenizer(folder):
    """From tokenizer.json, or from vocab.json and merges.txt as Dream publishes; or None."""
    if (folder / "tokenizer.json").is_file():
        return PreTrainedTokenizerFast.from_pretrained(folder)
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return transformers.Qwen2Tokenizer.from_pretrained(folder)
    return None


def _with_adapter(model, folder):
    """peft skips modules and tensors it does not find with a warning at most; here that stops."""
    found = {name for name, _ in _open(folder / "adapter_model.safetensors")}
    try:
        model = PeftModel.from_pretrained(model, folder)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"adapter {folder} does not fit the model: {reason}") from error
    if strays := found ^ set(get_peft_model_state_dict(model)):
        raise ValueError(f"adapter {folder} does not fit the model: {', '.join(sorted(strays))}")
    return model


# --- Saving --------------------------------------------------------------------------------------


def save(lm, folder):
    """Write config.json, model.safetensors, the tokenizer, and checksums.json over all of these.

    Tensor names are transformers' own, and `load` gives identical logits. Raises ValueError if
    the model carries an adapter.
    """
    folder = Path(folder)
    tensors = {name: tensor.contiguous() for name, tensor in lm.model.state_dict().items()}
    if any("base_model." in name or ".base_layer." in name for name in tensors):
        raise ValueError(
            "this model carries an adapter: save that with lm.model.save_pretrained(folder), "
            "or merge it first: lm.model = lm.model.merge_and_unload()"
        )
    if lm.model.config.tie_word_embeddings:
        del tensors["lm_head.weight"]
    config = lm.model.config.to_dict() | {
        "architectures": [type(lm.model).__name__],
        "dtype": str(lm.model.dtype).removeprefix("torch."),
        **{"is_causal": False, "use_cache": False, "logit_shift": lm.logit_shift},
        **{"mask_token_id": lm.mask_id, "eos_token_id": lm.eos_id, "pad_token_id": lm.pad_id},
    }
    del config["transformers_version"]  # an upgrade should not change the file's hash
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "config.json", config)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    files = {folder / "config.json", folder / "model.safetensors"}
    if lm.tokenizer is not None:
        files |= {Path(file) for file in lm.tokenizer.save_pretrained(folder)}
    checksums = {file.name: _sha256(file) for file in sorted(files) if file.is_file()}
    _write_json(folder / "checksums.json", checksums)


# LLaDA-8B-Instruct's own template.
LLADA_CHAT = (
    "{% for message in messages %}{{ bos_token if loop.first }}<|start_header_id|>"
    "{{ message['role'] }}<|end_header_id|>\n\n{{ message['content'] | trim }}<|eot_id|>"
    "{% endfor %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
)


def random_llada(folder, layers=2, hidden=64, heads=4, intermediate=None, vocab_size=264, seed=0):
    """Write a checkpoint with random fp32 weights exactly as LLaDA publishes its own.

    LLaDA's tensor and configuration names, two shards with an index, and a tokenizer of bytes
    (ids 0 to 255) with LLaDA's special tokens and chat template: what the `rehearsal` profile
    loads to exercise the path of the 8B model. `intermediate` is 3 * hidden by default, as there.
    """
    specials = ["<|mdm_mask|>", "<|startoftext|>", "<|endoftext|>"]
    specials += ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    if vocab_size < 256 + len(specials):
        raise ValueError(f"vocab_size must be at least {256 + len(specials)}, got {vocab_size}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE(vocab={byte: i for i, byte in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(specials)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|startoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        chat_template=LLADA_CHAT,
    ).save_pretrained(folder)
    raw = {
        **{"architectures": ["LLaDAModelLM"], "model_type": "llada", **LLADA_FIXED},
        **{"d_model": hidden, "n_layers": layers, "n_heads": heads, "n_kv_heads": heads},
        **{"mlp_hidden_size": intermediate or 3 * hidden, "max_sequence_length": 4096},
        **{"vocab_size": vocab_size, "embedding_size": vocab_size, "weight_tying": False},
        **{"rms_norm_eps": 1e-5, "rope_theta": 500000.0},
        "mask_token_id": tokenizer.token_to_id("<|mdm_mask|>"),
        "eos_token_id": tokenizer.token_to_id("<|endoftext|>"),
        "pad_token_id": tokenizer.token_to_id("<|endoftext|>"),
    }
    _write_json(folder / "config.json", raw)
    config, _ = _config(folder / "config.json")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tensors = transformers.LlamaForCausalLM(config).state_dict()
    shards, weight_map = [{}, {}], {}
    for i, (name, tensor) in enumerate(tensors.items()):
        shard = 2 * i // len(tensors)
        shards[shard][llada_name(name)] = tensor
        weight_map[llada_name(name)] = f"model-0000{shard + 1}-of-00002.safetensors"
    for file, shard in zip(sorted(set(weight_map.values())), shards, strict=True):
        save_file(shard, folder / file, metadata={"format": "pt"})
    _write_json(folder / "model.safetensors.index.json", {"weight_map": weight_map})


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


def _write_json(path, content):
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
