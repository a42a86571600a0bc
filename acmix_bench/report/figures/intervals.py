"""Every rate and score of every row, with its interval: a panel a column of the table."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from acmix_bench.analysis.compare import Comparison, baselines_of, scores_of
from acmix_bench.errors import UserError
from acmix_bench.report.figures.style import (
    BASELINE,
    OTHER,
    height_of,
    logarithmic,
    noise_floor,
    plain,
    rows_named,
    sheet,
    title,
)
from acmix_bench.spec.meter import short
from acmix_bench.stats import Estimate

WIDE = 8  # times the least that the largest may be on an axis that is not logarithmic


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One number of every row, None where it was not measured, and of timings each row's noise floor."""

    title: str
    estimates: list[Estimate | None]
    floors: list[float | None]
    scale: float = 1.0


def read(comparison: Comparison) -> list[Panel]:
    """A panel a timing and a score."""
    panels, lines = [], comparison.lines
    for name in comparison.run.plan.experiment.meters:
        if name in comparison.speed_meters:
            timings = [line.timings.get(name) for line in lines]
            rates = [timing.rate if timing else None for timing in timings]
            floors = [timing.noise_floor if timing else None for timing in timings]
            panels.append(Panel(title=f"{short(name)}, images/s", estimates=rates, floors=floors))
        for key, metric in scores_of(name).items():
            means = [line.scores[key].mean if key in line.scores else None for line in lines]
            percent = metric.unit == "percent"
            panels.append(
                Panel(
                    title=" ".join((metric.title or short(name)).split()) + ", %" * percent,
                    estimates=means,
                    floors=[None] * len(lines),
                    scale=100.0 if percent else 1.0,
                )
            )
    panels = [panel for panel in panels if any(panel.estimates)]
    if not panels:
        raise UserError("no throughput and no score was measured")
    return panels


def draw(comparison: Comparison, panels: list[Panel], width: str) -> Figure:
    """At a column's width panel below panel, else side by side."""
    labels = [line.row.label for line in comparison.lines]
    rows, columns = (len(panels), 1) if width == "column" else (1, len(panels))
    height = rows * (height_of(labels, width) + 0.35) + 0.1
    figure, axes = sheet(width, height, rows, columns, sharey=True)
    for panel, axis in zip(panels, axes.flat, strict=True):
        _draw(axis, comparison, panel)
        axis.set_title(panel.title)
    for axis in axes.flat:
        rows_named(axis, labels, width)
    band = ", grey the noise floor round the baseline" if any(any(panel.floors) for panel in panels) else ""
    known = any(one and one.low is not None for panel in panels for one in panel.estimates)
    title(figure, comparison, f"{'95 % intervals' if known else 'too few repeats for intervals'}{band}")
    return figure


def _draw(axis: Axes, comparison: Comparison, panel: Panel) -> None:
    firsts = baselines_of([line.row for line in comparison.lines])
    labels = [line.row.label for line in comparison.lines]
    for place, (line, estimate) in enumerate(zip(comparison.lines, panel.estimates, strict=True)):
        if estimate is None:
            continue
        first = firsts[line.row.case]
        against, floor = panel.estimates[labels.index(first.label)], panel.floors[place]
        if against and floor:
            noise_floor(axis, place, against.value, floor)
        colour = BASELINE if line.row == first else OTHER
        if estimate.low is not None and estimate.high is not None:
            axis.hlines(place, estimate.low * panel.scale, estimate.high * panel.scale, color=colour, linewidth=1.6)
        face = "white" if line.row == first else colour
        axis.plot(estimate.value * panel.scale, place, "s" if line.row == first else "o", color=colour, mfc=face)
    _scale(axis, panel)


def _scale(axis: Axes, panel: Panel) -> None:
    found = [estimate for estimate in panel.estimates if estimate]
    ends = [panel.scale * end for one in found for end in (one.low, one.value, one.high) if end is not None]
    if min(ends) > 0 and max(ends) > WIDE * min(ends):
        logarithmic(axis, "x", min(ends) / 1.2, max(ends) * 1.2, most=5)
    else:
        axis.xaxis.set_major_locator(MaxNLocator(4))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda number, _: plain(number)))
