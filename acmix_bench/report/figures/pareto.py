"""Accuracy over multiply-adds and over measured latency, with the Pareto front: no other row is as cheap and better.

Where a paper has printed the top-1 of a row's model, that stands there too, hollow; models of one family are joined, as
in the ACmix paper's figure 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from acmix_bench.analysis.compare import Comparison, scores_of
from acmix_bench.analysis.published import figures_of
from acmix_bench.errors import UserError
from acmix_bench.report.figures.placing import place
from acmix_bench.report.figures.style import (
    BAND,
    COLOURS,
    LINES,
    MARKERS,
    legend,
    logarithmic,
    named,
    plain,
    sheet,
    title,
)
from acmix_bench.spec.meter import short
from acmix_bench.stats import Estimate

WIDE = 4  # times the least cost that the most may be on an axis that is not logarithmic
MACS = "multiply-adds (the papers' FLOPs)"


@dataclass(frozen=True, kw_only=True)
class Point:
    """A row's accuracy in percent, by what it was measured or printed, and its costs by what they are.

    `family` and `size` are those of a published model, whose points are joined.
    """

    label: str
    accuracy: Estimate
    published: bool
    costs: dict[str, Estimate]
    family: str = ""
    size: str = ""


def read(comparison: Comparison) -> list[Point]:
    """All points, those that were measured first."""
    score = _score(comparison)
    measured, published = [], []
    for line in comparison.lines:
        costs = {}
        if (macs := line.count("macs", "macs")) is not None:
            costs[MACS] = _exact(macs)
        for meter, timing in line.timings.items():
            costs[f"{short(meter)}, ms an image at batch {timing.batch}"] = _milliseconds(timing.rate)
        if not costs:
            continue
        if score in line.scores:
            accuracy = _scaled(line.scores[score].mean, 100)
            measured.append(Point(label=line.row.label, accuracy=accuracy, published=False, costs=costs))
        known = figures_of(line.row).get("published")
        if known and known.top1 is not None:
            family, size = _family_and_size(known.model)
            accuracy = _exact(known.top1)
            printed = Point(
                label=line.row.label, accuracy=accuracy, published=True, costs=costs, family=family, size=size
            )
            published.append(printed)
    if not measured and not published:
        raise UserError("no row has an accuracy, measured or published, beside multiply-adds or a timing")
    if len({(one.family, one.size) for one in published}) < len(published):  # one model, run in several ways
        published = [
            Point(label=one.label, accuracy=one.accuracy, published=True, costs=one.costs) for one in published
        ]
    return measured + published


def _score(comparison: Comparison) -> str:
    """The first score in percent that the run has; accuracy where it has none."""
    for name in comparison.run.plan.experiment.meters:
        for key, metric in scores_of(name).items():
            if metric.unit == "percent" and any(key in line.scores for line in comparison.lines):
                return key
    return "accuracy"


def _family_and_size(model: str) -> tuple[str, str]:
    """ResNet-ACmix and 50, of ResNet-50-ACmix."""
    words = model.split("-")
    size = next((word for word in words if word.isdigit() or len(word) == 1), "")
    return "-".join(word for word in words if word != size), size


def _exact(value: float) -> Estimate:
    return Estimate(value=value, low=None, high=None, samples=1)


def _scaled(one: Estimate, by: float) -> Estimate:
    low, high = (None if end is None else by * end for end in (one.low, one.high))
    return Estimate(value=by * one.value, low=low, high=high, samples=one.samples)


def _milliseconds(rate: Estimate) -> Estimate:
    low, high = (None if end is None else 1000 / end for end in (rate.high, rate.low))
    return Estimate(value=1000 / rate.value, low=low, high=high, samples=rate.samples)


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of (cost, accuracy) those that none of as little cost is better than, the cheapest first."""
    found: list[tuple[float, float]] = []
    for cost, accuracy in sorted(points, key=lambda point: (point[0], -point[1])):
        if not found or accuracy > found[-1][1]:
            found.append((cost, accuracy))
    return found


def draw(comparison: Comparison, points: list[Point], width: str) -> Figure:
    """A panel a cost, at a column's width one below the other."""
    costs = list(dict.fromkeys(cost for point in points for cost in point.costs))
    columns = 1 if width == "column" else min(3, len(costs))
    rows = -(-len(costs) // columns)
    figure, axes = sheet(width, rows * (2.6 if width == "column" else 3.0), rows, columns, sharey=True)
    for axis in axes.flat[len(costs) :]:
        axis.set_axis_off()
    families = list(dict.fromkeys(point.family for point in points if point.family))
    looks = {family: _look(family, families) for family in families}
    hollow = any(not point.family for point in points if point.published)
    handles: list[Any] = [Line2D([], [], color=BAND, linewidth=2.5)]
    labels = ["Pareto front"]
    handles += [Line2D([], [], **look) for look in looks.values()]
    labels += families
    if hollow:
        handles.append(Line2D([], [], color=COLOURS[0], marker="s", mfc="white", linestyle=""))
        labels.append("top-1 as published")
    legend(figure, handles, labels)
    title(figure, comparison, _what(points), machine=len(costs) > 1 or "ms" in costs[0])
    for axis, cost in zip(axes.flat, costs, strict=False):
        _draw(axis, [point for point in points if cost in point.costs], cost, looks)
        axis.set_xlabel(cost)
        axis.tick_params(labelleft=True)
    for axis in axes[:, 0]:
        axis.set_ylabel(_title_of(comparison, points))
    for axis, cost in zip(axes.flat, costs, strict=False):
        _name(axis, [point for point in points if cost in point.costs], cost, looks, width)
    return figure


def _what(points: Sequence[Point]) -> str:
    intervals = any(point.accuracy.low is not None for point in points)
    return "accuracy over cost" + ", 95 % intervals" * intervals


def _title_of(comparison: Comparison, points: Sequence[Point]) -> str:
    if all(point.published for point in points):
        return "ImageNet top-1, %, as published"
    key = _score(comparison)
    metrics = {key: metric for name in comparison.run.plan.experiment.meters for key, metric in scores_of(name).items()}
    return f"{' '.join((metrics[key].title or key).split())}, %"


def _look(family: str, families: Sequence[str]) -> dict[str, Any]:
    """A colour and marker a backbone; ACmix's are filled and on a whole line, the plain one's hollow and dashed."""
    stems = list(dict.fromkeys(_stem(name) for name in families))
    stem = stems.index(_stem(family))
    way = 0 if family.endswith("-ACmix") else 1 if family in stems else 3
    colour = COLOURS[stem % 7]
    return {"color": colour, "marker": MARKERS[stem % 7], "mfc": "white" if way else colour, "linestyle": LINES[way]}


def _stem(family: str) -> str:
    """ResNet, of ResNet-ACmix and of SASA-ResNet."""
    return family.removeprefix("SASA-").partition("-")[0]


def _xy(point: Point, cost: str) -> tuple[float, float]:
    return point.costs[cost].value, point.accuracy.value


def _draw(axis: Axes, points: Sequence[Point], cost: str, looks: dict[str, dict[str, Any]]) -> None:
    for family, look in looks.items():
        joined = sorted(_xy(point, cost) for point in points if point.family == family)
        axis.plot(*zip(*joined, strict=True), **look)
    alone = [point for point in points if not point.family]
    for number, point in enumerate(alone):
        x, y, colour = point.costs[cost], point.accuracy, COLOURS[0]
        if x.low is not None and x.high is not None:
            axis.plot([x.low, x.high], [y.value] * 2, color=colour, linewidth=0.7, alpha=0.6)
        if y.low is not None and y.high is not None:
            axis.plot([x.value] * 2, [y.low, y.high], color=colour, linewidth=0.7, alpha=0.6)
        marker, face = ("s", "white") if point.published else ("o", colour)
        axis.plot(x.value, y.value, marker, color=colour, mfc=face, zorder=3 + number / 1000)
    values = [point.costs[cost].value for point in points]
    axis.margins(0.12, 0.12)
    if min(values) > 0 and max(values) > WIDE * min(values):
        logarithmic(axis, "x", min(values) / 1.25, max(values) * 1.25)
    else:
        axis.xaxis.set_major_locator(MaxNLocator(5))
    if cost == MACS:
        axis.xaxis.set_major_formatter(FuncFormatter(lambda number, _: plain(number)))
    for source in {point.published for point in points}:
        corners = _stairs(axis, front([_xy(point, cost) for point in points if point.published == source]))
        axis.plot(*zip(*corners, strict=True), color=BAND, linewidth=2.5, zorder=1)


def _stairs(axis: Axes, best: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The front as a line: below and left of it there is no point. It goes on to the edges of the panel."""
    (_, right), (bottom, _) = axis.get_xlim(), axis.get_ylim()
    corners = [(best[0][0], bottom)]
    for (x, y), (until, _) in zip(best, [*best[1:], (right, 0)], strict=True):
        corners += [(x, y), (until, y)]
    axis.set(xlim=axis.get_xlim(), ylim=axis.get_ylim())
    return corners


def _name(axis: Axes, points: Sequence[Point], cost: str, looks: dict[str, dict[str, Any]], width: str) -> None:
    lines = [np.asarray(line.get_xydata()) for line in axis.lines]
    most = 18 if width == "column" else 26
    names = [point.size if point.family else named(point.label, most) for point in points]
    colours = [_dark(looks[point.family]["color"]) if point.family else "black" for point in points]
    found = [
        (*_xy(point, cost), name, colour) for point, name, colour in zip(points, names, colours, strict=True) if name
    ]
    place(axis, found, [line for line in lines if len(line) > 1])


def _dark(colour: str) -> tuple[float, float, float]:
    """A colour in which small letters can be read."""
    red, green, blue = to_rgb(colour)
    return 0.65 * red, 0.65 * green, 0.65 * blue
