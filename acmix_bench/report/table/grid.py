"""A grid with a title and notes, as terminal text or Markdown; `latex` sets it in LaTeX."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import get_args

from tabulate import tabulate

from acmix_bench.errors import printable
from acmix_bench.runs.record import Status

WIDTH = 100  # of the notes below a table in a terminal
FORMATS = {"text": "simple", "md": "pipe"}
FAILED = {*get_args(Status), "failed"} - {"ok"}  # a cell that says how it failed


@dataclass(frozen=True, kw_only=True)
class Table:
    """A grid with a title above and the notes that make it readable alone.

    Attributes:
        problems: what went wrong in which row.
        best: where a row is the best in a column beyond doubt: the numbers of row and column, from 0.
        ties: what bold means, and in which columns no row is the best, for where the best are bold.
        conditions: what a caption tells: protocol, seeds and machine.
        reasons: what went wrong in a row, by its label, for where a cell that failed is only a mark.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    problems: Sequence[str] = ()
    best: frozenset[tuple[int, int]] = frozenset()
    ties: Sequence[str] = ()
    conditions: str = ""
    reasons: Mapping[str, str] = field(default_factory=dict)

    def render(self, style: str, *, notes: bool = True) -> str:
        """As `text` or `md`, with its notes or with the problems alone."""
        align = ["left"] + ["right"] * (len(self.header) - 1)
        title, *below = map(one_line, (self.title, *self.problems, *(self.notes if notes else ())))
        rows = [[one_line(cell) for cell in row] for row in self.rows]
        # A hyphen at the end of a line parts a word.
        header = [name if style == "text" else one_line(name.replace("-\n", "")) for name in self.header]
        if style == "md":
            title, *below = map(as_markdown, (title, *below))
            header, rows = list(map(as_markdown, header)), [list(map(as_markdown, row)) for row in rows]
        grid = tabulate(rows, header, tablefmt=FORMATS[style], colalign=align, disable_numparse=True)
        if style == "md":
            return "\n\n".join([f"**{title}**", grid, *below]) + "\n"
        lines = [line for note in below for line in textwrap.wrap(note, WIDTH, break_long_words=False)]
        return "\n".join([title, "", grid, *([""] if lines else []), *lines]) + "\n"


def one_line(text: str) -> str:
    """A user's text may have several lines, of which all but the first would be read as something else."""
    return printable(" ".join(text.split()))


def as_markdown(text: str) -> str:
    """What Markdown would read as a sign of its own stands for itself."""
    return re.sub(r"[\\`*<|]|(?<!\w)_|^[#>+-](?=[# ])", lambda sign: "\\" + sign[0], text)
