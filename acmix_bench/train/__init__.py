"""Training: the loop and its recipe."""
