"""Model folders for the tests of mosa.lm: LLaDA's layout and Dream's."""

import json
import shutil

import pytest
import torch
from lm.folders import load
from safetensors.torch import load_file, save_file
from transformers import Qwen2Config, Qwen2ForCausalLM

from mosa.lm.checkpoints import random_llada


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """LLaDA's own names, two shards; weights large enough for attention to matter."""
    folder = tmp_path_factory.mktemp("models") / "llada"
    random_llada(folder, hidden=32)
    for file in folder.glob("*.safetensors"):
        tensors = load_file(file)
        save_file({n: t * 8 if t.ndim == 2 else t * 0.9 for n, t in tensors.items()}, file)
    return folder


@pytest.fixture(scope="module")
def lm(checkpoint):
    return load(checkpoint)


@pytest.fixture
def copy(checkpoint, tmp_path):
    return shutil.copytree(checkpoint, tmp_path / "copy")


@pytest.fixture
def ids():
    return torch.randint(0, 256, (2, 9), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def dream(tmp_path):
    """A Dream checkpoint (Qwen2's names, tokenizer in Python code) and its causal Qwen2 twin."""
    sizes = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, vocab_size=300)
    sizes |= dict(num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64)
    torch.manual_seed(0)
    qwen = Qwen2ForCausalLM(Qwen2Config(**sizes, initializer_range=0.3)).eval()
    folder = tmp_path / "dream"
    folder.mkdir()
    save_file(qwen.state_dict(), folder / "model.safetensors")
    config = {"model_type": "Dream", "rms_norm_eps": 1e-6, "tie_word_embeddings": False, **sizes}
    config |= {"rope_theta": 10000.0, "mask_token_id": 29, "eos_token_id": 28, "pad_token_id": 28}
    (folder / "config.json").write_text(json.dumps(config))
    words = {chr(97 + i): i for i in range(26)} | {"Ġ": 26, "ab": 27}
    (folder / "vocab.json").write_text(json.dumps(words))
    (folder / "merges.txt").write_text("#version: 0.2\na b\n")
    names = {28: "<|endoftext|>", 29: "<|mask|>"}
    tokens = {str(i): {"content": text, "special": True} for i, text in names.items()}
    tokenizer = {"tokenizer_class": "DreamTokenizer", "added_tokens_decoder": tokens}
    tokenizer |= {"auto_map": {"AutoTokenizer": ["tokenization_dream.DreamTokenizer", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    (folder / "tokenization_dream.py").write_text("raise SystemExit('remote code was run')")
    return folder, qwen
