"""Other people's attackers against a served model: python -m mosa.serve.crosscheck --help."""
