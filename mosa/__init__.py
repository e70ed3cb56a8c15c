"""MOSA: Middle-tOken Safety Alignment for diffusion language models (arXiv 2508.12398)."""
