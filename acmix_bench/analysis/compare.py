"""From records to a comparison: each row's estimates, and its differences to the baseline.

A row's baseline is the first row of its case. Timings are compared block by block within each process and
accuracies seed by seed, so that what both share (the machine's mood, the order of the images) cancels. Intervals of
differences hold together for all rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median, stdev
from typing import Any, TypeVar

from acmix_bench import meters, stats
from acmix_bench.analysis.on_gpu import OnGpu, on_gpu
from acmix_bench.analysis.single_factor import withheld_reason
from acmix_bench.runs.record import Record, Run
from acmix_bench.spec.cell import Row
from acmix_bench.spec.experiment import Case
from acmix_bench.spec.meter import Metric
from acmix_bench.stats import Estimate

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One timing meter's numbers of a row.

    `rate` is in images a second, `speedup` the rate over the baseline's. `noise_floor` is the smallest difference from
    1 that can be told, from the control: a second copy of the baseline. `efficiency` is the rate over that of a dense
    matrix product with as many multiply-adds. `not_warm` counts the processes whose warm-up ended with its time, not
    with equal steps. `halved_by` are the rows that ran out of memory, for which the batch of all was halved. `gpu` is
    what else there is to tell of a timing on a GPU.
    """

    rate: Estimate
    speedup: Estimate | None
    noise_floor: float | None
    efficiency: float | None
    peak_bytes: float | None
    first_seconds: float
    batch: int
    stopped: Mapping[str, int]
    not_warm: int
    halved_by: tuple[str, ...] = ()
    gpu: OnGpu | None = None


@dataclass(frozen=True, kw_only=True)
class Score:
    """One number a training run, over seeds, and its difference to the baseline's, paired by seed."""

    mean: Estimate
    difference: Estimate | None


@dataclass(frozen=True, kw_only=True)
class Line:
    """A row's numbers, by meter. What was not measured is not there; why a cell has no number stands in `problems`.

    `mixing_weights` are each mixing layer's factors of attention and convolution after training, the mean over seeds.
    """

    row: Row
    counts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    timings: Mapping[str, Timing] = field(default_factory=dict)
    scores: Mapping[str, Score] = field(default_factory=dict)
    mixing_weights: Sequence[tuple[float, float]] = ()
    parity: float | None = None
    withheld: str | None = None
    failures: tuple[Record, ...] = ()
    missing: int = 0

    def count(self, meter: str, key: str) -> Any:
        """One of a meter's values without noise; None where it was not measured."""
        return self.counts.get(meter, {}).get(key)

    def failed(self, meter: str) -> str | None:
        """How a meter's cells failed, where none of them has a number."""
        if self.withheld and meters.find(meter).is_timing:
            return "withheld"
        return next((record.status for record in self.failures if record.cell.meter == meter), None)

    @property
    def problems(self) -> list[str]:
        """One line for each way in which cells of this row failed."""
        found: dict[str, list[str]] = {}
        for record in self.failures:
            told = found.setdefault(f"{record.status}: {record.reason}", [])
            if record.cell.meter not in told:
                told.append(record.cell.meter)
        timings = [f"timings withheld: {self.withheld}"] if self.withheld else []
        return [*timings, *(f"{', '.join(names)} {way}" for way, names in found.items())]


@dataclass(frozen=True, kw_only=True)
class SeedPlan:
    """A row's pilot: its seeds, the standard deviation of its paired differences, and the seeds that it would need."""

    label: str
    seeds: int
    spread: float
    needed: int | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All rows of a run, the baseline first. `others` are timings that are not to be compared with these."""

    run: Run
    lines: tuple[Line, ...]
    others: tuple[Comparison, ...] = ()

    @property
    def speed_meters(self) -> list[str]:
        """The timings that are results, in the order of the experiment."""
        return [name for name in self.run.plan.experiment.meters if meters.find(name).is_speed]


def compare(run: Run) -> Comparison:
    """Derive every number of a run's tables from its raw records."""
    rows, names = run.plan.rows, run.plan.experiment.meters
    by_label, withheld = _by_label(run), withheld_of(run)
    firsts, confidence = baselines_of(rows), _confidence(rows)
    planned = Counter(cell.row.label for cell in run.plan.cells)
    speeds = [name for name in names if meters.find(name).is_speed]
    together, lines = _confidence(rows, len(speeds)), []
    for row in rows:
        records, first = by_label[row.label], firsts[row.case]
        against = by_label[first.label] if first != row else None
        timings: dict[str, Timing] = {}
        if not withheld[row.label]:
            shown = against if not withheld[first.label] else None
            found = {name: _timing(records, shown, name, together) for name in speeds}
            timings = {name: timing for name, timing in found.items() if timing}
        mixes = [record.values["mixing_weights"] for record in records if record.values.get("mixing_weights")]
        once = [r for r in records if meters.find(r.cell.meter).repeats == "once" and r.status == "ok"]
        lines.append(
            Line(
                row=row,
                counts={record.cell.meter: record.values for record in once},
                timings=timings,
                scores=_scores(records, against, names, confidence),
                mixing_weights=[
                    (fmean(a for a, _ in layer), fmean(b for _, b in layer)) for layer in zip(*mixes, strict=True)
                ],
                parity=next((r.values.get("difference") for r in once if r.cell.meter == "parity"), None),
                withheld=withheld[row.label],
                failures=tuple(record for record in records if record.status != "ok"),
                missing=0 if run.plan.merged else planned[row.label] - len(records),
            )
        )
    return Comparison(run=run, lines=tuple(lines), others=tuple(map(compare, run.others)))


def withheld_of(run: Run) -> dict[str, str | None]:
    """Why each row's timings are not shown; None where nothing speaks against them."""
    records, firsts = _by_label(run), baselines_of(run.plan.rows)
    return {row.label: withheld_reason(row, firsts[row.case], records) for row in run.plan.rows}


def _by_label(run: Run) -> dict[str, list[Record]]:
    labels: dict[str, list[Record]] = {row.label: [] for row in run.plan.rows}
    for record in run.records:
        labels[record.cell.row.label].append(record)
    return labels


def baselines_of(rows: Sequence[Row]) -> dict[Case, Row]:
    """The first row of each case."""
    return {row.case: row for row in reversed(rows)}


def _confidence(rows: Sequence[Row], columns: int = 1) -> float:
    """Of each comparison of a row with its baseline, for all of them to hold together, in all columns."""
    return stats.simultaneous(columns * (len(rows) - len(baselines_of(rows))))


def images_per_second(record: Record) -> float:
    """One process's throughput, from its median batch."""
    return float(record.values["batch"] / median(record.values["seconds"]))


def _timing(records: list[Record], baseline: list[Record] | None, meter: str, confidence: float) -> Timing | None:
    # A process that was timed in turns with another has no samples where that one ended at once.
    ours = _by_repeat(records, meter, lambda record: record if record.values["seconds"] else None)
    theirs = _by_repeat(baseline or [], meter, lambda record: record if record.values["seconds"] else None)
    if not ours:
        return None
    rates = {repeat: images_per_second(record) for repeat, record in ours.items()}
    ratios = [speedup(record, theirs[repeat]) for repeat, record in ours.items() if repeat in theirs]
    controls = [
        median_ratio(record.values["seconds"], record.values["again_seconds"])
        for record in (theirs or ours).values()
        if "again_seconds" in record.values
    ]
    control = stats.ratio(controls, confidence=confidence) if controls else None
    ceilings = {record.cell.meter for record in records if meters.find(record.cell.meter).ceiling}
    ceiling = _by_repeat(records, min(ceilings, default=""), images_per_second)
    passes = meters.find(meter).passes
    efficiencies = [passes * rate / ceiling[repeat] for repeat, rate in rates.items() if repeat in ceiling]
    peaks = [record.values["peak_bytes"] for record in ours.values()]
    return Timing(
        rate=stats.median(list(rates.values())),
        speedup=stats.ratio(ratios, confidence=confidence) if ratios else None,
        noise_floor=stats.farthest_from_one(control) if control else None,
        efficiency=median(efficiencies) if efficiencies else None,
        peak_bytes=None if None in peaks else max(peaks),
        first_seconds=max(record.values["first_seconds"] for record in ours.values()),
        batch=min(record.values["batch"] for record in ours.values()),
        stopped=Counter(record.values["stopped"] for record in ours.values()),
        not_warm=sum(not record.values["warmed_up"] for record in ours.values()),
        halved_by=tuple(dict.fromkeys(row for record in ours.values() for row in record.values.get("halved_by", ()))),
        gpu=on_gpu([record.values for record in ours.values()]),
    )


def speedup(ours: Record, theirs: Record) -> float:
    """How many times faster one was than the other in one process: the median over its blocks."""
    images = ours.values["batch"] / theirs.values["batch"]
    return images * median_ratio(theirs.values["seconds"], ours.values["seconds"])


def median_ratio(numerator: Sequence[float], denominator: Sequence[float]) -> float:
    """The median over blocks of the ratio of two subjects that were timed in them."""
    if len(numerator) != len(denominator):  # not from one process: it died, and each was timed alone
        return median(numerator) / median(denominator)
    return median(a / b for a, b in zip(numerator, denominator, strict=True))


def _scores(
    records: list[Record], baseline: list[Record] | None, names: Sequence[str], confidence: float
) -> dict[str, Score]:
    """Of every meter that repeats over seeds, as `scores_of` names them."""
    scores: dict[str, Score] = {}
    for name in names:
        for key, metric in scores_of(name).items():
            ours, difference = by_seed(records, name, metric), None
            if not ours:
                continue
            if pairs := paired_by_repeat(ours, by_seed(baseline or [], name, metric)):
                difference = stats.mean([a - b for a, b in pairs], confidence=confidence)
                difference = stats.at_least(difference, margin=resolution(records, name))
            scores[key] = Score(mean=stats.mean(list(ours.values())), difference=difference)
    return scores


def scores_of(meter: str) -> dict[str, Metric]:
    """Of a meter that repeats over seeds: its first score under its name, others with a title by their keys."""
    first = score_of(meter)
    others = {metric.key: metric for metric in meters.find(meter).metrics[1:] if metric.title}
    return {meter: first, **others} if first else {}


def score_of(meter: str) -> Metric | None:
    """The metric by which a meter that repeats over seeds is compared; None for any other meter."""
    found = meters.find(meter)
    return found.metrics[0] if found.repeats == "seeds" and found.metrics else None


def by_seed(records: list[Record], meter: str, metric: Metric | None = None) -> dict[int, float]:
    """A meter's score by training seed, the first where not said which; empty for a meter that has none."""
    score = metric or score_of(meter)
    return _by_repeat(records, meter, lambda record: record.values.get(score.key)) if score else {}


def resolution(records: Sequence[Record], meter: str) -> float:
    """The smallest step of a score that is a share: one sample of as many as it is of; 0 for any other score."""
    score = score_of(meter)
    samples = [r.values[score.of] for r in records if r.cell.meter == meter and score and score.of in r.values]
    return 1 / min(samples) if samples else 0


def seed_plan(run: Run, difference: float) -> list[SeedPlan]:
    """From a run as pilot, how many seeds it would take to see a difference of its score between a row and its
    baseline.

    At 80 % power, and at the confidence that makes the intervals of all rows hold together at 95 %.
    """
    rows, by_label = run.plan.rows, _by_label(run)
    name = next((name for name in run.plan.experiment.meters if score_of(name)), None)
    if name is None:
        return []
    scores = {label: by_seed(records, name) for label, records in by_label.items()}
    confidence, firsts, plans = _confidence(rows), baselines_of(rows), []
    for row in rows:
        first = firsts[row.case]
        differences = [ours - theirs for ours, theirs in paired_by_repeat(scores[row.label], scores[first.label])]
        if row != first and len(differences) > 1:
            spread = stdev(differences)
            needed = stats.samples_to_detect(spread, difference, confidence=confidence)
            if difference <= resolution(run.records, name):
                needed = None  # no interval is narrower than that
            plans.append(SeedPlan(label=row.label, seeds=len(differences), spread=spread, needed=needed))
    return plans


def _by_repeat(records: list[Record], meter: str, read: Callable[[Record], Any]) -> dict[int, Any]:
    """What is read of a meter's records by timing process or seed, without those that have nothing to read."""
    found = {r.cell.repeat: read(r) for r in records if r.cell.meter == meter and r.status == "ok"}
    return {repeat: value for repeat, value in found.items() if value is not None}


def paired_by_repeat(ours: Mapping[int, T], theirs: Mapping[int, T]) -> list[tuple[T, T]]:
    """What two rows have of the same seed or process, in order."""
    return [(ours[repeat], theirs[repeat]) for repeat in sorted(ours) if repeat in theirs]
