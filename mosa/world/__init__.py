"""The fictional, harmless policy world and the small models trained on it."""
