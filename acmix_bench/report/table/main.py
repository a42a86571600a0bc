"""What a run is for: cost, throughput and accuracy of every row, each beside its baseline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from acmix_bench import backbones, data, meters
from acmix_bench.analysis.best import best_rows
from acmix_bench.analysis.compare import Comparison, Line, scores_of
from acmix_bench.report import rounding
from acmix_bench.report.table.cost import macs
from acmix_bench.report.table.grid import Table
from acmix_bench.spec.experiment import Case
from acmix_bench.spec.meter import Metric, short


@dataclass(frozen=True)
class Column:
    """A column: its header, what a row shows in it, and for a timing or a score its meter, of which a row is best."""

    title: str
    show: Callable[[Line], str]
    meter: str = ""


def main_table(comparison: Comparison) -> Table:
    """A column for each number that the run's meters show: counts, rates, scores and their differences."""
    run, several = comparison.run, len(comparison.lines) > 1
    experiment = run.plan.experiment
    columns: list[Column] = []
    for name in experiment.meters:
        meter = meters.find(name)
        if meter.is_speed:
            columns.append(_rate(name))
        elif meter.repeats == "seeds" and meter.metrics:
            for key, metric in scores_of(name).items():
                columns.append(_score(key, metric, experiment.protocol.seeds, name))
                if several:
                    columns.append(_difference(key, metric, experiment.protocol.seeds))
        else:
            columns += [_count(name, metric) for metric in meter.metrics if metric.title]
    cells = rounding.several(len(run.records), "cell", "cells")
    took = rounding.minutes(sum(record.seconds for record in run.records))
    best = {column.meter: best_rows(comparison, column.meter) for column in columns if column.meter}
    return Table(
        title=f"{experiment.name}: {experiment.question}",
        header=["variant", *(column.title for column in columns)],
        rows=[[line.row.label, *(column.show(line) or "-" for column in columns)] for line in comparison.lines],
        problems=[f"{line.row.label}: {problem}" for line in comparison.lines for problem in line.problems],
        best=frozenset(
            (row, number)
            for row, line in enumerate(comparison.lines)
            for number, column in enumerate(columns, 1)
            if line.row.label in best.get(column.meter, ())
        ),
        notes=[
            *_reading(comparison),
            *_missing(comparison),
            f"Measured on {run.plan.environment}, {cells} in {took}.",
            *_merged(comparison),
        ],
    )


def _merged(comparison: Comparison) -> list[str]:
    """What a run is made of, where it was made of several, or on several machines."""
    plan, records = comparison.run.plan, comparison.run.records
    found = dict.fromkeys(record.environment for record in records if record.environment != plan.environment)
    elsewhere = "".join(f"; on {environment}" for environment in found)
    pooled = f"Counts and scores are also from elsewhere{elsewhere}." * bool(found)
    merged = f"Merged from {', '.join(plan.merged)}." * (len(plan.merged) > 1)
    return [told] if (told := f"{merged} {pooled}".strip()) else []


def mix_table(comparison: Comparison) -> Table:
    """The learned factors of the two paths in every layer that mixes."""
    lines = [line for line in comparison.lines if line.mixing_weights]
    layers = max(len(line.mixing_weights) for line in lines)
    rows = [[line.row.label, *(f"{a:.2f} {b:.2f}" for a, b in line.mixing_weights)] for line in lines]
    header = ["variant", *(f"layer {number}" for number in range(1, layers + 1))]
    note = "The factors of attention and of convolution after training, layer by layer, the mean over seeds."
    return Table(title="Learned mix", header=header, rows=rows, notes=[note])


def _count(meter: str, metric: Metric) -> Column:
    """A number without noise."""
    if meter == "macs" and metric.key == "macs":
        return Column(metric.title, macs)

    def show(line: Line) -> str:
        numbers = metric.numbers(line.counts.get(meter, {})).values()
        return rounding.number(sum(numbers), metric.unit) if numbers else line.failed(meter) or ""

    return Column(metric.title, show)


def _rate(meter: str) -> Column:
    """Images a second with their interval."""

    def show(line: Line) -> str:
        timing = line.timings.get(meter)
        return rounding.rate(timing.rate) if timing else line.failed(meter) or ""

    return Column(f"{short(meter)}\nimg/s", show, meter)


def _score(key: str, metric: Metric, seeds: int, meter: str) -> Column:
    """A score of a meter, and how many of the seeds it stands for where some failed."""

    def show(line: Line) -> str:
        score = line.scores.get(key)
        if score is None:
            return line.failed(meter) or ""
        some = "" if score.mean.samples == seeds else f" ({score.mean.samples} of {seeds} seeds)"
        return rounding.score(score.mean, metric.unit) + some

    title = metric.title or short(meter)
    return Column(f"{title} %" if metric.unit == "percent" else title, show, meter * (key == meter))


def _difference(key: str, metric: Metric, seeds: int) -> Column:
    """A score's difference to the baseline's."""

    def show(line: Line) -> str:
        score = line.scores.get(key)
        return rounding.difference(score.difference, seeds, metric.unit) if score else ""

    return Column(f"Δ {metric.title or short(key)}", show)


def _reading(comparison: Comparison) -> list[str]:
    """How to read the main table, in the run's own numbers."""
    experiment = comparison.run.plan.experiment
    protocol, notes = experiment.protocol, []
    if comparison.lines[0].row.label == "baseline":
        notes.append(
            f"baseline: the variant {experiment.baseline}; the other rows are named by what they change of it."
        )
    if "macs" in experiment.meters:
        cases = [line.row.case for line in sorted(comparison.lines, key=lambda line: line.row.case.image_size)]
        shown = " or ".join(dict.fromkeys(_input(case) for case in cases))
        notes.append(f"MACs: multiply-adds of one {shown} input, which the papers call FLOPs.")
    if comparison.speed_meters:
        notes.append(
            f"img/s: {rounding.several(protocol.processes, 'process', 'processes')}, in each of which all rows are "
            f"timed alternately in random order; batch {protocol.batch}, {protocol.layout}, {protocol.dtype}, "
            f"{rounding.several(protocol.threads or 0, 'thread', 'threads')}, allocator "
            f"{protocol.allocator}; median [95 % interval].{_why_it_stopped(comparison)}"
        )
    for name in experiment.meters:
        meter = meters.find(name)
        for metric in meter.metrics[:1] if meter.repeats == "seeds" else ():
            title, seeds = metric.title or short(name), rounding.several(protocol.seeds, "seed", "seeds")
            epochs = f"{rounding.several(protocol.epochs, 'epoch', 'epochs')}, " if "epochs" in meter.reads else ""
            on = f"{comparison.lines[0].row.case.data}, " if meter.reads_data else ""
            notes.append(f"{title}: {on}{epochs}{seeds}; mean, ± is half its 95 % interval.")
            if len(comparison.lines) > 1:
                points = (
                    "percentage points against the baseline" if metric.unit == "percent" else "against the baseline"
                )
                same = " The test images are always the same." if meter.reads_data else ""
                notes.append(
                    f"Δ {title}: {points}, paired by seed; the intervals of all rows hold together at 95 % over seeds, "
                    f"and 'noise' is one that holds 0.{same}"
                )
    return notes


def _input(case: Case) -> str:
    whole = backbones.is_whole_model(case.backbone)
    return "x".join(map(str, data.sizes_of(case.data, case.input_size)[0 if whole else 1 :]))


def _why_it_stopped(comparison: Comparison) -> str:
    """How many processes ended because the intervals were narrow, and how many because the time was up."""
    ends: Counter[str] = Counter()
    for meter in comparison.speed_meters:
        timed = {line.row.case: line.timings[meter] for line in comparison.lines if meter in line.timings}
        for timing in timed.values():
            ends.update(timing.stopped)
    protocol = comparison.run.plan.experiment.protocol
    told = (
        f" {ends['narrow']} of {ends.total()} processes ended with every ratio within ±{100 * protocol.precision:g} %, "
        f"the others after {protocol.seconds:g} s a row."
    )
    timings = [timing for line in comparison.lines for timing in line.timings.values()]
    cold = sum(timing.not_warm for timing in timings)
    if not cold:
        return told
    return f"{told} {cold} of {sum(t.rate.samples for t in timings)} warm-ups ended before three steps took alike."


def _missing(comparison: Comparison) -> list[str]:
    """How much of a run is not there yet."""
    missing = sum(line.missing for line in comparison.lines)
    if not missing:
        return []
    return [f"{missing} of {len(comparison.run.plan.cells)} cells are not measured; run it again to go on."]
