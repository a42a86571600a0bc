"""Which rows are the best of their case beyond doubt: better than each other one, by intervals that hold together."""

from __future__ import annotations

from collections.abc import Mapping
from math import exp
from typing import Any

from acmix_bench import meters, stats
from acmix_bench.analysis.compare import Comparison, Line, by_seed, paired_by_repeat, resolution, speedup
from acmix_bench.runs.record import Record
from acmix_bench.spec.experiment import Case


def leading_rows(comparison: Comparison, meter: str) -> list[list[str]]:
    """Of each case of several rows, the row that looks best, then those that it does not beat beyond doubt.

    It is held against each other one, paired by process or seed. The intervals are as wide as if every pair had been
    compared, because which row looks best is seen in the same numbers.
    """
    cases: dict[Case, list[Line]] = {}
    for line in comparison.lines:
        if meter in line.timings or meter in line.scores:
            cases.setdefault(line.row.case, []).append(line)
    records: dict[str, list[Record]] = {}
    for record in comparison.run.records:
        if record.cell.meter == meter and record.status == "ok":
            records.setdefault(record.cell.row.label, []).append(record)
    leading = []
    for lines in cases.values():
        first, *others = sorted(lines, key=lambda line: -_value(line, meter))
        confidence = stats.simultaneous(len(lines) * (len(lines) - 1) // 2)
        tied = [other for other in others if not _is_better(records, first, other, meter, confidence)]
        if others:
            leading.append([line.row.label for line in (first, *tied)])
    return leading


def _value(line: Line, meter: str) -> float:
    return line.timings[meter].rate.value if meter in line.timings else line.scores[meter].mean.value


def _is_better(by_label: Mapping[str, list[Record]], ours: Line, theirs: Line, meter: str, confidence: float) -> bool:
    records = [by_label.get(line.row.label, []) for line in (ours, theirs)]
    if meters.find(meter).is_timing:
        samples = [{r.cell.repeat: r for r in of if r.values["seconds"]} for of in records]
        pairs: list[Any] = paired_by_repeat(*samples)
        estimate = stats.ratio([speedup(a, b) for a, b in pairs], confidence=confidence) if pairs else None
        nothing = exp(max(line.timings[meter].noise_floor or 0.0 for line in (ours, theirs)))
    else:
        pairs = paired_by_repeat(*(by_seed(of, meter) for of in records))
        estimate = stats.mean([a - b for a, b in pairs], confidence=confidence) if pairs else None
        estimate = estimate and stats.at_least(estimate, margin=resolution(records[0], meter))
        nothing = 0.0
    return estimate is not None and estimate.low is not None and estimate.low > nothing
