"""How many times as fast as the first row of its case each row is: bars from 1, with the noise floor as a band."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from acmix_bench.analysis.compare import Comparison, baselines_of
from acmix_bench.errors import UserError
from acmix_bench.report import rounding
from acmix_bench.report.figures.style import OTHER, QUIET, height_of, logarithmic, noise_floor, rows_named, sheet, title
from acmix_bench.spec.meter import short
from acmix_bench.stats import Estimate


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A row's speed-up and the noise floor of its case; a bar without a speed-up names the baseline of those below."""

    label: str
    speedup: Estimate | None = None
    floor: float | None = None

    @property
    def is_noise(self) -> bool:
        """Whether it comes closer to 1 than the noise floor."""
        return rounding.ratio(self.speedup, self.floor or 0.0).endswith("noise")


def read(comparison: Comparison) -> dict[str, list[Bar]]:
    """By meter: of each case that has several rows its baseline, then the others; all meters have the same rows."""
    firsts = baselines_of([line.row for line in comparison.lines])
    found: dict[str, list[Bar]] = {}
    for meter in comparison.speed_meters:
        for case in dict.fromkeys(line.row.case for line in comparison.lines):
            first = firsts[case]
            lines = [line for line in comparison.lines if line.row.case == case and line.row != first]
            if lines and len(firsts) > 1:
                found.setdefault(meter, []).append(Bar(label=f"× {first.label}"))
            for line in lines:
                timing = line.timings.get(meter)
                bar = Bar(label=line.row.label)
                if timing:
                    bar = Bar(label=line.row.label, speedup=timing.speedup, floor=timing.noise_floor)
                found.setdefault(meter, []).append(bar)
    found = {meter: bars for meter, bars in found.items() if any(bar.speedup for bar in bars)}
    if not found:
        raise UserError("no row was timed beside a baseline of its case")
    return found


def draw(comparison: Comparison, panels: dict[str, list[Bar]], width: str) -> Figure:
    """A panel a meter, at a column's width one below the other."""
    labels = [bar.label for bar in next(iter(panels.values()))]
    rows, columns = (len(panels), 1) if width == "column" else (1, len(panels))
    figure, axes = sheet(width, rows * (height_of(labels, width) + 0.35) + 0.1, rows, columns, sharey=True)
    ends = [end for bars in panels.values() for bar in bars for end in _ends(bar)]
    low, high = min(1.0, *ends), max(1.0, *ends)
    room = (high / low) ** 0.04
    for axis, (meter, bars) in zip(axes.flat, panels.items(), strict=True):
        for place, bar in enumerate(bars):
            _draw(axis, place, bar)
        logarithmic(axis, "x", low / room, high * room ** (7 if width == "column" else 6), most=6)
        axis.axvline(1, color="black", linewidth=0.8)
        axis.set_title(f"{short(meter)}, times the baseline")
    for axis in axes.flat:
        rows_named(axis, labels, width)
        for text, bar in zip(axis.get_yticklabels(), bars, strict=False):  # an inner panel has no labels
            if bar.label.startswith("× ") and bar.speedup is None:
                text.set_color(QUIET)
    title(figure, comparison, "95 % intervals, of all rows together; grey the noise floor")
    return figure


def _ends(bar: Bar) -> list[float]:
    """What of a bar the axis must hold; an interval of too few samples may leave it."""
    one = bar.speedup
    if one is None:
        return []
    if one.low is None or one.high is None or one.high > 100 * one.value:
        return [one.value]
    return [one.low, one.high]


def _draw(axis: Axes, place: int, bar: Bar) -> None:
    if bar.speedup is None:
        return
    if bar.floor:
        noise_floor(axis, place, 1.0, bar.floor)
    value, (*_, end) = bar.speedup.value, _ends(bar)
    look: dict[str, Any] = {"color": "white", "hatch": "/////"} if bar.is_noise else {"color": OTHER}
    axis.barh(place, value - 1, left=1, height=0.55, edgecolor=OTHER, linewidth=0.6, zorder=2, **look)
    if bar.speedup.low is not None and bar.speedup.high is not None:
        axis.hlines(place, bar.speedup.low, bar.speedup.high, color="black", linewidth=1.2, zorder=3)
    told = rounding.ratio(bar.speedup, bar.floor or 0.0).partition(" [")[0] + " noise" * bar.is_noise
    where = (max(1.0, value, end), place)
    text = axis.annotate(told, where, xytext=(3, 0), textcoords="offset points", va="center", fontsize=6.5)
    text.set_color(QUIET if bar.is_noise else "black")
