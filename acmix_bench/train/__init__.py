"""Training: the loop, its recipe, and the scores after it."""
