"""The forward pass of a small Llama-shaped model on a CPU, with what decoding does not need left
out: the same logits, computed at the masked slots alone.

A response is decoded by one forward a step, and every forward sees the whole canvas, so all budgets
rest on its cost. Matrix products already run near a core's peak, and what helps is to do fewer: the
last block's queries and MLP, and the head, at masked slots only; the first block's queries, keys
and values from a table, since they depend on the token alone; products side by side in one; sums
inside them. No padding mask: rows of one call have prompts of one length.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from transformers import LlamaForCausalLM

LARGEST = 100_000_000  # parameters; a larger model's weights are not worth a second copy


class Fast:
    """A DiffusionLM's module with its weights laid out anew; they are copied, not shared."""

    def __init__(self, model: LlamaForCausalLM):
        body, config = model.model, model.config
        self.heads = config.num_attention_heads
        self.eps = config.rms_norm_eps
        self.embedding = body.embed_tokens.weight.detach()
        d = self.embedding.shape[1]
        self.size = d // self.heads  # of a head
        # pairs that RoPE turns lie half a head apart in Llama, side by side here: complex numbers
        turned = torch.arange(d).view(self.heads, 2, self.size // 2).transpose(1, 2).flatten()
        self.frequencies = body.rotary_emb.inv_freq.float()
        self.blocks = []
        for layer in body.layers:
            one, two = layer.input_layernorm.weight, layer.post_attention_layernorm.weight
            heads, mlp = layer.self_attn, layer.mlp
            into = torch.cat([heads.q_proj.weight[turned], heads.k_proj.weight[turned],
                              heads.v_proj.weight])
            up = torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight])
            self.blocks.append([w.detach() for w in (  # a norm's weight joins what it feeds
                into * one, heads.o_proj.weight, up * two, mlp.down_proj.weight)])
        self.head = (model.lm_head.weight * body.norm.weight).detach()
        self.first = self._norm(self.embedding) @ self.blocks[0][0].T  # (V, 3d)

    @staticmethod
    def serves(model: torch.nn.Module) -> bool:
        """Whether the module is one that this file knows: Llama's plain form, float32, on a CPU."""
        if not isinstance(model, LlamaForCausalLM):
            return False
        config, weight = model.config, model.lm_head.weight
        return (model.num_parameters() <= LARGEST
                and weight.device.type == "cpu" and weight.dtype == torch.float32
                and type(model.model.layers[0].self_attn.q_proj) is torch.nn.Linear
                and config.num_key_value_heads == config.num_attention_heads
                and config.hidden_size == (
                    model.model.layers[0].self_attn.head_dim * config.num_attention_heads)
                and not (config.attention_bias or config.mlp_bias)
                and config.hidden_act == "silu" and not getattr(config, "is_causal", True)
                and config.rope_parameters.get("rope_type", "default") == "default")

    def __call__(self, ids: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """Logits (N, V) at the wanted places, row by row: ids (B, T), wanted (B, T) bool."""
        rows, length = ids.shape
        angles = torch.outer(torch.arange(length).float(), self.frequencies)
        turn = torch.polar(torch.ones_like(angles), angles)[:, None]  # (T, 1, size / 2)
        x = self.embedding[ids.flatten()]  # (B * T, d)
        for n, (into, out, up, down) in enumerate(self.blocks):
            qkv = self.first[ids] if n == 0 else self._norm(x) @ into.T
            q, k, v = qkv.view(rows, length, 3, self.heads, self.size).unbind(2)
            q, k = self._turned(q, turn), self._turned(k, turn)
            last = n == len(self.blocks) - 1
            if last:
                q, places = _packed(q, wanted)
            mixed = F.scaled_dot_product_attention(*(t.transpose(1, 2) for t in (q, k, v)))
            mixed = mixed.transpose(1, 2).flatten(2)  # (B, T or M, d)
            if last:
                x, mixed = x[wanted.flatten()], mixed[places]  # (N, d)
            x = torch.addmm(x, mixed.view(-1, x.shape[1]), out.T)
            gate, value = (self._norm(x) @ up.T).chunk(2, -1)
            x = torch.addmm(x, F.silu(gate).mul_(value), down.T)
        return self._norm(x) @ self.head.T

    def _norm(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)

    def _turned(self, x: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
        """RoPE of (B, T, heads, size)."""
        pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)))
        return torch.view_as_real(pairs * turn).flatten(-2)


def batches(model: torch.nn.Module, lengths: Sequence[int], size: int) -> list[list[int]]:
    """The indices of prompts of these lengths in batches of at most `size`, the longest first; of
    one length each where Fast serves the model, since it takes no padding."""
    alike, found = Fast.serves(model), []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if (not found or len(found[-1]) == size
                or (alike and lengths[found[-1][0]] != lengths[i])):
            found.append([])
        found[-1].append(i)
    return found


def _packed(x: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The wanted places of (B, T, ...) moved to the front of their rows, (B, M, ...), M the most of
    any row; and which of these are filled, (B, M) bool, in the same order."""
    counts = wanted.sum(1)
    order = (~wanted).int().argsort(dim=1, stable=True)[:, : int(counts.max())]  # wanted ones first
    filled = torch.arange(order.shape[1]) < counts[:, None]
    return x[torch.arange(len(x))[:, None], order], filled
