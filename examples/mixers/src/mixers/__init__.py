"""One of each that acmix-bench takes from others."""
