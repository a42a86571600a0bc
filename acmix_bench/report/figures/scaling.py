"""How the cost of a model grows with the size of its map and with its channels, all else equal: logarithmic, with the
exponent of the fit.

A row is part of a line where the run has its variant at three sizes or more. An exponent is fitted in every process by
itself; its interval is over processes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from acmix_bench import backbones, stats
from acmix_bench.analysis.compare import Comparison, Line, images_per_second
from acmix_bench.errors import UserError
from acmix_bench.report import rounding
from acmix_bench.report.figures.style import COLOURS, LINES, MARKERS, legend, logarithmic, sheet, title
from acmix_bench.spec.cell import Row
from acmix_bench.spec.meter import short
from acmix_bench.stats import Estimate

FEWEST = 3
MAP, CHANNELS = "map, pixels a side", "channels"
MACS = "multiply-adds of one image"


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One variant's cost over a size: its value at each, and the exponent of its growth."""

    name: str
    fixed: str
    sizes: list[int]
    costs: list[Estimate]
    exponent: Estimate


@dataclass(kw_only=True)
class _Growth:
    name: str
    fixed: str
    lines: dict[int, Line] = field(default_factory=dict)


def read(comparison: Comparison) -> dict[tuple[str, str], list[Curve]]:
    """The curves by what is measured and what grows."""
    found: dict[tuple[str, str], list[Curve]] = {}
    costs: dict[str, Callable[[Line], list[float]]] = {
        f"{short(meter)}, ms an image": partial(_times, comparison, meter) for meter in comparison.speed_meters
    }
    costs[MACS] = _macs
    for axis in (MAP, CHANNELS):
        for growth in _growths(comparison, axis):
            for what, cost in costs.items():
                samples = {size: cost(line) for size, line in sorted(growth.lines.items())}
                known = {size: values for size, values in samples.items() if values}
                if len(known) >= FEWEST:
                    found.setdefault((what, axis), []).append(_curve(growth, known))
    if not found:
        raise UserError(f"no model was measured at {FEWEST} sizes of its map or of its channels, all else equal")
    return found


def _growths(comparison: Comparison, axis: str) -> list[_Growth]:
    """The rows that differ in one size alone, by size."""
    found: dict[tuple[str, str], _Growth] = {}
    for line in comparison.lines:
        row, case = line.row, line.row.case
        channels = int(case.backbone.removeprefix("operator-")) if backbones.is_single_operator(case.backbone) else None
        height, width = case.input_size
        if (axis == CHANNELS and channels is None) or height != width:
            continue
        rest = str(case.image_size) if axis == CHANNELS else f"{case.backbone}+{case.head}"
        size = channels if axis == CHANNELS else height
        fixed = f"{height}x{height}" if axis == CHANNELS else f"{channels} channels" if channels else case.backbone
        key = (str(row.variant.content()), rest)
        found.setdefault(key, _Growth(name=_name(row), fixed=fixed)).lines[size or 0] = line
    return [growth for growth in found.values() if len(growth.lines) >= FEWEST]


def _name(row: Row) -> str:
    """What of a label is left when its case is taken off: the variant."""
    bare = row.label.removeprefix(row.case.backbone).partition("@")[0].partition("+")[0]
    return bare.removeprefix("-") or "plain"


def _times(comparison: Comparison, meter: str, line: Line) -> list[float]:
    """Milliseconds an image in every process."""
    if meter not in line.timings:
        return []
    records = [
        record
        for record in comparison.run.records
        if record.cell.row.label == line.row.label and record.cell.meter == meter and record.status == "ok"
    ]
    return [1000 / images_per_second(record) for record in records if record.values["seconds"]]


def _macs(line: Line) -> list[float]:
    macs = line.count("macs", "macs")
    return [macs] if macs else []


def _curve(growth: _Growth, samples: dict[int, list[float]]) -> Curve:
    slopes = [slope(list(samples), values) for values in zip(*samples.values(), strict=False)]
    return Curve(
        name=growth.name,
        fixed=growth.fixed,
        sizes=list(samples),
        costs=[stats.median(values) for values in samples.values()],
        exponent=stats.mean(slopes),
    )


def slope(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The exponent of the power that fits best: least squares of the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def draw(comparison: Comparison, found: dict[tuple[str, str], list[Curve]], width: str) -> Figure:
    """A panel a cost and a size."""
    costs, sizes = (list(dict.fromkeys(key[place] for key in found)) for place in (0, 1))
    figure, axes = sheet(width, len(costs) * (1.75 if width == "column" else 2.3), len(costs), len(sizes), sharey="row")
    names = list(dict.fromkeys(curve.name for curves in found.values() for curve in curves))
    for row, cost in enumerate(costs):
        for column, size in enumerate(sizes):
            curves = found.get((cost, size), [])
            if not curves:
                axes[row, column].set_axis_off()
                continue
            _draw(axes[row, column], curves, names)
            fixed = " ".join(dict.fromkeys(curve.fixed for curve in curves))
            if row == 0:
                axes[row, column].set_title(fixed)
            if row == len(costs) - 1:
                axes[row, column].set_xlabel(size)
        axes[row, 0].set_ylabel(cost)
        drawn = [curve for size in sizes for curve in found.get((cost, size), [])]
        values = [one.value for curve in drawn for one in curve.costs]
        logarithmic(axes[row, 0], "y", min(values) / 1.6, max(values) * (max(values) / min(values)) ** 0.4)
    legend(figure, [Line2D([], [], **_look(names.index(name))) for name in names], names)
    several = any(curve.exponent.margin for curves in found.values() for curve in curves)
    title(figure, comparison, "fitted exponents" + ", ± half their 95 % interval over processes" * several)
    return figure


def _look(number: int) -> dict[str, Any]:
    return {"color": COLOURS[number % 7], "marker": MARKERS[number % 7], "linestyle": LINES[number % 5]}


def _draw(axis: Axes, curves: Sequence[Curve], names: Sequence[str]) -> None:
    handles, labels = [], []
    for curve in curves:
        look = _look(names.index(curve.name))
        sizes, values = np.array(curve.sizes, dtype=float), np.array([one.value for one in curve.costs])
        axis.plot(sizes, values, color=look["color"], marker=look["marker"], linestyle="")
        for size, one in zip(curve.sizes, curve.costs, strict=True):
            if one.low is not None and one.high is not None:
                axis.vlines(size, one.low, one.high, color=look["color"], linewidth=0.8)
        middle = math.exp(np.log(values).mean()), math.exp(np.log(sizes).mean())
        fit = middle[0] * (sizes / middle[1]) ** curve.exponent.value
        axis.plot(sizes, fit, color=look["color"], linestyle=look["linestyle"], zorder=1)
        handles.append(Line2D([], [], **look))
        told = rounding.score(curve.exponent, "number") if curve.exponent.margin else f"{curve.exponent.value:.2f}"
        labels.append(told)
    ticks = sorted({size for curve in curves for size in curve.sizes})
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(FixedLocator(ticks))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xticklabels([str(size) for size in ticks])
    axis.set_xlim(ticks[0] / 1.25, ticks[-1] * 1.25)
    axis.legend(handles, labels, loc="upper left", title="exponent", title_fontsize=6.5, alignment="left")
