"""Safety alignment of diffusion language models: MOSA, Initial Alignment and their rivals."""

from importlib import import_module
from typing import Any

LAZY = {  # transformers' Trainer takes seconds to import: only for those who train
    "MOSATrainer": "mosa.alignment.trainer",
    "MOSAConfig": "mosa.alignment.trainer",
    "align": "mosa.alignment.trainer",
    "with_lora": "mosa.alignment.trainer",
    "windowed_max_loglik": "mosa.alignment.reward",
}


def __getattr__(name: str) -> Any:
    if name in LAZY:
        return getattr(import_module(LAZY[name]), name)
    raise AttributeError(f"module 'mosa.alignment' has no attribute {name!r}")
