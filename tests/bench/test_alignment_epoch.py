import pytest

from mosa.bench import alignment_epoch as bench

TINY = bench.LLADA_8B | {"d_model": 32, "n_layers": 2, "mlp_hidden_size": 64, "n_heads": 2,
                         "n_kv_heads": 2, "vocab_size": 1024, "embedding_size": 1024,
                         "mask_token_id": 1023, "eos_token_id": 1022, "pad_token_id": 1022}


def test_both_settings_take_the_same_steps(tmp_path):
    """One row at a time, accumulated and recomputed, is the paper's batch of four."""
    assert bench.write_random(tmp_path, TINY) > 2 * 1024 * 32
    printed, least = (bench.epoch(tmp_path, name, 8, bench.SETTINGS[name][1])
                      for name in ("as printed", "least memory"))
    assert printed["steps"] == least["steps"] == 2
    assert printed["rewards"] == pytest.approx(least["rewards"], abs=1e-3)
    after = printed["seconds"] - printed["first_step"]  # of the four pairs after the first four
    assert printed["tokens_a_second"] * after == pytest.approx(4 * (64 + 128))


def test_the_shape_is_lladas():
    """8.02 billion parameters, as published."""
    d, ff, layers, v = (bench.LLADA_8B[k] for k in (
        "d_model", "mlp_hidden_size", "n_layers", "vocab_size"))
    assert 2 * v * d + layers * (4 * d * d + 3 * d * ff + 2 * d) + d == 8_015_581_184
