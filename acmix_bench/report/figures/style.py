"""What all figures share: the sheet, colours beside signs for who sees none, and how a user's text is shown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from acmix_bench.analysis.compare import Comparison
from acmix_bench.report import rounding
from acmix_bench.report.figures import WIDTHS
from acmix_bench.report.table.grid import one_line

HOUSE = Path(__file__).with_name("house.mplstyle")
# Of the house style's cycle; every other one is darker or lighter in grey than its neighbours.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000")
BASELINE, OTHER, BAND, QUIET = COLOURS[1], COLOURS[0], "#CFCFCF", "#6B6B6B"
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
LINE = 0.125  # inches that a line of text takes


def sheet(width: str, height: float, rows: int = 1, columns: int = 1, **how: Any) -> tuple[Figure, np.ndarray]:
    """A figure of one of `WIDTHS`, so many inches high, and its axes by row and column."""
    figure = Figure(figsize=(WIDTHS[width], height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **how)


def title(figure: Figure, comparison: Comparison, what: str, *, machine: bool = True) -> None:
    """Say whose numbers are drawn, what the signs mean, and where they were measured."""
    plan = comparison.run.plan
    told = f"{one_line(plan.experiment.name)}: {what}"
    if machine:
        told += f". {plan.environment.cpu}, {rounding.several(plan.environment.cores, 'core', 'cores')}"
    lines = [""]
    for word in one_line(told).split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and inches(longer) > figure.get_figwidth() - 0.1:
            lines.append(word)
        else:
            lines[-1] = longer
    figure.suptitle("\n".join(lines), x=0.01, ha="left", linespacing=1.25)
    figure.set_figheight(figure.get_figheight() + LINE * len(lines))


def legend(figure: Figure, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """One legend for all panels, below them, which makes the sheet higher by what it takes."""
    shown = [named(text, 40) for text in labels]
    widest = max(inches(line) for text in shown for line in text.split("\n")) + 0.42
    columns = max(1, min(len(shown), int(figure.get_figwidth() / widest)))
    rows = -(-len(shown) // columns)
    figure.legend(handles, shown, loc="outside lower left", ncols=columns)
    figure.set_figheight(figure.get_figheight() + LINE * rows * max(text.count("\n") + 1 for text in shown) + 0.05)


def inches(text: str) -> float:
    """How wide a line of text is at the size of a title."""
    return float(TextPath((0, 0), text, size=7).get_extents().width) / 72


def named(text: str, most: int) -> str:
    """A user's text on at most two lines of so many signs, parted where a label has its parts; of a longer one the
    middle is left out. matplotlib hides what begins with an underscore, so an invisible sign goes before it.
    """
    text = one_line(text)
    lines = [text]
    if len(text) > most:
        parted = [(text[: at.end()], text[at.end() :]) for at in re.finditer(r"[\s,=-](?=.)|.(?=[@+])", text)]
        lines = [line.strip() for line in min(parted, key=lambda two: max(map(len, two)), default=(text,))]
        if max(map(len, lines)) > most:
            lines = [f"{text[: most - 1]}…", text[1 - most :]]
    shown = "\n".join(lines)
    return f"\u200b{shown}" if shown.startswith("_") else shown


def rows_named(axis: Axes, labels: Sequence[str], width: str) -> None:
    """Name the rows of a panel, the first on top."""
    most = 22 if width == "column" else 34
    axis.set_yticks(range(len(labels)), [named(text, most) for text in labels], linespacing=1.05)
    axis.set_ylim(len(labels) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="y", visible=False)


def height_of(labels: Sequence[str], width: str) -> float:
    """Inches that rows with these labels take."""
    most = 22 if width == "column" else 34
    return len(labels) * (0.27 if any("\n" in named(text, most) for text in labels) else 0.165)


def noise_floor(axis: Axes, place: int, middle: float, floor: float) -> None:
    """Behind a row, what the control cannot tell from its baseline at `middle`; the floor is in logarithms."""
    low, high = middle * np.exp([-floor, floor])
    axis.fill_betweenx([place - 0.5, place + 0.5], low, high, color=BAND, linewidth=0, zorder=1)


def logarithmic(axis: Axes, which: str, low: float, high: float, most: int = 6) -> None:
    """A logarithmic axis with plain numbers: at so many ticks at most."""
    axis.set(**{f"{which}scale": "log", f"{which}lim": (low, high)})
    if high < 2.5 * low:
        ticks = [
            float(tick)
            for tick in MaxNLocator(most - 1, steps=[1, 2, 5, 10]).tick_values(low, high)
            if low <= tick <= high
        ]
    else:
        exponents = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
        for steps in ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
            ticks = [step * 10.0**exponent for exponent in exponents for step in steps]
            ticks = [tick for tick in ticks if low <= tick <= high]
            if len(ticks) <= most:
                break
    one = axis.xaxis if which == "x" else axis.yaxis
    one.set_major_locator(FixedLocator(ticks))
    one.set_minor_locator(NullLocator())
    one.set_major_formatter(FuncFormatter(lambda number, _: plain(number)))


def plain(number: float) -> str:
    """A tick's number: without exponent, thousands as k, M or G."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:g} {unit}"
    return f"{number:g}"
