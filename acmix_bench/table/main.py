"""What a run is for: cost, throughput and accuracy of every row, each beside its baseline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from acmix_bench import rounding
from acmix_bench.compare import PASSES, Comparison, Line, Timing
from acmix_bench.published import figures_of, reasons_of
from acmix_bench.table.cost import macs
from acmix_bench.table.grid import Table


def main_table(comparison: Comparison) -> Table:
    """Cost, throughput and accuracy of every row."""
    plan = comparison.run.plan
    meters = plan.experiment.meters
    columns: list[tuple[str, str, Callable[[Line], str]]] = [
        ("params", "params", lambda line: rounding.count(line.exact.get("parameters")) or line.failed("params") or "-"),
        ("macs", "MACs\n(FLOPs)", macs),
        ("inference", "inference\nimg/s", lambda line: _rate(line, "inference")),
        ("training", "training\nimg/s", lambda line: _rate(line, "training")),
        ("accuracy", "top-1 %", lambda line: _top1(line, comparison)),
    ]
    if len(comparison.lines) > 1:
        columns.append(
            (
                "accuracy",
                "Δ top-1",
                lambda line: rounding.difference(line.accuracy_difference, plan.experiment.protocol.seeds) or "-",
            )
        )
    shown = [column for column in columns if column[0] in meters]
    rows = [[line.row.label, *(show(line) for _, _, show in shown)] for line in comparison.lines]
    return Table(
        title=f"{plan.experiment.name}: {plan.experiment.question}",
        header=["variant", *(title for _, title, _ in shown)],
        rows=rows,
        notes=[*_reading(comparison), *_problems(comparison), _where(comparison)],
    )


def speed_table(comparison: Comparison) -> Table:
    """Throughput as a ratio to the baseline and to a matrix product, peak memory, and the time to compile."""
    timings = {meter: [getattr(line, meter) for line in comparison.lines] for meter in PASSES}
    columns: list[tuple[str, Sequence[str]]] = []
    for meter, ours in timings.items():
        if not any(ours):
            continue
        shown = [(f"{meter}\n× baseline", [rounding.ratio(one.ratio, one.floor or 0.0) if one else "" for one in ours])]
        shown.append(("peak\nMiB", [rounding.mebibytes(one.peak_bytes) if one else "" for one in ours]))
        if any(one and one.share for one in ours):
            shown.append(("\nshare", [rounding.share(one.share) if one else "" for one in ours]))
        columns += shown
    compiled = [_compile_seconds(line) for line in comparison.lines]
    if any(compiled):
        columns.append(("compile\ns", [rounding.seconds(seconds) for seconds in compiled]))
    labels = [line.row.label for line in comparison.lines]
    rows = [[cell or "-" for cell in row] for row in zip(labels, *(cells for _, cells in columns), strict=True)]
    notes = [
        "Ratios of throughput to the first row's of the same case (above 1 is faster); the intervals hold together at "
        "95 %, and 'noise' is one that comes closer to 1 than the smallest difference that can be told. Peak: memory "
        "that torch allocates for a batch beyond the model and its input.",
        *_noise_floor(comparison),
    ]
    if agreed := [line.parity for line in comparison.lines if line.parity is not None and not line.withheld]:
        notes.append(
            f"Checked before timing: rows that are another way to compute the same function ({len(agreed)}) agree with "
            f"it forward and backward in float64 (largest relative difference {max(agreed):.0e})."
        )
    if any("share" in title for title, _ in columns):
        notes.append(
            "Share: throughput over that of one dense matrix product with as many multiply-adds (training: three "
            "times as many), in the faster of torch's two ways to it. A convolution may reach more."
        )
    if any(compiled):
        notes.append("Compile: the longest first step of a process; the next processes find the compiled code on disk.")
    return Table(title="Speed and memory", header=["variant", *(title for title, _ in columns)], rows=rows, notes=notes)


def mix_table(comparison: Comparison) -> Table:
    """The learned factors of the two paths in every layer that mixes."""
    lines = [line for line in comparison.lines if line.mixing_weights]
    layers = max(len(line.mixing_weights) for line in lines)
    rows = [[line.row.label, *(f"{a:.2f} {b:.2f}" for a, b in line.mixing_weights)] for line in lines]
    header = ["variant", *(f"layer {number}" for number in range(1, layers + 1))]
    note = "The factors of attention and of convolution after training, layer by layer, the mean over seeds."
    return Table(title="Learned mix", header=header, rows=rows, notes=[note])


def published_table(comparison: Comparison) -> Table:
    """Parameters and MACs beside the papers' figures, with the difference and its reason."""
    rows: list[list[str]] = []
    reasons: dict[str, None] = {}
    for line in comparison.lines:
        figures = figures_of(line.row)
        if not figures or "parameters" not in line.exact or "macs" not in line.exact:
            continue
        ours = (line.exact["parameters"] / 1e6, line.exact["macs"] / 1e9)
        cells = [line.row.label]
        for number, (own, field, digits) in enumerate(zip(ours, ("params_m", "macs_g"), (2, 3), strict=True)):
            cells.append(f"{own:.{digits}f}")
            for kind in ("published", "counted"):
                figure = figures.get(kind)
                cells.append(
                    rounding.beside(own, getattr(figure, field), exact=kind == "counted" and number == 0)
                    if figure
                    else "-"
                )
        rows.append(cells)
        reasons |= dict.fromkeys(reasons_of(line.row))
    header = ["model", "params\nM", "\nprinted", "\nreleased", "MACs (FLOPs)\nG", "\nprinted", "\nreleased"]
    note = (
        "Printed: in the paper or its README. Released: counted on the code that its authors released. In brackets: by "
        "how much ours differs from it; '=' is equal to the last parameter."
    )
    return Table(
        title="Against published figures", header=header, rows=rows, notes=[note, *(f"{reason}." for reason in reasons)]
    )


def _reading(comparison: Comparison) -> list[str]:
    """How to read the main table, in the run's own numbers."""
    experiment = comparison.run.plan.experiment
    protocol, meters, notes = experiment.protocol, experiment.meters, []
    if comparison.lines[0].row.label == "baseline":
        notes.append(
            f"baseline: the variant {experiment.baseline}; the other rows are named by what they change of it."
        )
    if "macs" in meters:
        sizes = sorted({line.row.case.image_size for line in comparison.lines})
        shown = " or ".join(f"{size}x{size}" for size in sizes)
        notes.append(f"MACs: multiply-adds of one {shown} input, which the papers call FLOPs.")
    if set(meters) & {"inference", "training"}:
        notes.append(
            f"img/s: {_several(protocol.processes, 'process', 'processes')}, in each of which all rows are timed "
            f"alternately in random order; batch {protocol.batch}, {protocol.layout}, {protocol.dtype}, "
            f"{_several(protocol.threads or 0, 'thread', 'threads')}, allocator "
            f"{protocol.allocator}; median [95 % interval].{_why_it_stopped(comparison)}"
        )
    if "accuracy" in meters:
        notes.append(
            f"top-1: {comparison.lines[0].row.case.data}, {_several(protocol.epochs, 'epoch', 'epochs')}, "
            f"{_several(protocol.seeds, 'seed', 'seeds')}; mean, ± is half its 95 % interval."
        )
        if len(comparison.lines) > 1:
            notes.append(
                "Δ top-1: percentage points against the baseline, paired by seed; the intervals of all rows hold "
                "together at 95 % over seeds, and 'noise' is one that holds 0. The test images are always the same."
            )
    return notes


def _several(number: int, one: str, more: str) -> str:
    return f"{number} {one if number == 1 else more}"


def _why_it_stopped(comparison: Comparison) -> str:
    """How many processes ended because the intervals were narrow, and how many because the time was up."""
    ends: Counter[str] = Counter()
    for meter in PASSES:
        timed = [line for line in comparison.lines if getattr(line, meter)]
        for line in {line.row.case: line for line in timed}.values():
            ends.update(getattr(line, meter).stopped)
    protocol = comparison.run.plan.experiment.protocol
    told = (
        f" {ends['narrow']} of {ends.total()} processes ended with every ratio within ±{100 * protocol.precision:g} %, "
        f"the others after {protocol.seconds:g} s a row."
    )
    timings = [timing for line in comparison.lines for meter in PASSES if (timing := getattr(line, meter))]
    cold = sum(timing.not_warm for timing in timings)
    if not cold:
        return told
    return f"{told} {cold} of {sum(t.rate.samples for t in timings)} warm-ups ended before three steps took alike."


def _where(comparison: Comparison) -> str:
    run = comparison.run
    seconds = sum(record.seconds for record in run.records)
    return f"Measured on {run.plan.environment}, {len(run.records)} cells in {rounding.minutes(seconds)}."


def _problems(comparison: Comparison) -> list[str]:
    notes = [f"{line.row.label}: {problem}" for line in comparison.lines for problem in line.problems]
    missing = sum(line.missing for line in comparison.lines)
    if missing:
        notes.append(f"{missing} of {len(comparison.run.plan.cells)} cells are not measured; run it again to go on.")
    return notes


def _compile_seconds(line: Line) -> float | None:
    """The longest first step of a row that is compiled."""
    if not line.row.variant.is_compiled:
        return None
    return max((timing.first_seconds for timing in (line.inference, line.training) if timing), default=None)


def _noise_floor(comparison: Comparison) -> list[str]:
    """What two copies of the same thing differ by: nothing smaller can be told."""
    floors = []
    for meter in PASSES:
        timings = [timing for line in comparison.lines if (timing := getattr(line, meter))]
        ours = [timing.floor for timing in timings if timing.floor is not None]
        if ours:
            floors.append(f"{meter} {rounding.floor(max(ours))}")
    if not floors:
        return []
    told = f"Smallest difference that can be told here, from two copies of a first row: {', '.join(floors)}."
    return [told, *_batches(comparison)]


def _batches(comparison: Comparison) -> list[str]:
    """Where memory ran out and the batch was halved."""
    wanted = comparison.run.plan.experiment.protocol.batch
    return [
        f"{line.row.label}: {meter} ran out of memory at batch {wanted}, and was measured at batch {timing.batch}."
        for line in comparison.lines
        for meter in PASSES
        if (timing := getattr(line, meter)) and timing.batch != wanted
    ]


def _rate(line: Line, meter: str) -> str:
    timing: Timing | None = getattr(line, meter)
    return rounding.rate(timing.rate) if timing else line.failed(meter) or "-"


def _top1(line: Line, comparison: Comparison) -> str:
    """The accuracy, and how many of the seeds it stands for where some failed."""
    shown = rounding.percent(line.accuracy) or line.failed("accuracy") or "-"
    seeds = comparison.run.plan.experiment.protocol.seeds
    if line.accuracy is None or line.accuracy.samples == seeds:
        return shown
    return f"{shown} ({line.accuracy.samples} of {seeds} seeds)"
