"""Helpers of the tests of mosa.lm: load on the CPU, edit the files of a model folder."""

import json

import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from mosa.lm import loading

HEADS, VOCAB = 4, 264  # of random_llada


def load(folder, **options):
    return loading.load(folder, **{"device": "cpu", **options})


def edit_config(folder, **changes):
    """Change values of config.json; ... drops a key."""
    config = json.loads((folder / "config.json").read_text()) | changes
    config = {key: value for key, value in config.items() if value is not ...}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def edit_tensors(folder, edit):
    """Rewrite a checkpoint as a single file of edit(tensors)."""
    tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(file)
        file.unlink()
    (folder / "model.safetensors.index.json").unlink()
    save_file(edit(tensors), folder / "model.safetensors")


def random_llama(vocab):
    """A small bidirectional Llama with wide weights; float64, so that rounding reorders nothing."""
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=vocab, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, is_causal=False, use_cache=False, initializer_range=0.5,
    )).double().eval()
