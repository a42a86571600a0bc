"""What all figures share."""

from __future__ import annotations

from acmix_bench.report.table.grid import one_line

COLOUR, BASELINE_COLOUR = "#2f6db5", "#c2571a"


def literal(text: str) -> str:
    """A user's text on one line, in which a dollar begins no formula."""
    return one_line(text).replace("$", r"\$")
