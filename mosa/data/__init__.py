"""What a profile measures on: the policy world or public files."""
