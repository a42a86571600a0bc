"""A grid with a title and notes, as terminal text, Markdown or LaTeX."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from tabulate import tabulate

WIDTH = 100  # of the notes below a table in a terminal
FORMATS = {"text": "simple", "md": "pipe", "tex": "latex_booktabs"}
TEX_SIGNS = {"±": r"$\pm$", "×": r"$\times$", "≥": r"$\geq$", "Δ": r"$\Delta$"}


@dataclass(frozen=True, kw_only=True)
class Table:
    """A rendered grid with a title above and the notes that make it readable alone."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    def render(self, style: str) -> str:
        """As `text`, `md` or `tex`."""
        align = ["left"] + ["right"] * (len(self.header) - 1)
        header = self.header if style == "text" else [title.replace("\n", " ").strip() for title in self.header]
        grid = tabulate(self.rows, header, tablefmt=FORMATS[style], colalign=align, disable_numparse=True)
        if style == "tex":
            comments = "".join(f"% {line}\n" for line in (self.title, *self.notes))
            for sign, command in TEX_SIGNS.items():
                grid = grid.replace(sign, command)
            return f"{comments}{grid}\n"
        if style == "md":
            return "\n\n".join([f"**{self.title}**", grid, *self.notes]) + "\n"
        notes = [line for note in self.notes for line in textwrap.wrap(note, WIDTH, break_long_words=False)]
        return "\n".join([self.title, "", grid, "", *notes]) + "\n"
