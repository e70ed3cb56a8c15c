"""Masked diffusion language models (LLaDA, MMaDA, Dream, ours) from and to files.

    lm = load("GSAI-ML/LLaDA-8B-Instruct", dtype="bfloat16")      # or a folder

LLaDA is Llama with bidirectional attention; Dream is Qwen2 with bidirectional attention, whose
position i-1 predicts token i: both become native transformers modules. What their files hold is
the business of mosa.lm.checkpoints.
"""

import hashlib
from pathlib import Path

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from mosa.lm import checkpoints
from mosa.lm.config import NATIVE, native
from mosa.lm.model import DiffusionLM

BASE = "base_model.json"  # beside an adapter: the model that it was trained on
PIECES, PIECE = 64, 1 << 20  # of a file of weights, and the bytes of each, that are hashed


def load(name_or_folder: str | Path, adapter: str | Path | None = None,
         dtype: torch.dtype | str | None = None,
         device: torch.device | str | None = None) -> DiffusionLM:
    """Load a masked diffusion model as a DiffusionLM.

    name_or_folder: a folder, or a Hugging Face Hub name, with the published files of a LLaDA,
    MMaDA or Dream model, or with what `save` wrote. adapter: the same for a PEFT adapter. dtype:
    of the weights, a torch dtype or its name; by default as stored. device: by default the GPU,
    if there is one. Raises FileNotFoundError or ValueError, naming file and tensors, where
    anything is missing, unexpected, damaged, or other than the folder's checksums.json says, and
    where the adapter was trained on another model, as far as it says on which (`note_base`).
    """
    if not isinstance(name_or_folder, str | Path):
        raise TypeError(f"name_or_folder must be a folder or a name, not {name_or_folder!r}")
    folder = checkpoints.local_folder(name_or_folder)
    if adapter is not None:
        adapter = checkpoints.local_folder(adapter)
        _trained_on(adapter, folder, name_or_folder)
    path = folder / "config.json"
    config, file_name = native(checkpoints.read_json(path), path)
    of = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if dtype is not None and not (isinstance(of, torch.dtype) and of.is_floating_point):
        raise ValueError(f"dtype {dtype!r} is none of weights: use float32 or bfloat16")
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    with torch.device("meta"):  # no memory, no random numbers: every tensor comes from the files
        model = NATIVE[config.model_type](config)
    # A tied head is no parameter of its own: neither expected in the files nor loaded from them.
    expected = {file_name(name): (name, p.shape) for name, p in model.named_parameters()}
    tensors = checkpoints.read_tensors(folder, expected, of, device)
    model.load_state_dict(tensors, strict=not config.tie_word_embeddings, assign=True)
    model.tie_weights()
    rotary = type(model.model.rotary_emb)
    if config.model_type == "llama":
        rotary = FullPrecisionRoPE
        model.set_attn_implementation("sdpa_after_rope")
    # RoPE's frequencies are in no file, and stay fp32 whatever the weights are.
    model.model.rotary_emb = rotary(config).to(device)
    # A padding_idx would keep gradients from the embedding of EOS (= pad); LLaDA has none.
    model.model.embed_tokens.padding_idx = None
    if adapter is not None:
        model = _with_adapter(model, adapter)
    tokenizer = checkpoints.read_tokenizer(folder)
    special_ids = config.mask_token_id, config.eos_token_id, config.pad_token_id
    return DiffusionLM(model.eval(), tokenizer, *special_ids, config.logit_shift)


def save(lm: DiffusionLM, folder: str | Path) -> None:
    """Write config.json, model.safetensors, the tokenizer, and checksums.json over all of these.

    Tensor names are transformers' own, and `load` gives identical logits. Raises ValueError if
    the model carries an adapter.
    """
    folder = Path(folder)
    tensors = {name: tensor.contiguous() for name, tensor in lm.model.state_dict().items()}
    if any("base_model." in name or ".base_layer." in name for name in tensors):
        raise ValueError(
            "this model carries an adapter: save that with lm.model.save_pretrained(folder), "
            "or merge it first: lm.model = lm.model.merge_and_unload()")
    if lm.model.config.tie_word_embeddings:
        del tensors["lm_head.weight"]
    config = lm.model.config.to_dict() | {
        "architectures": [type(lm.model).__name__], "logit_shift": lm.logit_shift,
        "dtype": str(lm.model.dtype).removeprefix("torch."), "use_cache": False,
        "is_causal": lm.model.config.is_causal, "mask_token_id": lm.mask_id,
        "eos_token_id": lm.eos_id, "pad_token_id": lm.pad_id}
    del config["transformers_version"]  # an upgrade should not change the file's hash
    folder.mkdir(parents=True, exist_ok=True)
    checkpoints.write_json(folder / "config.json", config)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    files = [folder / "config.json", folder / "model.safetensors"]
    if lm.tokenizer is not None:
        files += [Path(file) for file in lm.tokenizer.save_pretrained(folder)]
    checkpoints.write_json(folder / "checksums.json", {
        file.name: checkpoints.sha256(file) for file in files if file.is_file()})


def note_base(adapter: str | Path, name_or_folder: str | Path) -> None:
    """Write into an adapter's folder which model it was trained on: its name, and a hash of its
    weights, without which `load` takes an adapter for any model of the same shape."""
    checkpoints.write_json(Path(adapter) / BASE, {
        "name": Path(name_or_folder).name,
        "weights": _weights(checkpoints.local_folder(name_or_folder))})


def _weights(folder: Path) -> str:
    """A hash of a model's safetensors files: of 64 MiB of each, in pieces spread evenly over it,
    which is all of a small one. All of an 8B model would take as long to read as it takes to load,
    and headers and sizes are alike for two seeds; a training changes every piece."""
    found = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        size = path.stat().st_size
        found.update(b"%d" % size)
        with open(path, "rb") as file:
            for start in range(0, size, max(PIECE, size // PIECES)):
                file.seek(start)
                found.update(file.read(PIECE))
    return found.hexdigest()


def _trained_on(adapter: Path, folder: Path, name: str | Path) -> None:
    """Refuse an adapter of another model; one that does not say of which is taken."""
    if not (adapter / BASE).is_file():
        return
    base = checkpoints.read_json(adapter / BASE)
    if base.get("weights") != _weights(folder):
        raise ValueError(f"adapter {adapter} was trained on {base.get('name')}, and {name} has "
                         f"other weights than {BASE} says: give the model it is for, or train "
                         "another adapter")


def _with_adapter(model: PreTrainedModel, folder: Path) -> PeftModel:
    """peft skips modules and tensors it does not find with a warning at most; here that stops."""
    checkpoints.read_json(folder / "adapter_config.json")  # else peft asks the hub for it
    found = {name for name, _ in checkpoints.stored_tensors(folder / "adapter_model.safetensors")}
    try:
        model = PeftModel.from_pretrained(model, folder)
        # "auto", the default, would ask the hub about the base model that the adapter names
        needed, allowed = (set(get_peft_model_state_dict(model, save_embedding_layers=embeddings))
                           for embeddings in (False, True))
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"adapter {folder} does not fit the model: {reason}") from error
    if strays := (needed - found) | (found - needed - allowed):
        raise ValueError(f"adapter {folder} does not fit the model: {', '.join(sorted(strays))}")
    return model


class FullPrecisionRoPE(LlamaRotaryEmbedding):
    """LLaDA rotates queries and keys in fp32 (rope_full_precision); Llama in the model's dtype."""

    def forward(self, x: torch.Tensor,
                position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return super().forward(x[:0].float(), position_ids)  # only x's dtype and device matter


def _sdpa_after_rope(module, query, key, value, *args, **kwargs):
    query, key = query.to(value.dtype), key.to(value.dtype)
    return sdpa_attention_forward(module, query, key, value, *args, **kwargs)


AttentionInterface.register("sdpa_after_rope", _sdpa_after_rope)
AttentionMaskInterface.register("sdpa_after_rope", sdpa_mask)
