"""An OpenAI-compatible endpoint over a masked diffusion model: python -m mosa.serve --help."""
