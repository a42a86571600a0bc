"""What a run is for: cost, throughput and accuracy of every row, each beside its baseline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from acmix_bench import backbones, data, meters
from acmix_bench.analysis.best import leading_rows
from acmix_bench.analysis.compare import Comparison, scores_of
from acmix_bench.report import rounding
from acmix_bench.report.table.caption import conditions_of, reasons_of, ties_of
from acmix_bench.report.table.columns import VARIANT, Column, chosen, count, difference, rate, score
from acmix_bench.report.table.grid import Table
from acmix_bench.report.table.on_gpu import gpu_notes, setting_of
from acmix_bench.report.table.published import published_notes
from acmix_bench.report.table.speed import halved, speed_notes
from acmix_bench.spec.experiment import Case
from acmix_bench.spec.meter import short


def main_table(comparison: Comparison, told: Sequence[str] = (), *, where: str = "columns") -> Table:
    """A column for each number that the run's meters show: counts, rates, scores and their differences.

    Args:
        told: the columns that somebody chose in place of these, each NAME or NAME=title.
        where: what an error calls that choice.

    Raises:
        UserError: for a column that is not known.
    """
    run, experiment = comparison.run, comparison.run.plan.experiment
    columns = list(chosen(experiment, told, where=where).values()) if told else _usual(comparison)
    cells = rounding.several(len(run.records), "cell", "cells")
    took = rounding.minutes(sum(record.seconds for record in run.records))
    ranking = {meter: leading_rows(comparison, meter) for meter in {column.meter for column in columns if column.ranks}}
    best = {meter: {first for first, *tied in rows if not tied} for meter, rows in ranking.items()}
    return Table(
        title=f"{experiment.name}: {experiment.question}",
        header=[column.title for column in columns],
        rows=[[column.show(line) or "-" for column in columns] for line in comparison.lines],
        problems=[f"{line.row.label}: {problem}" for line in comparison.lines for problem in line.problems],
        best=frozenset(
            (row, number)
            for row, line in enumerate(comparison.lines)
            for number, column in enumerate(columns)
            if column.ranks and line.row.label in best[column.meter]
        ),
        ties=ties_of({column.title: ranking[column.meter] for column in columns if column.ranks}),
        conditions=conditions_of(comparison, [column.meter for column in columns]),
        reasons=reasons_of(comparison),
        notes=[
            *dict.fromkeys([*_reading(comparison, columns), *halved(comparison)]),
            *_missing(comparison),
            f"Measured on {run.plan.environment}, {cells} in {took}.",
            *_merged(comparison),
        ],
    )


def _usual(comparison: Comparison) -> list[Column]:
    """What stands in the table where nobody chooses; no score of masks where boxes alone are predicted."""
    several, experiment = len(comparison.lines) > 1, comparison.run.plan.experiment
    scored = {key for line in comparison.lines for key in line.scores}
    columns = [VARIANT]
    for name in experiment.meters:
        meter = meters.find(name)
        if meter.is_speed:
            columns.append(rate(name))
        elif meter.repeats == "seeds" and meter.metrics:
            of_meter = scores_of(name)
            there = scored & set(of_meter) or set(of_meter)
            for key, metric in of_meter.items():
                if key not in there:
                    continue
                columns.append(score(key, metric, experiment.protocol.seeds, name))
                if several:
                    columns.append(difference(key, metric, experiment.protocol.seeds, name))
        else:
            columns += [count(name, metric) for metric in meter.metrics if metric.title]
    return columns


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
    conditions = conditions_of(comparison, [name for name in comparison.run.plan.experiment.meters if scores_of(name)])
    note = "The factors of attention and of convolution after training, layer by layer, the mean over seeds."
    return Table(title="Learned mix", header=header, rows=rows, notes=[note], conditions=conditions)


def _reading(comparison: Comparison, columns: Sequence[Column]) -> list[str]:
    """How to read these columns, in the run's own numbers."""
    experiment, shown = comparison.run.plan.experiment, {column.meter for column in columns}
    protocol, notes = experiment.protocol, []
    if comparison.lines[0].row.label == "baseline":
        notes.append(
            f"baseline: the variant {experiment.baseline}; the other rows are named by what they change of it."
        )
    if "macs" in shown:
        cases = [line.row.case for line in sorted(comparison.lines, key=lambda line: line.row.case.image_size)]
        inputs = " or ".join(dict.fromkeys(_input(case) for case in cases))
        notes.append(f"MACs: multiply-adds of one {inputs} input, which the papers call FLOPs.")
    if shown & set(comparison.speed_meters):
        notes.append(
            f"img/s: {rounding.several(protocol.processes, 'process', 'processes')}, in each of which all rows are "
            f"timed alternately in random order; batch {protocol.batch}, {protocol.layout}, {protocol.dtype}, "
            f"{rounding.several(protocol.threads or 0, 'thread', 'threads')}, allocator "
            f"{protocol.allocator}{setting_of(comparison)}; median [95 % interval].{_why_it_stopped(comparison)}"
        )
        notes += gpu_notes(comparison)
    for name in (name for name in experiment.meters if name in shown):
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
    if any(column.notes == "speed" for column in columns):
        notes += speed_notes(comparison)
    if any(column.notes == "published" for column in columns):
        notes += published_notes(comparison)
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
