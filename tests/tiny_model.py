"""A random model with the world's vocabulary, small enough for a test."""

from functools import cache

from mosa.lm.model import DiffusionLM
from mosa.world import network

tokenizer_of_the_world = cache(network.build_tokenizer)  # a second each


def tiny(seed: int = 0, weight_std: float = 0.3, causal: bool = False) -> DiffusionLM:
    """A DiffusionLM of two layers; with `causal` its autoregressive twin."""
    tokenizer = tokenizer_of_the_world()
    architecture = network.Architecture(
        hidden_size=16, layers=2, heads=2, intermediate_size=24, embedding_std=1.0,
        weight_std=weight_std, causal=causal, seed=seed)
    model = network.new_model(architecture, tokenizer, seed).eval()
    return DiffusionLM(model, tokenizer, tokenizer.mask_token_id, tokenizer.eos_token_id,
                       tokenizer.pad_token_id, logit_shift=int(causal))
