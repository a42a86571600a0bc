"""Tables as terminal text, Markdown, LaTeX or CSV. `rounding` rounds; the CSV has every digit."""

from __future__ import annotations

import csv
import io
import textwrap
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tabulate import tabulate

from acmix_bench import rounding
from acmix_bench.backbones import find
from acmix_bench.compare import PASSES, Comparison, Line, SeedPlan, Timing
from acmix_bench.gate import Finding
from acmix_bench.ops.cost import STAGES
from acmix_bench.published import figures_of, reasons_of
from acmix_bench.stats import Estimate

WIDTH = 100  # of the notes below a table in a terminal
FORMATS = {"text": "simple", "md": "pipe", "tex": "latex_booktabs"}
TEX_SIGNS = {"±": r"$\pm$", "×": r"$\times$", "≥": r"$\geq$", "Δ": r"$\Delta$"}
LEDGER = (
    *("ledger", "macs_executed", "macs_backward", "flop_counter_backward"),
    *("activations", "activation_bytes", "parameter_bytes"),
)
STAGE_TITLES = {
    "stage_1": "stage I",
    "attention": "attention",
    "fully_connected": "fully\nconnected",
    "grouped_convolution": "grouped\nconvolution",
    "rest": "rest",
}


@dataclass(frozen=True, kw_only=True)
class Table:
    """A rendered grid with a title above and the notes that make it readable alone."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    def render(self, style: str) -> str:
        """As `text`, `md` or `tex`."""
        align = ["left"] + ["right"] * (len(self.header) - 1)
        header = self.header if style == "text" else [title.replace("\n", " ").strip() for title in self.header]
        grid = tabulate(self.rows, header, tablefmt=FORMATS[style], colalign=align, disable_numparse=True)
        if style == "tex":
            comments = "".join(f"% {line}\n" for line in (self.title, *self.notes))
            for sign, command in TEX_SIGNS.items():
                grid = grid.replace(sign, command)
            return f"{comments}{grid}\n"
        if style == "md":
            return "\n\n".join([f"**{self.title}**", grid, *self.notes]) + "\n"
        notes = [line for note in self.notes for line in textwrap.wrap(note, WIDTH, break_long_words=False)]
        return "\n".join([self.title, "", grid, "", *notes]) + "\n"


def tables(comparison: Comparison) -> list[Table]:
    """Every table that the run's meters fill."""
    meters = comparison.run.plan.experiment.meters
    made = []
    if set(meters) & {"params", "macs", "inference", "training", "accuracy"}:
        made.append(main_table(comparison))
    if set(meters) & {"inference", "training"}:
        made.append(speed_table(comparison))
    if any(line.mixing_weights for line in comparison.lines):
        made.append(mix_table(comparison))
    if any(figures_of(line.row) for line in comparison.lines) and {"params", "macs"} <= set(meters):
        made.append(published_table(comparison))
    if "macs" in meters:
        made += [cost_table(comparison), ledger_table(comparison), counter_table(comparison)]
    return made


def main_table(comparison: Comparison) -> Table:
    """Cost, throughput and accuracy of every row."""
    plan = comparison.run.plan
    meters = plan.experiment.meters
    columns: list[tuple[str, str, Callable[[Line], str]]] = [
        ("params", "params", lambda line: rounding.count(line.exact.get("parameters")) or _failed(line, "params")),
        ("macs", "MACs\n(FLOPs)", lambda line: _macs(line)),
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


def cost_table(comparison: Comparison) -> Table:
    """MACs of one image by stage."""
    rows = []
    for line in comparison.lines:
        stages = line.exact.get("macs_by_stage", {})
        rows.append(
            [
                line.row.label,
                _macs(line),
                *(rounding.count(stages.get(stage)) or "-" for stage in STAGES),
            ]
        )
    header = ["variant", "MACs\n(FLOPs)", *(STAGE_TITLES[stage] for stage in STAGES)]
    note = "Multiply-adds of one image, from the closed form."
    return Table(title="MACs by stage", header=header, rows=rows, notes=[note])


def ledger_table(comparison: Comparison) -> Table:
    """What is executed beside what the algorithm needs, forward and backward, and the bytes that it takes."""
    rows = []
    for line in comparison.lines:
        exact = line.exact
        rows.append(
            [
                line.row.label,
                _macs(line),
                rounding.against(exact.get("ledger"), exact.get("macs")) or "-",
                rounding.count(exact.get("macs_executed")) or "-",
                rounding.count(exact.get("macs_backward")) or "-",
                rounding.against(exact.get("flop_counter_backward"), exact.get("macs_backward")) or "-",
                rounding.count(exact.get("activations")) or "-",
                rounding.mebibytes(exact.get("parameter_bytes")) or "-",
            ]
        )
    header = ["variant", "MACs\n(FLOPs)", "\nledger", "\nexecuted", "executed\nbackward", "FlopCounterMode\nsays"]
    header += ["activa-\ntions", "params\nMiB"]
    notes = [
        "Ledger: every operation of the formulas as they stand, entered by its sizes; '=' is equal to the closed form "
        "to the last multiply-add. Executed: what the fast formulation runs. Activations: elements that products give.",
        *_listed(
            comparison,
            {"unknown": "In no book, so the ledger is not complete", "count_with_ledger_failed": "No ledger"},
        ),
    ]
    return Table(title="Cost ledger", header=header, rows=rows, notes=notes)


def counter_table(comparison: Comparison) -> Table:
    """What two counters say of the operator as it was released, and what they leave out."""
    rows = [
        [line.row.label, _macs(line), _counted(line, "fvcore") or "-", _counted(line, "flop_counter") or "-"]
        for line in comparison.lines
    ]
    notes = [
        "Each counter's matrix products, convolutions and linear layers, with ACmix written as it was released, and "
        "what they miss of the closed form.",
        *_uncounted(comparison),
    ]
    header = ["variant", "MACs\n(FLOPs)", "fvcore\nsays", "FlopCounterMode\nsays"]
    return Table(title="What the common counters say", header=header, rows=rows, notes=notes)


def seed_table(plans: Sequence[SeedPlan], difference: float) -> Table:
    """How many seeds a difference of top-1 would take."""
    rows = [[plan.label, str(plan.seeds), f"{100 * plan.spread:.2f}", str(plan.needed or "never")] for plan in plans]
    note = (
        "From the spread of the differences to the baseline, paired by seed, in this run: a t test at 80 % power, the "
        "rows together at 95 %. A pilot of few seeds knows its own spread badly, so the seeds needed are rough; "
        "never: it would take more than 100,000, or the difference is less than one test image."
    )
    header = ["variant", "pilot\nseeds", "spread\npoints", "seeds\nneeded"]
    return Table(title=f"Seeds to see {100 * difference:g} points", header=header, rows=rows, notes=[note])


def gate_table(found: Sequence[Finding], unlike: Sequence[str], not_compared: Sequence[str]) -> Table:
    """Two runs beside each other: timings, and of what is exact each row's changes."""
    rows, unchanged = [], 0
    for finding in found:
        if finding.ratio is None and finding.verdict == "same":
            unchanged += 1
            continue
        timed = finding.metric in PASSES
        show = rounding.milliseconds if timed else rounding.count
        limit = f"{100 * finding.threshold:g} %" if finding.threshold is not None else "0"
        floor = rounding.floor(finding.floor) if finding.floor is not None else "-"
        values = [
            show(finding.base),
            show(finding.head) or "failed",
            rounding.ratio(finding.ratio) or "-",
            limit,
            floor,
        ]
        rows.append([finding.label, finding.metric, *values, finding.verdict])
    header = ["row", "metric", "base", "head", "head / base", "limit", "noise\nfloor", "verdict"]
    notes = [
        f"{unchanged} exact metrics (parameters, MACs, peak bytes) are equal to the last unit; any increase is a "
        "regression.",
        "Timings: ms an image, paired by process; the intervals hold together at 95 %. A regression or an improvement "
        "is one whose whole interval lies beyond the limit and the noise floor, the smallest difference that can be "
        "told here.",
        *(f"UNLIKE: {difference}." for difference in unlike),
        *(f"Not compared: {line}." for line in not_compared),
    ]
    return Table(title="Base against head", header=header, rows=rows, notes=notes)


def layer_table(line: Line) -> Table:
    """One model's MACs and parameters layer by layer."""
    rows = [
        [
            layer["name"] or "(all)",
            layer["type"],
            rounding.count(layer["parameters"]),
            rounding.count(_macs_of(layer)),
        ]
        for layer in line.exact["layers"]
    ]
    return Table(title=f"Layers of {line.row.label}", header=["layer", "type", "params", "MACs\n(FLOPs)"], rows=rows)


def stage_table(line: Line) -> Table:
    """One model's MACs and parameters by the stages of its backbone; stem and head are the rest."""
    stages = [module for module, _ in find(line.row.case.backbone).stages]
    rows = []
    for stage in (*stages, "rest"):
        layers = [layer for layer in line.exact["layers"] if _stage_of(layer["name"], stages) == stage]
        parameters = sum(layer["parameters"] for layer in layers)
        rows.append([stage, rounding.count(parameters), rounding.count(sum(map(_macs_of, layers)))])
    note = "Parameters are those of layers that multiply; normalisation and positions are left out."
    return Table(
        title=f"Stages of {line.row.label}", header=["stage", "params", "MACs\n(FLOPs)"], rows=rows, notes=[note]
    )


def _macs_of(layer: dict[str, Any]) -> int:
    return sum(layer["macs"].values())


def _stage_of(layer: str, stages: Sequence[str]) -> str:
    return next((stage for stage in stages if layer.startswith(f"{stage}.")), "rest")


def to_csv(comparison: Comparison) -> str:
    """One line a row, every digit, units in the header."""
    file = io.StringIO()
    records = [flat(line) for line in comparison.lines]
    header = list(dict.fromkeys(key for record in records for key in record))
    writer = csv.DictWriter(file, header, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return file.getvalue()


def flat(line: Line) -> dict[str, Any]:
    """A row's numbers under flat names, with every digit: a line of the CSV, or an object for a script."""
    flat: dict[str, Any] = {
        "variant": line.row.label,
        "backbone": line.row.case.backbone,
        "image_size": line.row.case.image_size,
    }
    for key in ("parameters", "macs", "fvcore", "flop_counter", *LEDGER):
        if key in line.exact:
            flat[key] = line.exact[key]
    flat |= {f"macs_{stage}": macs for stage, macs in line.exact.get("macs_by_stage", {}).items()}
    estimates: dict[str, Estimate | None] = {}
    for meter in PASSES:
        timing: Timing | None = getattr(line, meter)
        if timing:
            estimates |= {f"{meter}_images_per_s": timing.rate, f"{meter}_ratio": timing.ratio}
    estimates |= {"accuracy": line.accuracy, "accuracy_difference": line.accuracy_difference}
    for name, estimate in estimates.items():
        if estimate is not None:
            flat |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
            flat[f"{name}_samples"] = estimate.samples
    for meter in PASSES:
        if timing := getattr(line, meter):
            flat |= {f"{meter}_peak_bytes": timing.peak_bytes, f"{meter}_of_product": timing.share}
            flat[f"{meter}_noise_floor"] = timing.floor
            flat |= {f"{meter}_first_seconds": timing.first_seconds, f"{meter}_batch": timing.batch}
    return flat | {"not_measured": line.missing, "problems": "; ".join(line.problems)}


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


def _uncounted(comparison: Comparison) -> list[str]:
    """The operations that each counter passed over, and the modules that no formula covers."""
    titles = {
        "fvcore_not_counted": "fvcore does not count",
        "flop_counter_not_counted": "FlopCounterMode does not count",
        "count_with_fvcore_failed": "fvcore failed",
        "count_with_flop_counter_failed": "FlopCounterMode failed",
        "no_formula": "No formula, so the MACs are at least (≥) what is shown",
    }
    return _listed(comparison, titles)


def _listed(comparison: Comparison, titles: dict[str, str]) -> list[str]:
    """A note for each kind of name that any row has."""
    notes = []
    for key, title in titles.items():
        names = sorted({name for line in comparison.lines for name in line.exact.get(key, {})})
        if names:
            notes.append(f"{title}: {', '.join(names)}.")
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
    return rounding.rate(timing.rate) if timing else _failed(line, meter)


def _failed(line: Line, meter: str) -> str:
    """What stands in a cell without a number."""
    return line.failed(meter) or "-"


def _macs(line: Line) -> str:
    """The MACs, marked as a lower bound where a module has no formula."""
    shown = rounding.count(line.exact.get("macs")) or _failed(line, "macs")
    return f"≥ {shown}" if line.exact.get("no_formula") else shown


def _top1(line: Line, comparison: Comparison) -> str:
    """The accuracy, and how many of the seeds it stands for where some failed."""
    shown = rounding.percent(line.accuracy) or _failed(line, "accuracy")
    seeds = comparison.run.plan.experiment.protocol.seeds
    if line.accuracy is None or line.accuracy.samples == seeds:
        return shown
    return f"{shown} ({line.accuracy.samples} of {seeds} seeds)"


def _counted(line: Line, counter: str) -> str:
    """What a counter says, and the share of the true MACs that it misses."""
    counted, true = line.exact.get(counter), line.exact.get("macs")
    return rounding.count(counted) if line.exact.get("no_formula") else rounding.against(counted, true)
