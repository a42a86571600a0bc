"""Raw samples as strips: for who doubts an interval.

A strip is a row of a run in one meter. Each process or seed is a dot, the blocks that a process timed are small ones
beside it, and the bar is the interval that the tables show. All strips of a meter have one scale: percent of the row's
own estimate, or for shares percentage points, so that their spreads can be compared at a glance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from acmix_bench import meters
from acmix_bench.analysis.compare import Comparison, Line, by_seed, images_per_second, score_of
from acmix_bench.report import rounding
from acmix_bench.runs.record import Record
from acmix_bench.spec.meter import short
from acmix_bench.stats import Estimate

MOST_STRIPS = 100  # of a meter
MOST_BLOCKS = 20_000  # small dots on a page; of more, every second one, third, ...
WIDTH = 1000  # units that a strip's small dots are placed in
LANE = 4  # pixels of height that a process or seed takes, where a strip has few
LOWEST, HIGHEST = 24, 64  # a strip's height


@dataclass(frozen=True, kw_only=True)
class Dot:
    """A process or a seed: its place in percent of the strip's width and in pixels of its height, and what it says."""

    x: float
    y: float
    told: str


@dataclass(frozen=True, kw_only=True)
class Strip:
    """A row's samples. `low` and `high` are the interval's ends in percent of the width; `blocks` is an SVG path."""

    label: str
    shown: str
    told: str
    height: int
    dots: Sequence[Dot]
    low: float | None
    high: float | None
    blocks: str


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A meter's strips on one scale, which goes as far as `reach` to either side; `notes` say what is not there."""

    title: str
    reach: str
    strips: Sequence[Strip]
    notes: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class _Samples:
    """What a strip is drawn from: values by process or seed, and each process's blocks, as shares off the estimate."""

    line: Line
    estimate: Estimate
    shown: str
    values: Mapping[int, float]
    blocks: Mapping[int, Sequence[float]]


def charts(comparison: Comparison) -> list[Chart]:
    """A chart for each meter of the run that repeats and has a number."""
    names = comparison.run.plan.experiment.meters
    records: dict[tuple[str, str], list[Record]] = {}
    for record in comparison.run.records:
        if record.status == "ok":
            records.setdefault((record.cell.row.label, record.cell.meter), []).append(record)
    found = {}
    for name in names:
        lines = [(line, records.get((line.row.label, name), [])) for line in comparison.lines]
        of_meter = _timed(lines, name) if meters.find(name).is_speed else _scored(lines, name)
        if of_meter:
            found[name] = of_meter
    shown = [samples for of_meter in found.values() for samples in of_meter[:MOST_STRIPS]]
    blocks = sum(len(some) for samples in shown for some in samples.blocks.values())
    step = -(-blocks // MOST_BLOCKS) or 1
    return [_chart(name, of_meter, step) for name, of_meter in found.items()]


def _timed(lines: Sequence[tuple[Line, list[Record]]], name: str) -> list[_Samples]:
    return [
        _Samples(
            line=line,
            estimate=line.timings[name].rate,
            shown=f"{rounding.rate(line.timings[name].rate)} img/s",
            values={record.cell.repeat: images_per_second(record) for record in records if record.values["seconds"]},
            blocks={
                record.cell.repeat: [record.values["batch"] / seconds for seconds in record.values["seconds"]]
                for record in records
            },
        )
        for line, records in lines
        if name in line.timings
    ]


def _scored(lines: Sequence[tuple[Line, list[Record]]], name: str) -> list[_Samples]:
    metric = score_of(name)
    if metric is None:
        return []
    return [
        _Samples(
            line=line,
            estimate=line.scores[name].mean,
            shown=rounding.score(line.scores[name].mean, metric.unit) + " %" * (metric.unit == "percent"),
            values=by_seed(records, name),
            blocks={},
        )
        for line, records in lines
        if name in line.scores
    ]


def _chart(name: str, found: Sequence[_Samples], step: int) -> Chart:
    timed, metric = meters.find(name).is_speed, score_of(name)
    in_points = metric is not None and metric.unit == "percent"
    ends = [
        abs(_off(samples, value, in_points))
        for samples in found
        for value in (*samples.values.values(), samples.estimate.low, samples.estimate.high)
        if value is not None
    ]
    reach = 1.1 * max(ends) or 0.01
    strips = [_strip(samples, reach, step, timed=timed, in_points=in_points) for samples in found[:MOST_STRIPS]]
    off = [abs(_off(s, v, in_points)) for s in found[:MOST_STRIPS] for some in s.blocks.values() for v in some]
    beyond = sum(value > reach for value in off)
    notes = []
    if len(found) > MOST_STRIPS:
        notes.append(f"The first {MOST_STRIPS} of {len(found):,} rows.")
    if step > 1:
        notes.append(f"Of the blocks, one of {step} is shown.")
    if beyond:
        notes.append(f"{beyond:,} of {len(off):,} blocks lie beyond the edges.")
    title = f"{short(name)}, images a second" if timed else (metric.title if metric and metric.title else short(name))
    unit = "percentage points" if in_points else "%"
    return Chart(title=title, reach=f"{rounding.significant(100 * reach, 2)} {unit}", strips=strips, notes=notes)


def _off(samples: _Samples, value: float, in_points: bool) -> float:
    """How far a value lies from the row's estimate, as a share of it, or of one where they are shares themselves."""
    centre = samples.estimate.value
    return value - centre if in_points or not centre else value / centre - 1


def _strip(samples: _Samples, reach: float, step: int, *, timed: bool, in_points: bool) -> Strip:
    repeats = sorted(samples.values)
    height = min(HIGHEST, max(LOWEST, LANE * len(repeats)))
    what, unit = ("process", "img/s") if timed else ("seed", "%" if in_points else "")

    def place(value: float) -> float:
        return 50 + 50 * _off(samples, value, in_points) / reach

    dots, path, number = [], [], 0
    for lane, repeat in enumerate(repeats):
        y, value = height * (lane + 0.5) / len(repeats), samples.values[repeat]
        blocks = samples.blocks.get(repeat, ())
        counted = f", {len(blocks)} blocks" if len(blocks) > 1 else ""
        shown = rounding.significant(100 * value if in_points else value, 4)
        dots.append(Dot(x=round(place(value), 2), y=round(y, 1), told=f"{what} {repeat}: {shown} {unit}{counted}"))
        for block in blocks:
            number += 1
            if number % step == 0 and 0 <= (x := place(block)) <= 100:
                path.append(f"M{x * WIDTH / 100:.0f} {y:.0f}h0")
    low, high = samples.estimate.low, samples.estimate.high
    values = [samples.values[repeat] for repeat in repeats]
    least, middle, most = (
        rounding.significant(100 * value if in_points else value, 4)
        for value in (min(values), median(values), max(values))
    )
    count = rounding.several(len(values), what, "processes" if timed else "seeds")
    return Strip(
        label=samples.line.row.label,
        shown=samples.shown,
        told=f"{samples.line.row.label}: {count} from {least} to {most} {unit}, the middle one {middle}".strip(),
        height=height,
        dots=dots,
        low=None if low is None else round(place(low), 2),
        high=None if high is None else round(place(high), 2),
        blocks="".join(path),
    )
