"""How fast each row is beside its baseline and beside what the machine could reach, and what memory it takes."""

from __future__ import annotations

from collections.abc import Sequence

from acmix_bench.analysis.best import leading_rows
from acmix_bench.analysis.compare import Comparison
from acmix_bench.errors import a_few
from acmix_bench.report import rounding
from acmix_bench.report.table.caption import conditions_of, ties_of
from acmix_bench.report.table.grid import Table
from acmix_bench.report.table.on_gpu import as_timed_note, gpu_notes
from acmix_bench.spec.meter import short


def speed_table(comparison: Comparison) -> Table:
    """Speed-up over the baseline, efficiency beside a matrix product, peak memory, and the time to compile."""
    columns: list[tuple[str, Sequence[str]]] = []
    best, ranking = set[tuple[int, int]](), dict[str, list[list[str]]]()
    for meter in comparison.speed_meters:
        ours = [line.timings.get(meter) for line in comparison.lines]
        if not any(ours):
            continue
        speedups = [rounding.ratio(one.speedup, one.noise_floor or 0.0) if one else "" for one in ours]
        columns.append((f"{short(meter)}\n× baseline", speedups))
        ranking[columns[-1][0]] = leading_rows(comparison, meter)
        first = {label for label, *tied in ranking[columns[-1][0]] if not tied}
        best |= {(row, len(columns)) for row, line in enumerate(comparison.lines) if line.row.label in first}
        columns.append(("peak\nMiB", [rounding.mebibytes(one.peak_bytes) if one else "" for one in ours]))
        if any(one and one.efficiency for one in ours):
            efficiencies = [rounding.whole_percent(one.efficiency) if one else "" for one in ours]
            columns.append(("\nefficiency", efficiencies))
    compiled = [
        max((timing.first_seconds for timing in line.timings.values()), default=None)
        if line.row.variant.runs.compiles
        else None
        for line in comparison.lines
    ]
    if any(compiled):
        columns.append(("compile\ns", [rounding.seconds(seconds) for seconds in compiled]))
    labels = [line.row.label for line in comparison.lines]
    return Table(
        title="Speed and memory",
        header=["variant", *(title for title, _ in columns)],
        rows=[[cell or "-" for cell in row] for row in zip(labels, *(cells for _, cells in columns), strict=True)],
        notes=[*speed_notes(comparison), *gpu_notes(comparison)],
        best=frozenset(best),
        ties=ties_of(ranking),
        conditions=conditions_of(comparison, comparison.speed_meters),
    )


def speed_notes(comparison: Comparison) -> list[str]:
    """What the ratios, the peak and the efficiency are, and what can be told at all."""
    notes = [
        "× baseline: the speed-up, as a ratio of throughput to the first row's of the same case (above 1 is faster); "
        "the intervals hold together at 95 %, and 'noise' is one that comes closer to 1 than the noise floor. Peak: "
        "memory that torch allocates for a batch beyond the model and its input.",
        *_noise_floor(comparison),
        *halved(comparison),
    ]
    if agreed := [line.parity for line in comparison.lines if line.parity is not None and not line.withheld]:
        notes.append(
            f"Checked before timing: rows that are another way to compute the same function ({len(agreed)}) agree with "
            f"it forward and backward in float64 (largest relative difference {max(agreed):.0e})."
        )
    notes += as_timed_note(comparison)
    if any(timing.efficiency for line in comparison.lines for timing in line.timings.values()):
        notes.append(
            "Efficiency: throughput over that of one dense matrix product with as many multiply-adds (training: three "
            "times as many), in the faster of torch's two ways to it. A convolution may come out above 100 %."
        )
    if any(line.row.variant.runs.compiles for line in comparison.lines if line.timings):
        notes.append("Compile: the longest first step of a process; the next processes find the compiled code on disk.")
    return notes


def _noise_floor(comparison: Comparison) -> list[str]:
    """What two copies of the same thing differ by: nothing smaller can be told."""
    floors = []
    for meter in comparison.speed_meters:
        timings = [line.timings[meter] for line in comparison.lines if meter in line.timings]
        if ours := [timing.noise_floor for timing in timings if timing.noise_floor is not None]:
            floors.append(f"{short(meter)} {rounding.fine_percent(max(ours))}")
    return [f"Noise floor, from the control, a second copy of a first row: {', '.join(floors)}."] if floors else []


def halved(comparison: Comparison) -> list[str]:
    """Where a batch had to be smaller: at which rows memory ran out, and which were measured with fewer images."""
    wanted = comparison.run.plan.experiment.protocol.batch
    found: dict[tuple[str, int, tuple[str, ...]], list[str]] = {}
    for line in comparison.lines:
        for meter, timing in line.timings.items():
            if meter in comparison.speed_meters and timing.batch != wanted:
                found.setdefault((short(meter), timing.batch, timing.halved_by), []).append(line.row.label)
    return [
        f"{meter}: memory ran out at batch {wanted}{' in ' * bool(rows)}{a_few(rows)}; measured at batch {batch} were "
        f"{a_few(labels)}."
        for (meter, batch, rows), labels in found.items()
    ]
