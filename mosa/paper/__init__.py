"""What the reader sees: figures, tables, words."""
