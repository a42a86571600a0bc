"""Every raw sample, for who doubts an interval: a strip a row, in it a line a process; of scores a dot a seed.

Times are shown over the row's median, so that rows of any speed can be read on one axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from acmix_bench.analysis.compare import Comparison, baselines_of, by_seed, score_of
from acmix_bench.errors import UserError
from acmix_bench.report.figures.style import BASELINE, OTHER, QUIET, logarithmic, rows_named, sheet, title
from acmix_bench.spec.meter import short

MOST_DOTS = 3000  # of a panel, above which they are an image in a file of vectors
SHOWN = 0.995  # of all samples lie on the axis; how many do not is said


@dataclass(frozen=True, kw_only=True)
class Strip:
    """A row's samples: by process milliseconds a batch, or by seed one score each in percent."""

    label: str
    is_baseline: bool
    samples: list[list[float]]


def read(comparison: Comparison) -> dict[str, list[Strip]]:
    """The strips by what was measured."""
    found: dict[str, list[Strip]] = {}
    firsts = baselines_of([line.row for line in comparison.lines])
    for name in comparison.run.plan.experiment.meters:
        strips = []
        for line in comparison.lines:
            records = [r for r in comparison.run.records if r.cell.row.label == line.row.label and r.status == "ok"]
            records = [record for record in records if record.cell.meter == name]
            if name in comparison.speed_meters:
                timed = [record.values["seconds"] for record in records] if name in line.timings else []
                samples = [[1000 * second for second in seconds] for seconds in timed if seconds]
            else:
                metric = score_of(name)
                factor = 100 if metric and metric.unit == "percent" else 1
                samples = [[factor * score] for score in by_seed(records, name).values()]
            strips.append(Strip(label=line.row.label, is_baseline=line.row == firsts[line.row.case], samples=samples))
        if any(strip.samples for strip in strips):
            found[name] = strips
    if not found:
        raise UserError("no timing and no score was measured")
    return found


def draw(comparison: Comparison, panels: dict[str, list[Strip]], width: str) -> Figure:
    """A panel a meter, at a column's width one below the other."""
    rows, columns = (len(panels), 1) if width == "column" else (1, len(panels))
    labels = [line.row.label for line in comparison.lines]
    figure, axes = sheet(width, rows * (len(labels) * 0.3 + 0.42) + 0.1, rows, columns, sharey=True)
    for axis, (name, strips) in zip(axes.flat, panels.items(), strict=True):
        if name in comparison.speed_meters:
            _draw_times(axis, strips)
            axis.set_title(f"{short(name)}, time over the row's median")
        else:
            metric = score_of(name)
            assert metric is not None
            _draw_scores(axis, strips)
            axis.set_title(" ".join((metric.title or short(name)).split()) + ", %" * (metric.unit == "percent"))
    for axis in axes.flat:
        rows_named(axis, labels, width)
    title(figure, comparison, "raw samples, a line a process; a tick is its median, a dot of a score a seed")
    return figure


def _draw_times(axis: Axes, strips: list[Strip]) -> None:
    everything = []
    dots = sum(len(process) for strip in strips for process in strip.samples)
    for place, strip in enumerate(strips):
        if not strip.samples:
            continue
        middle = median(map(median, strip.samples))
        heights = np.linspace(-0.36, 0.36, len(strip.samples) + 2)[1:-1]
        for process, height in zip(strip.samples, heights, strict=True):
            relative = np.array(process) / middle
            everything.append(relative)
            colour = BASELINE if strip.is_baseline else OTHER
            axis.plot(
                relative,
                np.full(len(relative), place + height),
                linestyle="",
                marker=".",
                markersize=2.2,
                markeredgewidth=0,
                color=colour,
                alpha=0.6,
                rasterized=dots > MOST_DOTS,
            )
            tall = 0.34 / (len(strip.samples) + 1)
            at = float(np.median(relative))
            axis.vlines(at, place + height - tall, place + height + tall, color="black", linewidth=0.8)
    values = np.concatenate(everything)
    tail = (1 - SHOWN) / 2
    low, high = np.quantile(values, tail), np.quantile(values, 1 - tail)
    room = max((high / low) ** 0.06, 1.005)
    logarithmic(axis, "x", low / room, high * room, most=5)
    outside = int(np.sum((values < low / room) | (values > high * room)))
    if outside:
        axis.set_xlabel(f"{outside} of {len(values)} samples lie beyond", color=QUIET)


def _draw_scores(axis: Axes, strips: list[Strip]) -> None:
    for place, strip in enumerate(strips):
        scores = [score for seed in strip.samples for score in seed]
        heights = np.linspace(-0.3, 0.3, len(scores) + 2)[1:-1]
        axis.plot(
            scores,
            place + heights,
            linestyle="",
            marker="o",
            markersize=2.4,
            color=BASELINE if strip.is_baseline else OTHER,
        )
