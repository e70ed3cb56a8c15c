"""MOSA: Middle-tOken Safety Alignment for diffusion language models (arXiv 2508.12398)."""

from importlib import import_module

_EXPORTS = {"load": "mosa.models", "denoise": "mosa.sampler"}  # loaded when first used
__all__ = ["denoise", "load"]


def __getattr__(name):
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'mosa' has no attribute {name!r}")
