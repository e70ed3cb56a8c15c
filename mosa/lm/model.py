"""DiffusionLM, a masked diffusion language model, and Canvas, what it sees and fills in.

    canvas = lm.canvas(["How do tides work?"], length=128, prefill={40: "the next step is"})
    logits = lm(canvas.ids, canvas.attention_mask)                # (B, P+L, V)

`mosa.lm.loading` makes a DiffusionLM from files.
"""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from transformers import PreTrainedTokenizerFast

Prompt = str | list[dict] | Sequence[int]  # a user message, a chat, or token ids
Prefill = dict[int, str | Sequence[int]]  # response position: text or token ids


@dataclass
class Canvas:
    """Prompts and the response slots after them: what a diffusion model sees and fills in."""

    ids: torch.Tensor  # (B, P+L) long; prompts left-padded to P
    attention_mask: torch.Tensor  # (B, P+L) long; 0 on the left padding
    prompt_length: int  # P

    @property
    def length(self) -> int:
        """L, the number of response slots."""
        return self.ids.shape[1] - self.prompt_length


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
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @cached_property
    def unknown_ids(self) -> list[int]:
        """Ids of the model's vocabulary that no token of the tokenizer has; they have no text.

        LLaDA's and Dream's embeddings have more rows than their tokenizers tokens. The EOS counts
        as known; without a tokenizer every id does.
        """
        if self.tokenizer is None:
            return []
        known = {*self.tokenizer.get_vocab().values(), self.eos_id}
        return [i for i in range(self.model.config.vocab_size) if i not in known]

    @cached_property
    def unknown_word(self) -> int | None:
        """The id that a tokenizer of whole words gives to every word it does not have."""
        fast = getattr(self.tokenizer, "backend_tokenizer", None)  # a slow one has none
        name = getattr(getattr(fast, "model", None), "unk_token", None)
        return None if name is None else self.tokenizer.convert_tokens_to_ids(name)

    def __call__(self, input_ids: torch.Tensor,
                 attention_mask: torch.Tensor | None = None) -> torch.Tensor:
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

    def at(self, positions: Sequence[int] | torch.Tensor, **inputs: torch.Tensor) -> torch.Tensor:
        """Logits (B, n, V) of the tokens at n positions only; the head is applied nowhere else.

        inputs: input_ids (B, T) or inputs_embeds (B, T, d), and attention_mask.
        """
        keep = torch.as_tensor(positions, device=self.device) - self.logit_shift
        return self.model(logits_to_keep=keep.clamp_min(0), **inputs).logits

    def canvas(self, prompts: Sequence[Prompt], length: int = 128,
               prefill: Prefill | list[Prefill] | None = None) -> Canvas:
        """Prompts followed by `length` response slots, masked except where prefilled.

        prompts: one entry a row, as `prompt_ids` takes it. prefill: {response position: text or
        token ids}, one dict for all rows or a list with one a row; positions may be text, as JSON
        gives them back. Raises ValueError, naming prompt or slot, for what is neither text nor
        ids, ids outside the vocabulary, and spans that overlap or leave the response.
        """
        if not isinstance(prompts, list | tuple) or not prompts:
            raise ValueError("prompts must be a list of prompts, with at least one")
        if _integers([length]) is None or length < 1:
            raise ValueError(f"length must be at least 1, a whole number, got {length!r}")
        prefills = prefill if isinstance(prefill, list) else [prefill or {}] * len(prompts)
        if len(prefills) != len(prompts):
            raise ValueError(f"prefill has {len(prefills)} dicts for {len(prompts)} prompts")
        rows = [self.prompt_ids(prompt, length, f"prompts[{i}]")
                for i, prompt in enumerate(prompts)]
        prompt_length = max(map(len, rows))
        ids = torch.full((len(rows), prompt_length + length), self.mask_id)
        attention_mask = torch.ones_like(ids)
        for i, prompt in enumerate(rows):
            padding = prompt_length - len(prompt)
            ids[i, :padding], attention_mask[i, :padding] = self.pad_id, 0
            ids[i, padding:prompt_length] = torch.tensor(prompt)
            self._write_prefill(ids[i, prompt_length:], prefills[i])
        return Canvas(ids.to(self.device), attention_mask.to(self.device), prompt_length)

    def prompt_ids(self, prompt: Prompt, length: int = 0, where: str = "the prompt") -> list[int]:
        """Token ids of a prompt: a user message (through the chat template if the tokenizer has
        one), a chat history (list of {"role", "content"}), or a list of token ids, taken as is.

        A content may be a list of {"type": "text", "text"} parts, which are joined. Raises
        ValueError, naming `where`, for anything else, for words that the tokenizer does not know,
        and where the model's positions do not suffice for prompt and `length` response slots.
        """
        if isinstance(prompt, str):
            text, tokenizer = _text(prompt, where), self._tokenizer()
            chat = [{"role": "user", "content": text}]
            prompt = chat if tokenizer.chat_template else self._known(
                tokenizer(text)["input_ids"], text, where)
        if isinstance(prompt, list | tuple) and prompt and isinstance(prompt[0], dict):
            if not self._tokenizer().chat_template:
                raise ValueError(f"{where} is a chat, but the tokenizer has no chat template")
            chat = [_message(message, f"{where}, message {i}") for i, message in enumerate(prompt)]
            prompt = self.tokenizer.apply_chat_template(
                chat, add_generation_prompt=True, return_dict=True)["input_ids"]
            self._known(prompt, " ".join(message["content"] for message in chat), where)
        ids, limit = self._checked(prompt, where), self.model.config.max_position_embeddings
        if not ids:
            raise ValueError(f"{where} is empty: a prompt needs at least one token")
        if len(ids) + length > limit:
            raise ValueError(
                f"{where} has {len(ids)} tokens; with length={length} that exceeds the model's "
                f"{limit} positions: shorten the prompt or lower length")
        return ids

    def encode(self, text: str, where: str = "the text") -> list[int]:
        """Token ids of a text inside a prompt or response: no special token is added.

        Raises ValueError for a model without tokenizer, and, naming `where`, for what is no text
        and for words that the tokenizer does not know.
        """
        ids = self._tokenizer()(_text(text, where), add_special_tokens=False)["input_ids"]
        return self._known(ids, text, where)

    def decode(self, ids: torch.Tensor) -> list[str]:
        """Texts of response ids (B, L), each cut at its first EOS, special tokens dropped.

        Raises ValueError for ids of another shape.
        """
        ids = torch.as_tensor(ids)
        if ids.ndim != 2:
            raise ValueError(f"ids must be of shape (B, L), not {tuple(ids.shape)}; of one "
                             "response: lm.decode([ids])")
        rows = [row[: [*row, self.eos_id].index(self.eos_id)] for row in ids.tolist()]
        return [self._tokenizer().decode(row, skip_special_tokens=True) for row in rows]

    def _known(self, ids, text, where):
        """The ids of a text; ValueError where it has words without one."""
        if self.unknown_word in ids:
            name = self.tokenizer.convert_ids_to_tokens(self.unknown_word)
            words = [word for word in dict.fromkeys(text.split())
                     if word != name and self.unknown_word in self.tokenizer(
                         word, add_special_tokens=False)["input_ids"]]
            if words:
                raise ValueError(f"{where} has words that the tokenizer does not know: "
                                 f"{', '.join(map(repr, words[:5]))}")
        return ids

    def _tokenizer(self):
        if self.tokenizer is None:
            raise ValueError("text needs a tokenizer, and this model's folder has none: pass token "
                             "ids, or add its tokenizer.json to the folder")
        return self.tokenizer

    def _write_prefill(self, response, prefill):
        if not isinstance(prefill, dict):
            raise ValueError(f"prefill must be {{position: text or ids}}, not {prefill!r:.60}")
        end = 0  # of the span before
        for key in sorted(prefill, key=_position):
            start, span, where = _position(key), prefill[key], f"prefill at {key}"
            span = self._checked(self.encode(span, where) if isinstance(span, str) else span, where)
            if 0 <= start < end:
                raise ValueError(f"{where} overlaps the span that ends at {end}")
            end = start + len(span)
            if start < 0 or end > len(response):
                raise ValueError(f"prefill {start} to {end} leaves the {len(response)} slots")
            response[start:end] = torch.tensor(span)

    def _checked(self, values, where):
        values = values.tolist() if hasattr(values, "tolist") else values
        ids, size = _integers(values), self.model.config.vocab_size
        if ids is None:
            raise ValueError(f"{where} must be text or token ids, not {values!r:.60}")
        if ids and not 0 <= min(ids) <= max(ids) < size:
            raise ValueError(f"{where} has token ids outside the vocabulary, 0 to {size - 1}")
        return ids


def _integers(values):
    """The values as ints; None unless they are a list or tuple of integers, numpy's included."""
    if not isinstance(values, list | tuple) or any(isinstance(value, bool) for value in values):
        return None
    try:
        return [operator.index(value) for value in values]
    except TypeError:
        return None


def _position(key):
    number = int(key) if isinstance(key, str) and key.isdecimal() else key
    if _integers([number]) is None:
        raise ValueError(f"prefill at {key!r}: a position is the number of a slot, from 0")
    return int(number)


def _text(text, where):
    if not isinstance(text, str):
        raise ValueError(f"{where} must be text, not {text!r:.60}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{where} is no valid text ({error.reason})") from None
    return text


def _message(message, where):
    """A message of a chat with its content as one text."""
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise ValueError(f'{where} must be {{"role", "content"}}, not {message!r:.60}')
    content = message.get("content")
    if isinstance(content, list) and all(
            isinstance(part, dict) and part.get("type") == "text" for part in content):
        content = "".join(_text(part.get("text"), where) for part in content)
    return message | {"content": _text(content, f"{where}: content")}
