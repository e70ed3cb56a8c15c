"""Between DVC and the code: parameters, rows, notebooks, workers."""
