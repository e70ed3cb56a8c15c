"""The files of a model folder: whatever is missing, damaged or unexpected is named."""

import re
import shutil
import subprocess

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from lm.folders import edit_config, edit_tensors, load
from safetensors.torch import load_file, save_file

from mosa.lm import checkpoints
from mosa.lm.checkpoints import random_llada
from mosa.pipeline.params import ROOT


def test_sharded_equals_single(lm, copy, ids):
    edit_tensors(copy, dict)
    assert [file.name for file in copy.glob("*.safetensors")] == ["model.safetensors"]
    assert (load(copy)(ids) - lm(ids)).abs().max() == 0.0


def test_a_checkpoint_s_code_is_never_run(copy, ids):
    edit_config(copy, auto_map={"AutoModelForCausalLM": "modeling_llada.LLaDAModelLM"})
    (copy / "modeling_llada.py").write_text("raise SystemExit('remote code was run')")
    assert load(copy)(ids).isfinite().all()


def test_missing_tensors_are_named(copy):
    lost = {"model.transformer.ln_f.weight", "model.transformer.blocks.1.ff_out.weight"}
    edit_tensors(copy, lambda tensors: {k: v for k, v in tensors.items() if k not in lost})
    with pytest.raises(ValueError, match=r"model\.safetensors\) lacks") as error:
        load(copy)
    assert all(name in str(error.value) for name in lost)


def test_an_unexpected_tensor_is_named(copy):
    extra = "model.transformer.blocks.0.q_proj.bias"
    edit_tensors(copy, lambda tensors: tensors | {extra: torch.zeros(32)})
    with pytest.raises(ValueError, match=rf"model\.safetensors: .* no tensor {extra}"):
        load(copy)


def test_a_wrong_shape_is_named(copy):
    edit_config(copy, mlp_hidden_size=48)
    with pytest.raises(ValueError, match=r"blocks\.0\.ff_.* has shape .*96.* implies .*48"):
        load(copy)


@pytest.mark.parametrize("keep", [-100, 200, 4])
def test_a_truncated_file_is_named(copy, keep):
    file = copy / "model-00002-of-00002.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"model-00002-of-00002\.safetensors is damaged"):
        load(copy)


def test_a_missing_shard_is_named(copy):
    (copy / "model-00001-of-00002.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model-00001-of-00002\.safetensors is missing"):
        load(copy)


def test_a_loaded_model_does_not_change_with_its_file(copy, ids):
    lm = load(copy)
    before = lm(ids)
    for file in copy.glob("*.safetensors"):  # in place: get_tensor() maps the file
        with open(file, "r+b") as stream:
            stream.seek(-64, 2)
            stream.write(b"\xff" * 64)  # NaN
    assert load(copy)(ids).isnan().any()
    assert lm(ids).equal(before)


def test_only_safetensors_are_read(copy):
    for file in copy.glob("*.safetensors*"):
        file.unlink()
    torch.save({}, copy / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match="safetensors only"):
        load(copy)


def test_no_config(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config\.json is missing"):
        load(tmp_path)


def test_names_are_downloaded_without_code(checkpoint, monkeypatch, ids):
    asked = {}

    def download(name, allow_patterns):
        asked.update(name=name, patterns=allow_patterns)
        return str(checkpoint)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert load("GSAI-ML/LLaDA-8B-Instruct")(ids).isfinite().all()
    assert asked["name"] == "GSAI-ML/LLaDA-8B-Instruct"
    assert not any(pattern.endswith((".py", ".bin", "*")) for pattern in asked["patterns"])


def test_offline_is_one_clear_error(monkeypatch):
    def download(name, allow_patterns):
        raise LocalEntryNotFoundError("long text\nof several lines")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(FileNotFoundError, match="some/model is no folder") as error:
        load("some/model")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"[]", b"null", b'"text"', b'{"name": "\xe9"}', b"", b"{",
                                     '{"model_type": "llada"}'.encode("utf-16")], ids=repr)
@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json", "checksums.json"])
def test_json_of_another_shape_or_encoding_is_named(copy, name, content):
    (copy / name).write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(name)) as error:
        load(copy)
    assert type(error.value) is ValueError and "\n" not in str(error.value)


@pytest.mark.parametrize("content", [{}, {"weight_map": None}, {"weight_map": {}},
                                     {"weight_map": {"a": 1}}, {"weight_map": ["a"]}], ids=repr)
def test_an_index_without_files_is_named(copy, content):
    checkpoints.write_json(copy / "model.safetensors.index.json", content)
    with pytest.raises(ValueError, match=r"model\.safetensors\.index\.json has no weight_map"):
        load(copy)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", [b"[]", b"{", b"\xff\xfe"], ids=repr)
def test_a_damaged_tokenizer_is_named(copy, name, content):
    (copy / name).write_bytes(content)
    with pytest.raises(ValueError, match="copy: its tokenizer is damaged") as error:
        load(copy)
    assert "\n" not in str(error.value)


def test_a_tensor_in_two_files_is_named(copy):
    first, second = sorted(copy.glob("*.safetensors"))
    name, tensor = next(iter(load_file(first).items()))
    save_file(load_file(second) | {name: tensor + 1}, second)
    with pytest.raises(ValueError, match=rf"{second.name}: {re.escape(name)} is in another file"):
        load(copy)


# --- Line ends ------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_clone_has_the_same_bytes_whatever_git_s_line_ends(tmp_path):
    """core.autocrlf is on in Git for Windows: every file that is compared by its hash must stay."""
    def git(*command):
        subprocess.run(["git", "-c", "core.autocrlf=true", *command], check=True,
                       capture_output=True, cwd=tmp_path)

    here, clone = tmp_path / "here", tmp_path / "clone"
    shutil.copytree(ROOT / "models/embedded-0", here / "models/embedded-0")
    for name in (".gitattributes", "params.yaml", "dvc.yaml", "mosa/__init__.py"):
        (here / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, here / name)
    for name in ("rows.csv", "rows.jsonl", "table.tex", "table.md", "figure.pdf", "figure.png"):
        (here / name).write_bytes(b"one\ntwo\n")
    git("init", "-q", "here")
    git("-C", "here", "add", ".")
    git("-C", "here", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "all")
    git("clone", "-q", "here", "clone")
    files = [file.relative_to(here) for file in here.rglob("*")
             if file.is_file() and file.relative_to(here).parts[0] != ".git"]
    assert len(files) > 12
    assert [f for f in files if (here / f).read_bytes() != (clone / f).read_bytes()] == []
    checkpoints.local_folder(clone / "models/embedded-0")  # its checksums hold


# --- The rehearsal checkpoint --------------------------------------------------------------------


def test_random_llada_has_llada_s_layout_and_is_always_the_same(tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    for name in "ab":
        random_llada(tmp_path / name)
    assert torch.rand(1) == expected  # the caller's random numbers are left alone
    files = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    a, b = (load_file(tmp_path / n / files[0]) for n in "ab")
    assert all(a[name].equal(b[name]) for name in a)
    names = set(a) | set(load_file(tmp_path / "a" / files[1]))
    assert len(names) == 2 * 9 + 3
    assert {"model.transformer.blocks.1.ff_proj.weight", "model.transformer.ff_out.weight"} <= names
