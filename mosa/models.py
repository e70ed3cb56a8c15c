"""Masked diffusion language models (LLaDA, MMaDA, Dream, ours) as native transformers modules.

    lm = load("GSAI-ML/LLaDA-8B-Instruct", dtype="bfloat16")      # or a folder
    canvas = lm.canvas(["How do tides work?"], length=128, prefill={40: "the next step is"})
    logits = lm(canvas.ids, canvas.attention_mask)                # (B, P+L, V)

LLaDA is Llama with bidirectional attention; Dream is Qwen2 with bidirectional attention, whose
position i-1 predicts token i. Their files are the business of mosa.checkpoints.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedTokenizerFast
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from mosa import checkpoints
from mosa.checkpoints import random_llada

__all__ = ["Canvas", "DiffusionLM", "load", "random_llada", "save"]


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
    # the module's logits at i are for token i + logit_shift; 1 for Dream and the causal twin
    logit_shift: int = 0

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

    def at(self, positions, **inputs):
        """Logits (B, n, V) of the tokens at n positions only; the head is applied nowhere else.

        inputs: input_ids (B, T) or inputs_embeds (B, T, d), and attention_mask.
        """
        keep = torch.as_tensor(positions, device=self.device) - self.logit_shift
        return self.model(logits_to_keep=keep.clamp_min(0), **inputs).logits

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
        if isinstance(prompt, str):
            chat = [{"role": "user", "content": prompt}]
            tokenizer = self._tokenizer()
            prompt = chat if tokenizer.chat_template else tokenizer(prompt)["input_ids"]
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


def load(name_or_folder, adapter=None, dtype=None, device=None):
    """Load a masked diffusion model as a DiffusionLM.

    name_or_folder: a folder, or a Hugging Face Hub name, with the published files of a LLaDA,
    MMaDA or Dream model, or with what `save` wrote. adapter: the same for a PEFT adapter. dtype:
    of the weights, a torch dtype or its name; by default as stored. device: by default the GPU,
    if there is one. Raises FileNotFoundError or ValueError, naming file and tensors, where
    anything is missing, unexpected, damaged, or other than the folder's checksums.json says.
    """
    folder = checkpoints.local_folder(name_or_folder)
    config, file_name = checkpoints.read_config(folder / "config.json")
    if isinstance(dtype, str):
        if not isinstance(getattr(torch, dtype, None), torch.dtype):
            raise ValueError(f"dtype {dtype!r} is no torch dtype: use float32 or bfloat16")
        dtype = getattr(torch, dtype)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    with torch.device("meta"):  # no memory, no random numbers: every tensor comes from the files
        model = checkpoints.NATIVE[config.model_type](config)
    # A tied head is no parameter of its own: neither expected in the files nor loaded from them.
    expected = {file_name(name): (name, p.shape) for name, p in model.named_parameters()}
    tensors = checkpoints.read_tensors(folder, expected, dtype, device)
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
        model = _with_adapter(model, checkpoints.local_folder(adapter))
    tokenizer = checkpoints.read_tokenizer(folder)
    special_ids = config.mask_token_id, config.eos_token_id, config.pad_token_id
    return DiffusionLM(model.eval(), tokenizer, *special_ids, config.logit_shift)


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
        **{"is_causal": lm.model.config.is_causal, "use_cache": False},
        **{"logit_shift": lm.logit_shift, "mask_token_id": lm.mask_id},
        **{"eos_token_id": lm.eos_id, "pad_token_id": lm.pad_id},
    }
    del config["transformers_version"]  # an upgrade should not change the file's hash
    folder.mkdir(parents=True, exist_ok=True)
    checkpoints.write_json(folder / "config.json", config)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    files = {folder / "config.json", folder / "model.safetensors"}
    if lm.tokenizer is not None:
        files |= {Path(file) for file in lm.tokenizer.save_pretrained(folder)}
    checkpoints.write_checksums(folder, files)


def _with_adapter(model, folder):
    """peft skips modules and tensors it does not find with a warning at most; here that stops."""
    found = {name for name, _ in checkpoints.stored_tensors(folder / "adapter_model.safetensors")}
    try:
        model = PeftModel.from_pretrained(model, folder)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"adapter {folder} does not fit the model: {reason}") from error
    if strays := found ^ set(get_peft_model_state_dict(model)):
        raise ValueError(f"adapter {folder} does not fit the model: {', '.join(sorted(strays))}")
    return model


class FullPrecisionRoPE(LlamaRotaryEmbedding):
    """LLaDA rotates queries and keys in fp32 (rope_full_precision); Llama in the model's dtype."""

    def forward(self, x, position_ids):
        return super().forward(x[:0].float(), position_ids)  # only x's dtype and device matter


def _sdpa_after_rope(module, query, key, value, *args, **kwargs):
    query, key = query.to(value.dtype), key.to(value.dtype)
    return sdpa_attention_forward(module, query, key, value, *args, **kwargs)


AttentionInterface.register("sdpa_after_rope", _sdpa_after_rope)
AttentionMaskInterface.register("sdpa_after_rope", sdpa_mask)
