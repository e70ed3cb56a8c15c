"""Values of config.json: followed by the native modules, or refused by name."""

import json

import pytest
from lm.folders import VOCAB, edit_config, load

from mosa.lm import checkpoints
from mosa.lm.config import native
from mosa.lm.loading import save


def test_special_tokens_come_from_config_or_are_llada_s(checkpoint, lm, copy):
    assert (lm.mask_id, lm.eos_id, lm.pad_id, lm.logit_shift) == (256, 258, 258, 0)
    assert lm.tokenizer.convert_ids_to_tokens(lm.mask_id) == "<|mdm_mask|>"
    edit_config(copy, mask_token_id=None, eos_token_id=None, pad_token_id=None)
    with pytest.raises(ValueError, match=r"mask_token_id must be an id .*, not 126336"):
        load(copy)
    path = edit_config(copy, embedding_size=126464) / "config.json"
    config, _ = native(checkpoints.read_json(path), path)
    assert (config.mask_token_id, config.eos_token_id) == (126336, 126081)
    assert config.pad_token_id == 126081


def test_mmada_is_recognised_by_its_architecture(lm, copy, ids):
    edit_config(copy, model_type="mmada", architectures=["MMadaModelLM"])
    assert (load(copy)(ids) - lm(ids)).abs().max() == 0.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "gpt2", "architectures": None}, "model_type 'gpt2' is no masked diffusion"),
        ({"model_type": "llama", "architectures": None}, "written by"),
        ({"alibi": True}, "alibi is True, only False"),
        ({"d_model": None, "n_heads": None}, "lacks d_model, n_heads"),
        ({"rope": None}, "rope is None, only True"),
        ({"multi_query_attention": True}, "multi_query_attention is True, only False"),
        ({"attention_layer_norm": True}, "attention_layer_norm is True, only False"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 4.0}}, "rope_scaling is .*dynamic"),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, "rope_scaling is .*linear"),
        ({"rope_scaling": {"factor": 4.0}}, "rope_scaling is .*factor"),
        ({"rope_scaling": 4.0}, r"rope_scaling is 4\.0"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 5e5}}, "rope_param.*yarn"),
        ({"rope_parameters": {"rope_theta": 1e4}}, "rope_theta and rope_parameters.*contradict"),
        ({"rope_parameters": {"rope_theta": "1"}}, r"rope_parameters\.rope_theta must be a posit"),
        ({"rope_theta": ...}, "lacks rope_theta"),
        ({"rope_theta": 0}, "rope_theta must be a positive number, not 0"),
        ({"rope_theta": "500000"}, "rope_theta must be a positive number, not '500000'"),
        ({"rope_theta": float("inf")}, "rope_theta must be a positive number, not inf"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps must be a positive number, not nan"),
        ({"max_sequence_length": -1}, "max_sequence_length must be a positive whole number"),
        ({"n_heads": 0}, "n_heads must be a positive whole number, not 0"),
        ({"n_heads": True}, "n_heads must be a positive whole number, not True"),
        ({"n_kv_heads": 0}, "n_kv_heads must be a positive whole number, not 0"),
        ({"n_heads": 3}, "32 channels, 3 attention heads and 4 .* do not fit together"),
        ({"d_model": 32.0}, r"d_model must be a positive whole number, not 32\.0"),
        ({"embedding_size": "264"}, "embedding_size must be a positive whole number, not '264'"),
        ({"weight_tying": "no"}, "weight_tying must be true or false, not 'no'"),
        ({"model_type": ["llada"], "architectures": 5}, r"model_type \['llada'\] is no masked"),
        ({"eos_token_id": [258, 261]}, r"eos_token_id must be an id .*, not \[258, 261\]"),
        ({"eos_token_id": "258"}, "eos_token_id must be an id .*, not '258'"),
        ({"eos_token_id": True}, "eos_token_id must be an id .*, not True"),
        ({"mask_token_id": 256.0}, r"mask_token_id must be an id .*, not 256\.0"),
        ({"mask_token_id": 258}, "mask_token_id and eos_token_id must differ"),
        ({"mask_token_id": VOCAB}, "mask_token_id must be an id of the vocabulary, not 264"),
    ],
)
def test_a_configuration_the_native_modules_cannot_express_is_refused(copy, change, message):
    edit_config(copy, **change)
    with pytest.raises(ValueError, match=message) as error:
        load(copy)
    assert "config.json" in str(error.value)


@pytest.mark.parametrize("family", ["llada", "dream"])
def test_rope_parameters_as_transformers_5_writes_them(copy, dream, ids, family):
    folder, ids = (copy, ids) if family == "llada" else (dream[0], ids.clamp(max=27))
    want = load(folder)(ids)
    theta = json.loads((folder / "config.json").read_text())["rope_theta"]
    rope = {"rope_type": "default", "rope_theta": theta}
    for changes in ({"rope_parameters": rope}, {"rope_theta": ..., "rope_parameters": rope},
                    {"rope_scaling": None}):
        assert load(edit_config(folder, **changes))(ids).equal(want)
    edit_config(folder, rope_parameters=rope | {"rope_theta": 2 * theta})
    assert not load(folder)(ids).equal(want)
    edit_config(folder, rope_parameters=rope | {"rope_type": "yarn", "factor": 4.0})
    with pytest.raises(ValueError, match=r"config\.json: rope_parameters is .*yarn"):
        load(folder)


def test_dream_s_switches(dream):
    full = ["full_attention"] * 2
    load(edit_config(dream[0], layer_types=full))
    for change in ({"layer_types": [*full[:1], "sliding_attention"]}, {"use_sliding_window": True}):
        with pytest.raises(ValueError, match=next(iter(change))):
            load(edit_config(dream[0], **{"layer_types": full} | change))


@pytest.mark.parametrize("change", [{"logit_shift": 2}, {"logit_shift": "1"}, {"hidden_size": 0},
                                    {"vocab_size": ...}, {"rope_parameters": {"rope_type": "yarn"}},
                                    {"attention_bias": "perhaps"}], ids=str)
def test_a_saved_folder_s_values_are_checked_too(lm, tmp_path, change):
    save(lm, tmp_path)
    (tmp_path / "checksums.json").unlink()
    with pytest.raises(ValueError, match=rf"config\.json.*{next(iter(change))}"):
        load(edit_config(tmp_path, **change))
