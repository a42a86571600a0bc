"""What one row's metric comes to in two runs: a finding with its verdict.

    exact     parameters, MACs, peak bytes, what a meter of yours counts: on any machine; more of it is a regression
    score     of training runs by one recipe: head less base, paired by seed, with an interval; less is worse
    timing    seconds of head over seconds of base, paired by process, with an interval

A timing is a `regression` only where the whole interval lies beyond both the threshold and the noise floor, an
`improvement` where that holds the other way, and the `same` where the whole interval lies within the threshold. A score
is one where the whole interval lies on one side of 0, and the `same` where every seed gives what it gave. The rest
`can't tell`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any, Literal, NamedTuple

from acmix_bench import meters, stats
from acmix_bench.analysis.compare import by_seed, paired_by_repeat, resolution, score_of
from acmix_bench.errors import WAITED_IN_VAIN
from acmix_bench.runs.record import Record
from acmix_bench.stats import Estimate

Unit = Literal["count", "percent", "number", "seconds"]
Verdict = Literal["regression", "improvement", "same", "can't tell"]


@dataclass(frozen=True, kw_only=True)
class Side:
    """A row in one of the two runs; its timings may be withheld for a reason."""

    name: Literal["base", "head"]
    records: list[Record]
    withheld: str | None


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A row that both runs have."""

    label: str
    base: Side
    head: Side


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A row's metric in both runs. A timing's `ratio` is head over base, a score's `difference` head less base.

    `unit` is that of base and head: seconds of a timing, and as its metric says of anything else.
    """

    label: str
    metric: str
    base: float
    head: float | None
    verdict: Verdict
    unit: Unit = "count"
    ratio: Estimate | None = None
    difference: Estimate | None = None
    threshold: float | None = None
    noise_floor: float | None = None
    note: str = ""


def exact(pair: Pair) -> list[Finding]:
    """What is exact and differs, either way, or is equal: parameters, MACs, bytes, counts of a meter of yours."""
    theirs, ours = _exact_values(pair.base.records), _exact_values(pair.head.records)
    found = []
    for record in pair.head.records:
        meter = meters.find(record.cell.meter)
        is_count = meter.repeats == "once" and any(metric.gated for metric in meter.metrics)
        if is_count and record.status != "ok" and ran(pair.base, record.cell.meter):
            found.append(_gone(pair.label, record.cell.meter, 0, f"{record.status}: {record.reason}"))
    for metric, value in theirs.items():
        if metric in ours:
            change = ours[metric] - value
            kind: Verdict = "regression" if change > 0 else "improvement" if change < 0 else "same"
            found.append(Finding(label=pair.label, metric=metric.name, base=value, head=ours[metric], verdict=kind))
        elif not metric.conditions and ran(pair.head, metric.meter):
            found.append(_gone(pair.label, metric.name, value, "is not counted any more"))
    return found


def score(pair: Pair, meter: str, confidence: float) -> list[Finding]:
    """Head's score less base's, where both have one of the same seeds and recipe."""
    theirs, ours = by_seed(pair.base.records, meter), by_seed(pair.head.records, meter)
    unit = metric.unit if (metric := score_of(meter)) else "number"
    if broken := _broken(pair, meter, len(theirs), len(ours)):
        return [_gone(pair.label, meter, fmean(theirs.values()) if theirs else 0.0, broken, unit)]
    pairs = paired_by_repeat(ours, theirs)
    if not pairs or recipes(pair.base, meter) != recipes(pair.head, meter):
        return []
    difference = stats.mean([after - before for after, before in pairs], confidence=confidence)
    difference = stats.at_least(difference, margin=resolution(pair.head.records, meter))
    said: Verdict = "can't tell"
    if all(after == before for after, before in pairs):
        said = "same"
    elif difference.low is not None and difference.high is not None and difference.low * difference.high > 0:
        said = "improvement" if difference.low > 0 else "regression"
    before, after = fmean(before for _, before in pairs), fmean(after for after, _ in pairs)
    return [
        Finding(
            label=pair.label,
            metric=meter,
            base=before,
            head=after,
            verdict=said,
            unit=unit,
            difference=difference,
        )
    ]


def timing(pair: Pair, meter: str, threshold: float, confidence: float) -> list[Finding]:
    """Head's seconds over base's, where both have a process of the same number."""
    theirs, ours = _seconds(pair.base.records, meter), _seconds(pair.head.records, meter)
    if broken := _broken(pair, meter, len(theirs), len(ours)):
        before = median(median(samples) for samples in theirs.values()) if theirs else 0.0
        return [_gone(pair.label, meter, before, broken, "seconds")]
    pairs = paired_by_repeat(theirs, ours)
    if not pairs:
        return []
    ratio, noise_floor = paired(pairs, confidence=confidence)
    return [
        Finding(
            label=pair.label,
            metric=meter,
            unit="seconds",
            base=median(median(before) for before, _ in pairs),
            head=median(median(after) for _, after in pairs),
            ratio=ratio,
            threshold=threshold,
            noise_floor=noise_floor,
            verdict=verdict(ratio, threshold=threshold, noise_floor=noise_floor),
        )
    ]


def verdict(ratio: Estimate, *, threshold: float, noise_floor: float) -> Verdict:
    """What an interval of head's seconds over base's says."""
    if ratio.low is None or ratio.high is None:
        return "can't tell"
    low, high, needed = math.log(ratio.low), math.log(ratio.high), math.log1p(threshold)
    if low > max(needed, noise_floor):
        return "regression"
    if high < -max(needed, noise_floor):
        return "improvement"
    return "same" if -needed < low and high < needed else "can't tell"


def paired(pairs: Sequence[tuple[list[float], list[float]]], *, confidence: float) -> tuple[Estimate, float]:
    """The ratio of head's seconds to base's with its interval, and the noise floor.

    Each pair of processes gives one ratio, the median over its blocks. The floor is how far from 1 the same interval
    extends where nothing differs: the even blocks of a process against its odd ones, side by side in time. They are
    half as many, so their spread is that of the ratios times the root of 2.
    """
    ratios = [median(after / before for before, after in zip(*pair, strict=False)) for pair in pairs]
    halves = [
        median(later / earlier for earlier, later in zip(samples[::2], samples[1::2], strict=False))
        for pair in pairs
        for samples in pair
        if len(samples) > 1
    ]
    noise_floor = stats.noise_floor(halves, count=2 * len(pairs), confidence=confidence)
    return stats.ratio(ratios, confidence=confidence), noise_floor


def _gone(label: str, metric: str, base: float, note: str, unit: Unit = "count") -> Finding:
    """What base has a number for, and head has none."""
    return Finding(label=label, metric=metric, base=base, head=None, verdict="regression", unit=unit, note=note)


class _Metric(NamedTuple):
    """An exact metric. Peak bytes hold for the conditions of a timing only, all others for any.

    On a GPU the card and its libraries are among them: cuDNN's workspaces count, and each build takes others.
    """

    name: str
    meter: str
    conditions: tuple[Any, ...] = ()


def _exact_values(records: list[Record]) -> dict[_Metric, float]:
    values: dict[_Metric, float] = {}
    for record in records:
        if record.status != "ok":
            continue
        name, meter = record.cell.meter, meters.find(record.cell.meter)
        if meter.repeats == "once":
            gated = [metric for metric in meter.metrics if metric.gated]
            values |= {_Metric(key, name): n for metric in gated for key, n in metric.numbers(record.values).items()}
        elif record.values.get("peak_bytes") is not None:
            keys = ("device", "dtype", "layout", "products", "cudnn_benchmark")
            held = (record.values["batch"], *(record.cell.protocol.get(key) for key in keys), *on_gpu(record))
            metric = _Metric(f"{name} peak_bytes", name, held)
            values[metric] = record.values["peak_bytes"]
    return values


def on_gpu(record: Record) -> list[str]:
    """The card and the libraries of a timing on a GPU, as its process saw them; nothing on the CPU, whose peaks are
    counted.
    """
    if str(record.cell.protocol.get("device", "cpu")).startswith("cpu"):
        return []
    gpu = record.values.get("gpu", {})
    seen = [str(gpu[key]) for key in ("name", "runtime") if gpu.get(key)]
    seen += [f"cuDNN {gpu['cudnn']}"] if gpu.get("cudnn") else []
    return [*(seen or [str(record.environment.gpu)]), f"torch {record.environment.torch}"]


def peaks_on(side: Side, meter: str) -> set[tuple[str, ...]]:
    """On which GPUs and libraries a side's peak bytes were measured."""
    ours = [record for record in side.records if record.cell.meter == meter and record.status == "ok"]
    return {tuple(on_gpu(record)) for record in ours if record.values.get("peak_bytes") is not None}


def recipes(side: Side, meter: str) -> set[str]:
    """What a side's scores were made with, wherever that was: only those of one recipe can be compared."""
    elsewhere = ("data_root", "device", "threads")
    return {
        json.dumps({key: value for key, value in record.cell.protocol.items() if key not in elsewhere}, sort_keys=True)
        for record in side.records
        if record.cell.meter == meter
    }


def _broken(pair: Pair, meter: str, theirs: int, ours: int) -> str | None:
    """How most of head's repeats failed where not most of base's did; `theirs` and `ours` have a number."""
    failed = _failures(pair.head, meter)
    is_worse = len(failed) > ours and len(_failures(pair.base, meter)) <= theirs
    return f"{failed[0].status}: {failed[0].reason}" if is_worse else None


def _failures(side: Side, meter: str) -> list[Record]:
    """Where a side failed by itself, not because the other did not come."""
    return [
        record
        for record in side.records
        if record.cell.meter == meter and record.status != "ok" and WAITED_IN_VAIN not in (record.reason or "")
    ]


def _seconds(records: list[Record], meter: str) -> dict[int, list[float]]:
    """Each process's samples, in seconds for one image."""
    return {
        record.cell.repeat: [seconds / record.values["batch"] for seconds in record.values["seconds"]]
        for record in records
        if record.cell.meter == meter and record.status == "ok" and record.values["seconds"]
    }


def ran(side: Side, meter: str) -> bool:
    """Whether a side has a number of a meter."""
    return any(record.cell.meter == meter and record.status == "ok" for record in side.records)
