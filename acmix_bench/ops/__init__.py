"""The operator: production and reference implementations, and its closed-form cost (which needs no torch)."""
