"""Two runs against each other: what is exact, to the last unit, and what is timed, as far as its noise allows.

    exact     parameters, MACs, peak bytes: compared on any machine; more of it is a regression
    timing    seconds of head over seconds of base, paired by process, with an interval

A timing is a `regression` only where the whole interval lies beyond both the threshold and the noise floor, an
`improvement` where that holds the other way, and the `same` where the whole interval lies within the threshold. The
rest `can't tell`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

from pydantic import field_validator

from acmix_bench import spec, stats, strict
from acmix_bench.compare import PASSES
from acmix_bench.errors import UserError
from acmix_bench.record import Environment, Record, Run
from acmix_bench.spec import Value
from acmix_bench.stats import Estimate

Meter = Literal["inference", "training"]
Verdict = Literal["regression", "improvement", "same", "can't tell"]
EXACT = (
    *("parameters", "parameter_bytes", "macs", "ledger", "macs_executed", "macs_backward"),
    *("activations", "activation_bytes", "peak_bytes", "unknown", "no_formula"),
)
# What of the protocol a timing depends on, beside the environment.
PROTOCOL = ("device", "dtype", "threads", "allocator", "layout", "batch")


class Thresholds(Value):
    """How much slower, as a share, is a regression: by meter, and by row and meter where a row has its own."""

    default: dict[Meter, float]
    rows: dict[str, dict[Meter, float]] = {}

    @field_validator("default")
    @classmethod
    def _complete(cls, default: dict[Meter, float]) -> dict[Meter, float]:
        for meter in PASSES:
            if meter not in default:
                raise UserError(f"default has no threshold for {meter}")
        return default

    def of(self, label: str, meter: str) -> float:
        """The share for a row's meter."""
        limits: dict[Any, float] = self.default | self.rows.get(label, {})
        return limits[meter]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One metric of one row in both runs. `ratio` is head over base, of seconds where it is a timing."""

    label: str
    metric: str
    base: float
    head: float | None
    verdict: Verdict
    ratio: Estimate | None = None
    threshold: float | None = None
    floor: float | None = None
    note: str = ""


def load_thresholds(path: Path | None = None) -> Thresholds:
    """The thresholds that come with the package, or those of a YAML file.

    Raises:
        UserError: for a file that is none.
    """
    where = str(path) if path else "thresholds.yaml"
    return strict.validated(Thresholds, strict.read_yaml(path or spec.PACKAGE / "thresholds.yaml", where), where=where)


def unlike(base: Run, head: Run) -> list[str]:
    """What differs between the two environments and protocols, each with both values; nothing where none was timed."""
    if not all(any(record.cell.meter in PASSES for record in run.records) for run in (base, head)):
        return []
    sides = [_conditions(run) for run in (base, head)]
    return [f"{key} ({sides[0][key]} and {sides[1][key]})" for key in sides[0] if sides[0][key] != sides[1][key]]


def findings(base: Run, head: Run, thresholds: Thresholds, *, timings: bool = True) -> list[Finding]:
    """Compare every metric that both runs have, exact ones first, and name what only one of them has."""
    ours, theirs = _by_row(head), _by_row(base)
    labels = [label for label in theirs if label in ours]
    found = [finding for label in labels for finding in _exact(label, theirs[label], ours[label])]
    if timings:
        timed = [(label, meter) for label in labels for meter in PASSES]
        confidence = stats.simultaneous(len(timed))
        for label, meter in timed:
            found += _timing(label, meter, theirs[label], ours[label], thresholds.of(label, meter), confidence)
    return found


def only_in_one(base: Run, head: Run) -> list[str]:
    """The rows that cannot be compared, because one run lacks them."""
    ours, theirs = _by_row(head), _by_row(base)
    lines = [f"{label} is only in base" for label in theirs if label not in ours]
    return lines + [f"{label} is only in head" for label in ours if label not in theirs]


def verdict(ratio: Estimate, *, threshold: float, floor: float) -> Verdict:
    """What an interval of head's seconds over base's says."""
    if ratio.low is None or ratio.high is None:
        return "can't tell"
    low, high, needed = math.log(ratio.low), math.log(ratio.high), math.log1p(threshold)
    if low > max(needed, floor):
        return "regression"
    if high < -max(needed, floor):
        return "improvement"
    return "same" if -needed < low and high < needed else "can't tell"


def paired(pairs: Sequence[tuple[list[float], list[float]]], *, confidence: float) -> tuple[Estimate, float]:
    """The ratio of head's seconds to base's with its interval, and the noise floor.

    Each pair of processes gives one ratio, the median over its blocks. The floor is how far from 1 the same interval
    reaches where nothing differs: the even blocks of a process against its odd ones, side by side in time. They are
    half as many, so their spread is that of the ratios times the root of 2.
    """
    ratios = [median(after / before for before, after in zip(*pair, strict=False)) for pair in pairs]
    halves = [
        median(later / earlier for earlier, later in zip(samples[::2], samples[1::2], strict=False))
        for pair in pairs
        for samples in pair
        if len(samples) > 1
    ]
    return stats.ratio(ratios, confidence=confidence), stats.reach(halves, count=2 * len(pairs), confidence=confidence)


def exit_code(found: Iterable[Finding], differences: Sequence[str], *, allowed: bool) -> int:
    """3 for a regression, 4 where the timings of unlike environments were left out, 5 where nothing was compared."""
    found = list(found)
    if any(finding.verdict == "regression" for finding in found):
        return 3
    if differences and not allowed:
        return 4
    return 0 if found else 5


def _conditions(run: Run) -> dict[str, Any]:
    environment: Environment = run.plan.environment
    libraries = {str(record.values["libraries"]) for record in run.records if "libraries" in record.values}
    protocol = {key: getattr(run.plan.experiment.protocol, key) for key in PROTOCOL}
    return environment.model_dump() | {"libraries": " or ".join(sorted(libraries))} | protocol


def _by_row(run: Run) -> dict[str, list[Record]]:
    rows: dict[str, list[Record]] = {}
    for record in run.records:
        rows.setdefault(record.cell.row.label, []).append(record)
    return rows


def _exact(label: str, base: list[Record], head: list[Record]) -> list[Finding]:
    theirs, ours = _exact_values(base), _exact_values(head)
    found = []
    for record in head:
        if record.cell.meter in ("params", "macs") and record.status != "ok" and theirs:
            note = f"{record.status}: {record.reason}"
            finding = Finding(label=label, metric=record.cell.meter, base=0, head=None, verdict="regression", note=note)
            found.append(finding)
    for metric, value in theirs.items():
        if metric in ours:
            change = ours[metric] - value
            kind: Verdict = "regression" if change > 0 else "improvement" if change < 0 else "same"
            found.append(Finding(label=label, metric=metric, base=value, head=ours[metric], verdict=kind))
    return found


def _exact_values(records: list[Record]) -> dict[str, float]:
    values: dict[str, float] = {}
    for record in records:
        if record.status != "ok":
            continue
        for key in EXACT:
            value = record.values.get(key)
            if isinstance(value, Mapping):
                value = sum(value.values())
            if value is not None:
                timing = key == "peak_bytes"
                values[f"{record.cell.meter} {key}" if timing else key] = value
        for stage, macs in record.values.get("macs_by_stage", {}).items():
            values[f"macs {stage}"] = macs
    return values


def _timing(
    label: str, meter: str, base: list[Record], head: list[Record], threshold: float, confidence: float
) -> list[Finding]:
    theirs, ours = _seconds(base, meter), _seconds(head, meter)
    failed, refused = (
        [record for record in records if record.cell.meter == meter and record.status != "ok"]
        for records in (head, base)
    )
    # A base that waited in vain for its turn has no samples either, but another reason.
    new = failed and (theirs or (refused and refused[0].reason != failed[0].reason))
    if new and len(failed) > len(ours):
        reason = f"{failed[0].status}: {failed[0].reason}"
        before = median(median(samples) for samples in theirs.values()) if theirs else 0.0
        return [Finding(label=label, metric=meter, base=before, head=None, verdict="regression", note=reason)]
    pairs = [(theirs[repeat], ours[repeat]) for repeat in sorted(set(theirs) & set(ours))]
    if not pairs:
        return []
    ratio, floor = paired(pairs, confidence=confidence)
    return [
        Finding(
            label=label,
            metric=meter,
            base=median(median(before) for before, _ in pairs),
            head=median(median(after) for _, after in pairs),
            ratio=ratio,
            threshold=threshold,
            floor=floor,
            verdict=verdict(ratio, threshold=threshold, floor=floor),
        )
    ]


def _seconds(records: list[Record], meter: str) -> dict[int, list[float]]:
    """Each process's samples, in seconds for one image."""
    return {
        record.cell.repeat: [seconds / record.values["batch"] for seconds in record.values["seconds"]]
        for record in records
        if record.cell.meter == meter and record.status == "ok" and record.values["seconds"]
    }
