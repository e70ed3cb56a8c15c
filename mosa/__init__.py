"""MOSA: Middle-tOken Safety Alignment for diffusion language models (arXiv 2508.12398)."""

import warnings
from importlib import import_module
from typing import Any

LAZY = {  # loaded when first used: torch takes seconds
    "load": "mosa.lm.loading",
    "denoise": "mosa.lm.sampler",
    "Stage": "mosa.stage",
    "targets": "mosa.target",
}
__all__ = sorted(LAZY)

# tqdm.auto, which others import, warns in a notebook that ipywidgets is missing: it would stand as
# a box at the head of every executed notebook, and its widget reads 0 % for ever once saved
warnings.filterwarnings("ignore", message="IProgress not found")
# peft still asks a model by the old name; nothing a reader could do about it
warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)


def __getattr__(name: str) -> Any:
    if name in LAZY:
        return getattr(import_module(LAZY[name]), name)
    raise AttributeError(f"module 'mosa' has no attribute {name!r}")
