"""Tables for somebody who looks: on a terminal with colours and as wide as the window, else plain text.

What is noise is dimmed, what is best beyond doubt is bold, what failed is red. Nothing is told by colour alone, and
the colours are the terminal's own, so that they can be read on a dark and on a light one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from acmix_bench.cli.common import is_watched
from acmix_bench.report.table.grid import FAILED, Table, one_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as Grid


def show(tables: Sequence[Table], *, notes: bool = True) -> None:
    """Print tables one after the other.

    Args:
        notes: whether to print what stands below them.
    """
    if not is_watched():
        print("\n".join(table.render("text", notes=notes) for table in tables), end="")
        return
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    for number, table in enumerate(tables):
        _print(console, table, notes=notes, first=not number)


# Where a cell may be broken, the least harmful first: before an interval and its verdict, then before half of one.
BREAKS = ((), (" [", " noise", " ("), (" [", " noise", " (", " ±"))


def _print(console: Console, table: Table, *, notes: bool, first: bool) -> None:
    from rich.text import Text

    if not first:
        console.print()
    console.print(Text(one_line(table.title), "bold"))
    grids = (_grid(table, breaks, console.width) for breaks in BREAKS)
    free = console.options.update(width=10_000)  # a grid's own width is what it takes where there is room
    fitting = (grid for grid in grids if console.measure(grid, options=free).maximum <= console.width)
    console.print(next(fitting, None) or _grid(table, BREAKS[-1], console.width))
    for problem in table.problems:
        console.print(Text(one_line(problem), "red"))
    for note in table.notes if notes else ():
        console.print(Text(one_line(note)))


def _grid(table: Table, breaks: Sequence[str], width: int) -> Grid:
    from rich import box
    from rich.table import Table as Grid
    from rich.text import Text

    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, header_style="", padding=(0, 1, 0, 0))
    labels = max((len(one_line(cells[0])) for cells in table.rows), default=0)
    for number, name in enumerate(table.header):
        whole = not number and labels <= width // 3
        justify: Literal["left", "right"] = "right" if number else "left"
        grid.add_column(Text(name), justify=justify, vertical="top", overflow="fold", no_wrap=whole)
    for row, cells in enumerate(table.rows):
        told = [one_line(cell) for cell in cells]
        for point in breaks:
            told[1:] = [cell.replace(point, "\n" + point[1:]) for cell in told[1:]]
        grid.add_row(*(Text(t, _style(cells[c], (row, c) in table.best)) for c, t in enumerate(told)))
    return grid


def _style(cell: str, best: bool) -> str:
    if best:
        return "bold"
    if cell in FAILED or cell == "regression":
        return "red"
    return "dim" if cell == "-" or re.search(r"\bnoise\b", cell) else ""
