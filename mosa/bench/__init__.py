"""Benchmarks: python -m mosa.bench.<name>."""
