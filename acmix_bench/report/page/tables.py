"""Tables as the template takes them. The numbers are the texts that the tables of the terminal show."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, get_args

from acmix_bench.report.table.grid import Table
from acmix_bench.runs.record import Status

MOST_ROWS = 300  # of a table on a page
MOST_NOTES = 30  # below a table
FAILED = {*get_args(Status), "failed", "regression"} - {"ok"}
NUMBER = re.compile(r"([+-]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?)(?: ([kMG])\b)?")
SIZES = {"k": 1e3, "M": 1e6, "G": 1e9, None: 1.0}


def grid(table: Table) -> dict[str, Any]:
    """A table as the template takes it: of a long one the first rows, and every cell with its style."""
    return {
        "title": table.title,
        # A hyphen at the end of a line parts a word.
        "header": [" ".join(name.replace("-\n", "").split()) for name in table.header],
        "rows": [
            [(text, _style(text, (row, column) in table.best), sort_key(text)) for column, text in enumerate(cells)]
            for row, cells in enumerate(table.rows[:MOST_ROWS])
        ],
        "cut": f"The first {MOST_ROWS} of {len(table.rows):,} rows." * (len(table.rows) > MOST_ROWS),
        "problems": _few(table.problems),
        "notes": _few(table.notes),
        "has_best": bool(table.best),
    }


def _few(lines: Sequence[str]) -> list[str]:
    more = len(lines) - MOST_NOTES
    return [*lines[:MOST_NOTES], *([f"And {more:,} more; the command line prints them all."] if more > 0 else [])]


def _style(text: str, best: bool) -> str:
    """As `cli.terminal` styles a cell; no style says anything that its text or a note does not."""
    if best:
        return "best"
    if text in FAILED:
        return "failed"
    return "dim" if text == "-" or re.search(r"\bnoise\b", text) else ""


def sort_key(text: str) -> str:
    """The number that a cell begins with, by which its column is sorted; nothing where it begins with none."""
    found = NUMBER.match(text)
    return f"{float(found[1].replace(',', '')) * SIZES[found[2]]:.10g}" if found else ""
