"""From records to estimates and verdicts. No torch, and no rounding."""
