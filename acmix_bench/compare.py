"""From records to a comparison: each row's estimates, and its differences to the baseline.

A row's baseline is the first row of its case. Timings are compared block by block within each process and
accuracies seed by seed, so that what both share (the machine's mood, the order of the images) cancels. Intervals of
differences hold together for all rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev
from typing import Any

from acmix_bench import stats
from acmix_bench.record import Record, Run
from acmix_bench.spec import OPERATORS, Row
from acmix_bench.stats import Estimate

Repeats = Mapping[int, float]
# Multiply-adds of a step, in those of its forward pass: a backward pass makes two products of each.
PASSES = {"inference": 1, "training": 3}


# Two ways to compute one function agree to this in float64, relative to the largest value.
PARITY = 1e-9
# The parameters that an axis may add, take away or reshape, by parts of their names. Other axes may change anything.
TOUCHES = {
    "paths": ("position", "proj", "weigh", "convolution", "mix"),
    "mix": ("mix",),
    "shift": ("convolution.kernel",),
    "kernel": ("convolution.kernel",),
    "init": (),
    "heads": ("position", "convolution"),
    "window": (),
    "kernel_size": ("convolution",),
    "implementation": (),
}
# The operations that compute and that an axis may bring or take away. Other axes may change any: they move what the
# tile rule and the folding rule choose.
USES = {
    "mix": {"add", "addcmul", "mul", "rsub"},
    "shift": {"add", "convolution", "mul", "matrix product"},
    "kernel": set(),
    "init": set(),
}


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One timing meter's numbers of a row.

    `rate` is in images a second, `ratio` the throughput over the baseline's. `floor` is the smallest difference from 1
    that can be told, from two copies of the baseline. `share` is the throughput over that of a dense matrix product
    with as many multiply-adds. `not_warm` counts the processes whose warm-up ended with its time, not with equal steps.
    """

    rate: Estimate
    ratio: Estimate | None
    floor: float | None
    share: float | None
    peak_bytes: float | None
    first_seconds: float
    batch: int
    stopped: Mapping[str, int]
    not_warm: int


@dataclass(frozen=True, kw_only=True)
class Line:
    """A row's numbers. What was not measured is None; why a cell has no number stands in `problems`."""

    row: Row
    exact: Mapping[str, Any]
    inference: Timing | None = None
    training: Timing | None = None
    accuracy: Estimate | None = None
    accuracy_difference: Estimate | None = None
    mixing_weights: Sequence[tuple[float, float]] = ()
    parity: float | None = None
    withheld: str | None = None
    failures: tuple[Record, ...] = ()
    missing: int = 0

    def failed(self, meter: str) -> str | None:
        """How a meter's cells failed, where none of them has a number."""
        if self.withheld and meter in PASSES:
            return "withheld"
        return next((record.status for record in self.failures if record.cell.meter == meter), None)

    @property
    def problems(self) -> list[str]:
        """One line for each way in which cells of this row failed."""
        meters: dict[str, list[str]] = {}
        for record in self.failures:
            told = meters.setdefault(f"{record.status}: {record.reason}", [])
            if record.cell.meter not in told:
                told.append(record.cell.meter)
        withheld = [f"timings withheld: {self.withheld}"] if self.withheld else []
        return [*withheld, *(f"{', '.join(names)} {way}" for way, names in meters.items())]


@dataclass(frozen=True, kw_only=True)
class SeedPlan:
    """A row's pilot: its seeds, the standard deviation of its paired differences, and the seeds that it would need."""

    label: str
    seeds: int
    spread: float
    needed: int | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All rows of a run, the baseline first."""

    run: Run
    lines: tuple[Line, ...]


def compare(run: Run) -> Comparison:
    """Derive every number of a run's tables from its raw records."""
    rows = run.plan.rows
    by_label = _by_label(run)
    planned = Counter(cell.row.label for cell in run.plan.cells)
    timed = len(set(PASSES) & set(run.plan.experiment.meters))
    withheld, lines = withheld_of(run), []
    for row in rows:
        records, first = by_label[row.label], baseline_of(row, rows)
        against = by_label[first.label] if first != row else None
        numbers = _accuracy(records, against, _confidence(rows))
        if not withheld[row.label]:
            shown = against if not withheld[first.label] else None
            numbers |= _speed(records, shown, _confidence(rows, timed))
        lines.append(
            Line(
                row=row,
                exact=_exact(records),
                mixing_weights=_mixing_weights(records),
                parity=_parity(records).get("difference"),
                withheld=withheld[row.label],
                failures=tuple(record for record in records if record.status != "ok"),
                missing=planned[row.label] - len(records),
                **numbers,
            )
        )
    return Comparison(run=run, lines=tuple(lines))


def withheld_of(run: Run) -> dict[str, str | None]:
    """Why each row's timings are not shown; None where nothing speaks against them."""
    by_label = _by_label(run)
    return {row.label: _withheld(row, baseline_of(row, run.plan.rows), by_label) for row in run.plan.rows}


def _by_label(run: Run) -> dict[str, list[Record]]:
    labels: dict[str, list[Record]] = {row.label: [] for row in run.plan.rows}
    for record in run.records:
        labels[record.cell.row.label].append(record)
    return labels


def baseline_of(row: Row, rows: Sequence[Row]) -> Row:
    """The first row of the same case, which may be the row itself."""
    return next(other for other in rows if other.case == row.case)


def _confidence(rows: Sequence[Row], columns: int = 1) -> float:
    """Of each comparison of a row with its baseline, for all of them to hold together, in all columns."""
    return stats.simultaneous(columns * sum(row != baseline_of(row, rows) for row in rows))


def _parity(records: list[Record]) -> dict[str, Any]:
    return next((r.values for r in records if r.cell.meter == "parity" and r.status == "ok"), {})


def _withheld(row: Row, first: Row, by_label: Mapping[str, list[Record]]) -> str | None:
    """An operator of the user's own claims nothing."""
    ours, theirs = _parity(by_label[row.label]), _parity(by_label[first.label])
    if ours.get("difference", 0) > PARITY:
        return f"it is not the same function as {ours['claims']}, but differs by {ours['difference']:.1g}"
    if row.variant.operator not in OPERATORS:
        return None
    if any(record.cell.meter == "parity" and record.status != "ok" for record in by_label[row.label]):
        return "it could not be checked before timing"
    content, baseline = row.variant.content(), first.variant.content()
    factors = [axis for axis in {**content, **baseline} if content.get(axis) != baseline.get(axis)]
    if not ours or not theirs or row.variant.operator != "acmix" or not all(factor in TOUCHES for factor in factors):
        return None
    mine, other = ours["shapes"], theirs["shapes"]
    changed = [name for name in {**mine, **other} if mine.get(name) != other.get(name)]
    allowed = [word for factor in factors for word in TOUCHES[factor]]
    strange = [name for name in changed if not any(word in name for word in allowed)]
    if all(factor in USES for factor in factors):
        used = set(ours["operations"]) ^ set(theirs["operations"])
        strange += sorted(used.difference(*(USES[factor] for factor in factors)))
    if strange:
        return f"{', '.join(strange)} changed, which {' and '.join(factors) or 'nothing'} does not explain"
    return None


def images_per_second(record: Record) -> float:
    """One round's throughput, from its median batch."""
    return float(record.values["batch"] / median(record.values["seconds"]))


def _exact(records: list[Record]) -> dict[str, Any]:
    """What has no noise: parameters, MACs and counters."""
    values: dict[str, Any] = {}
    for record in records:
        if record.cell.meter in ("params", "macs") and record.status == "ok":
            values |= record.values
    return values


def _speed(records: list[Record], baseline: list[Record] | None, confidence: float) -> dict[str, Any]:
    product = _by_repeat(records, "product", images_per_second)
    numbers: dict[str, Any] = {}
    for meter, passes in PASSES.items():
        ours = _sampled(records, meter)
        if not ours:
            continue
        rates = {repeat: images_per_second(record) for repeat, record in ours.items()}
        theirs = _sampled(baseline, meter) if baseline is not None else {}
        ratios = [speed_ratio(record, theirs[repeat]) for repeat, record in ours.items() if repeat in theirs]
        twinned = [record for record in (theirs or ours).values() if "again_seconds" in record.values]
        twins = stats.ratio([twin_ratio(record) for record in twinned], confidence=confidence) if twinned else None
        shares = [passes * rate / product[repeat] for repeat, rate in rates.items() if repeat in product]
        peaks = [record.values["peak_bytes"] for record in ours.values()]
        numbers[meter] = Timing(
            rate=stats.median(list(rates.values())),
            ratio=stats.ratio(ratios, confidence=confidence) if ratios else None,
            floor=stats.floor(twins) if twins else None,
            share=median(shares) if shares else None,
            peak_bytes=None if None in peaks else max(peaks),
            first_seconds=max(record.values["first_seconds"] for record in ours.values()),
            batch=min(record.values["batch"] for record in ours.values()),
            stopped=Counter(record.values["stopped"] for record in ours.values()),
            not_warm=sum(not record.values["warmed_up"] for record in ours.values()),
        )
    return numbers


def speed_ratio(ours: Record, theirs: Record) -> float:
    """How many times faster one was than the other in one process: the median over its blocks."""
    images = ours.values["batch"] / theirs.values["batch"]
    return images * _median_ratio(theirs.values["seconds"], ours.values["seconds"])


def twin_ratio(record: Record) -> float:
    """The same for the two copies of one subject."""
    return _median_ratio(record.values["seconds"], record.values["again_seconds"])


def _median_ratio(numerator: Sequence[float], denominator: Sequence[float]) -> float:
    if len(numerator) != len(denominator):  # not from one process: it died, and each was timed alone
        return median(numerator) / median(denominator)
    return median(a / b for a, b in zip(numerator, denominator, strict=True))


def _accuracy(records: list[Record], baseline: list[Record] | None, confidence: float) -> dict[str, Any]:
    top1 = _by_repeat(records, "accuracy", lambda record: record.values["accuracy"])
    if not top1:
        return {}
    numbers: dict[str, Any] = {"accuracy": stats.mean(list(top1.values()))}
    if baseline is not None:
        pairs = _paired(top1, _by_repeat(baseline, "accuracy", lambda record: record.values["accuracy"]))
        if pairs:
            differences = [ours - theirs for ours, theirs in pairs]
            images = min(record.values["test_images"] for record in records if "test_images" in record.values)
            difference = stats.mean(differences, confidence=confidence)
            numbers["accuracy_difference"] = stats.at_least(difference, margin=1 / images)
    return numbers


def seed_plan(run: Run, difference: float) -> list[SeedPlan]:
    """From a run as pilot, how many seeds it would take to see a difference of top-1 between a row and its baseline.

    At 80 % power, and at the confidence that makes the intervals of all rows hold together at 95 %.
    """
    rows = run.plan.rows
    top1 = {
        label: _by_repeat(records, "accuracy", lambda record: record.values["accuracy"])
        for label, records in _by_label(run).items()
    }
    confidence, plans = _confidence(rows), []
    for row in rows:
        first = baseline_of(row, rows)
        differences = [ours - theirs for ours, theirs in _paired(top1[row.label], top1[first.label])]
        if row != first and len(differences) > 1:
            spread = stdev(differences)
            images = min(record.values["test_images"] for record in run.records if "test_images" in record.values)
            needed = stats.samples_to_detect(spread, difference, confidence=confidence)
            needed = needed if difference > 1 / images else None  # no interval is narrower than an image
            plans.append(SeedPlan(label=row.label, seeds=len(differences), spread=spread, needed=needed))
    return plans


def _mixing_weights(records: list[Record]) -> list[tuple[float, float]]:
    """Each mixing layer's factors of attention and convolution after training, the mean over seeds."""
    runs = [record.values["mixing_weights"] for record in records if record.values.get("mixing_weights")]
    return [(fmean(a for a, _ in layer), fmean(b for _, b in layer)) for layer in zip(*runs, strict=True)]


def _sampled(records: list[Record], meter: str) -> dict[int, Record]:
    """A process that was timed in turns with another has no samples where that one ended at once."""
    return {r.cell.repeat: r for r in records if r.cell.meter == meter and r.status == "ok" and r.values["seconds"]}


def _by_repeat(records: list[Record], meter: str, read: Callable[[Record], Any]) -> dict[int, Any]:
    return {r.cell.repeat: read(r) for r in records if r.cell.meter == meter and r.status == "ok"}


def _paired(ours: Repeats, theirs: Repeats) -> list[tuple[float, float]]:
    return [(ours[repeat], theirs[repeat]) for repeat in sorted(ours) if repeat in theirs]
