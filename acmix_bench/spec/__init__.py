"""What is measured, as immutable values: variants, experiments, cells, and what can be named. No torch here."""
