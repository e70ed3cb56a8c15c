"""Helpers of the tests of mosa.lm: load on the CPU, edit the files of a model folder."""

import json

from safetensors.torch import load_file, save_file

from mosa.lm import loading

HEADS, VOCAB = 4, 264


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
