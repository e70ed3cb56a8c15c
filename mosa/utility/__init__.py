"""What a model is and does: gates, order, effects of a place, and whether it is still useful."""
