"""The files of masked diffusion models: LLaDA's, MMaDA's and Dream's as published, and our own.

No code of a checkpoint is ever run: tensors are read from safetensors and renamed, and every one
of them must be accounted for.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import torch
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2Tokenizer

from mosa.lm.config import LLADA_FIXED, llada_name, native
from mosa.pipeline.params import ROOT

LLADA_CHAT = (  # LLaDA-8B-Instruct's own template
    "{% for message in messages %}{{ bos_token if loop.first }}<|start_header_id|>"
    "{{ message['role'] }}<|end_header_id|>\n\n{{ message['content'] | trim }}<|eot_id|>"
    "{% endfor %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
)


def local_folder(name: str | Path) -> Path:
    """The local folder of a model, downloaded if need be, its checksums verified if it has any."""
    folder = Path(name) if Path(name).is_dir() else ROOT / name  # notebooks run in their folder
    if not folder.is_dir():
        try:
            patterns = ["*.json", "*.safetensors", "*.jinja", "merges.txt"]  # no code, no pickles
            folder = Path(huggingface_hub.snapshot_download(str(name), allow_patterns=patterns))
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
            raise FileNotFoundError(
                f"{name} is no folder, and could not be downloaded ({type(error).__name__}): check "
                "the path or name, or download the model elsewhere and give its folder") from error
    if (folder / "checksums.json").is_file():
        for file, checksum in read_json(folder / "checksums.json").items():
            if not (folder / file).is_file() or sha256(folder / file) != checksum:
                raise ValueError(
                    f"{folder / file} is not the file that checksums.json describes: restore it, "
                    f"a shipped model's by `git checkout {folder / file}` or `make retrain`")
    return folder


def read_tensors(folder: Path, expected: dict[str, tuple[str, torch.Size]],
                 dtype: torch.dtype | None, device: torch.device) -> dict[str, torch.Tensor]:
    """{native name: tensor} of a checkpoint; expected: {name in file: (native name, shape)}."""
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file():
        files = ["model.safetensors"]
    elif index.is_file():
        shards = read_json(index).get("weight_map")
        if not isinstance(shards, dict) or not shards or not all(
                isinstance(file, str) for file in shards.values()):
            raise ValueError(f"{index} has no weight_map of tensors to files: restore it")
        files = sorted(set(shards.values()))
    else:
        raise FileNotFoundError(
            f"{folder} has neither model.safetensors nor {index.name}: weights are read from "
            "safetensors only, convert other formats (.bin, .pt) first")
    tensors = {}
    for file in files:
        for name, tensor in stored_tensors(folder / file):
            native, shape = expected.get(name, (None, None))
            if native in tensors:
                raise ValueError(f"{folder / file}: {name} is in another file too")
            if native is None:
                raise ValueError(f"{folder / file}: config.json implies no tensor {name}")
            if tensor.shape != shape:
                raise ValueError(
                    f"{folder / file}: {name} has shape {tuple(tensor.shape)}, "
                    f"config.json implies {tuple(shape)}")
            # A copy: the tensor itself is mapped to the file, and would change and vanish with it.
            tensors[native] = tensor.to(device=device, dtype=dtype, copy=True)
    missing = [name for name, (native, _) in expected.items() if native not in tensors]
    if missing:
        raise ValueError(f"{folder} ({', '.join(files)}) lacks {', '.join(missing)}")
    return tensors


def stored_tensors(path: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """The (name, tensor) pairs of a safetensors file, one in memory at a time."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: download the model again")
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():
                yield name, file.get_tensor(name)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}): restore or download it again") from error


def read_tokenizer(folder: Path) -> PreTrainedTokenizerFast | None:
    """From tokenizer.json, or from vocab.json and merges.txt as Dream publishes; or None."""
    try:
        if (folder / "tokenizer.json").is_file():
            return PreTrainedTokenizerFast.from_pretrained(folder)
        if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
            return Qwen2Tokenizer.from_pretrained(folder)
    except Exception as error:  # tokenizers raises no other class for a damaged file
        reason = " ".join(str(error).split())
        raise ValueError(f"{folder}: its tokenizer is damaged ({reason}): restore it") from error
    return None


def random_llada(folder: Path, layers: int = 2, hidden: int = 64) -> None:
    """Write a checkpoint with random fp32 weights, always the same, as LLaDA publishes its own.

    LLaDA's tensor and configuration names, two shards with an index, four heads, feed-forward
    layers of 3 * hidden, and a tokenizer of bytes (ids 0 to 255) with LLaDA's special tokens and
    chat template; as in LLaDA the embedding has more rows, 264, than the tokenizer tokens.
    The `rehearsal` profile loads it to exercise the path of the 8B model.
    """
    mask, bos, eos = "<|mdm_mask|>", "<|startoftext|>", "<|endoftext|>"
    specials = [mask, bos, eos, "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE(vocab={byte: i for i, byte in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(specials)
    named = {"bos_token": bos, "eos_token": eos, "pad_token": eos, "chat_template": LLADA_CHAT}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named).save_pretrained(folder)
    eos_id = tokenizer.token_to_id(eos)
    raw = LLADA_FIXED | {
        "architectures": ["LLaDAModelLM"], "model_type": "llada", "d_model": hidden,
        "mlp_hidden_size": 3 * hidden, "n_layers": layers, "n_heads": 4, "n_kv_heads": 4,
        "max_sequence_length": 4096, "weight_tying": False, "vocab_size": 264,
        "embedding_size": 264, "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "eos_token_id": eos_id,
        "pad_token_id": eos_id, "mask_token_id": tokenizer.token_to_id(mask)}
    write_json(folder / "config.json", raw)
    config, _ = native(raw, folder / "config.json")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tensors = LlamaForCausalLM(config).state_dict()
    tensors = {llada_name(name): tensor for name, tensor in tensors.items()}
    names, half, weight_map = list(tensors), (len(tensors) + 1) // 2, {}
    for i, shard in enumerate((names[:half], names[half:]), start=1):
        file = f"model-0000{i}-of-00002.safetensors"
        save_file({name: tensors[name] for name in shard}, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(shard, file)
    write_json(folder / "model.safetensors.index.json", {"weight_map": weight_map})


def sha256(path: Path) -> str:
    """The checksum of a file, as `local_folder` verifies it."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> dict:
    """A model folder's JSON file, which holds an object; else one line that names the file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing: is this a model's folder?") from None
    except ValueError as error:  # of JSON, or of UTF-8
        raise ValueError(f"{path} is not valid JSON ({error}): restore it") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no JSON object ({content!r:.40}): restore it")
    return content


def write_json(path: Path, content: dict) -> None:
    """Sorted keys and the same line ends everywhere: files are compared by their hash."""
    text = json.dumps(content, indent=2, sort_keys=True) + "\n"
    path.write_text(text, encoding="utf-8", newline="\n")
