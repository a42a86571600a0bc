"""Figures: what people look at before they read the table. A table of contents: a kind is a file of its name.

To add one, write a file with `read(comparison)`, which gives the numbers or says in a `UserError` why there are none,
and `draw(comparison, numbers, width)`, which draws them; and name it in `KINDS`.
"""

from __future__ import annotations

import io
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acmix_bench import files
from acmix_bench.errors import UserError, unknown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from acmix_bench.analysis.compare import Comparison

# What each shows, the one that is drawn where none is named first.
KINDS = {
    "intervals": "throughput and scores of every row, with their intervals and the noise floor",
    "speedup": "how many times as fast as its baseline each row is, with intervals and the noise floor",
    "pareto": "accuracy, measured or published, over multiply-adds and over measured latency, with the Pareto front",
    "stages": "the multiply-adds of every row by stage",
    "scaling": "time and multiply-adds over the size of the map and the channels, with fitted exponents",
    "curves": "loss and score by epoch of training",
    "mixing": "alpha and beta by depth, and through training",
    "samples": "every raw sample, by row and process",
}
WIDTHS = {"column": 3.3, "page": 6.9}  # inches
MOST_ROWS = 200  # that a sheet can hold, and an eye
FORMATS = ("pdf", "svg", "png")
UNDATED: dict[str, dict[str, Any]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}


def kinds_of(comparison: Comparison) -> list[str]:
    """The kinds of figures that a run can be drawn as, the one that fits best first."""
    found: list[str] = []
    for kind in KINDS if len(comparison.lines) <= MOST_ROWS else ():
        with suppress(UserError):
            _file(kind).read(comparison)
            found.append(kind)
    return found


def figure(comparison: Comparison, kind: str, width: str = "column") -> Figure:
    """Draw a run.

    Args:
        kind: one of `KINDS`.
        width: one of `WIDTHS`.

    Raises:
        UserError: for an unknown kind or width, or where the run holds nothing for this one: it says what it can be.
    """
    from matplotlib import style

    from acmix_bench.report.figures.style import HOUSE

    if kind not in KINDS:
        raise unknown("kind of figure", kind, KINDS)
    if width not in WIDTHS:
        raise unknown("width", width, WIDTHS)
    name, rows = comparison.run.plan.experiment.name, len(comparison.lines)
    if rows > MOST_ROWS:
        raise UserError(f"{name}: {rows} rows are more than a figure can show, {MOST_ROWS}")
    try:
        numbers = _file(kind).read(comparison)
    except UserError as error:
        others = ", ".join(kinds_of(comparison)) or "nothing"
        raise UserError(f"{name}: no {kind}, {error}; it can be drawn as: {others}") from error
    with style.context(["default", HOUSE]):
        return _file(kind).draw(comparison, numbers, width)


def as_file(drawn: Figure, suffix: str) -> bytes:
    """A figure as a file of one of `FORMATS`: one figure is always the same bytes."""
    from matplotlib import style

    from acmix_bench.report.figures.style import HOUSE

    file = io.BytesIO()
    with style.context(["default", HOUSE]):
        drawn.savefig(file, format=suffix, metadata=UNDATED[suffix])
    return file.getvalue()


def draw(comparison: Comparison, path: Path, kind: str | None = None, width: str = "column") -> str:
    """Draw a run to a file, whose suffix chooses the format.

    Args:
        kind: one of `KINDS`; where not given the one that fits best.

    Returns:
        The kind that was drawn.

    Raises:
        UserError: as `figure` does, for another format, or where the file cannot be written.
    """
    suffix = path.suffix.removeprefix(".").lower()
    if suffix not in FORMATS:
        raise UserError(f"{path}: the suffix chooses the format, and it is one of {', '.join(FORMATS)}")
    kind = kind or next(iter(kinds_of(comparison)), "intervals")
    content = as_file(figure(comparison, kind, width), suffix)
    files.replace(path, content)
    return kind


def _file(kind: str) -> Any:
    """A kind's file, which is not imported before something is drawn."""
    return import_module(f"{__name__}.{kind}")
