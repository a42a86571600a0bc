"""Two runs against each other: every metric that both have, what only one has, and the exit code."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from acmix_bench import meters, stats
from acmix_bench.analysis import finding
from acmix_bench.analysis.compare import score_of, withheld_of
from acmix_bench.analysis.finding import Finding, Pair, Side
from acmix_bench.analysis.thresholds import Thresholds
from acmix_bench.runs.record import Record, Run
from acmix_bench.spec.experiment import ON_DEVICE, Case


def unlike(base: Run, head: Run) -> list[str]:
    """What differs between the two environments and protocols, each with both values; nothing where none was timed."""
    if not all(any(meters.find(record.cell.meter).is_speed for record in run.records) for run in (base, head)):
        return []
    theirs, ours = _conditions(base), _conditions(head)
    return [f"{key} ({theirs[key]} and {ours[key]})" for key in theirs if key in ours and theirs[key] != ours[key]]


def findings(base: Run, head: Run, thresholds: Thresholds, *, timings: bool = True) -> list[Finding]:
    """Compare every metric that both runs have, exact ones first, and name what only one of them has."""
    pairs = _pairs(base, head)
    found = [each for pair in pairs for each in finding.exact(pair)]
    found += [
        Finding(label=pair.label, metric="parity", base=0, head=None, verdict="regression", note=pair.head.withheld)
        for pair in pairs
        if pair.head.withheld and not pair.base.withheld
    ]
    scores = [name for name in base.plan.experiment.meters if (metric := score_of(name)) and metric.gated]
    scored = [(pair, name) for pair in pairs for name in scores]
    confidence = stats.simultaneous(len(scored))
    for pair, name in scored:
        found += finding.score(pair, name, confidence)
    if timings:
        speeds = [meter for meter in base.plan.experiment.meters if meters.find(meter).is_speed]
        timed = [(pair, meter) for pair in pairs for meter in speeds if not (pair.base.withheld or pair.head.withheld)]
        confidence = stats.simultaneous(len(timed))
        for pair, meter in timed:
            found += finding.timing(pair, meter, thresholds.of(pair.label, meter), confidence)
    return found


def not_compared(base: Run, head: Run) -> list[str]:
    """What has no counterpart in the other run, failed there or here, or stands apart in a merged run: a line each."""
    ours, theirs = _by_row(head), _by_row(base)
    lines = [f"{label} on {case} is only in base" for label, case in theirs if (label, case) not in ours]
    lines += [f"{label} on {case} is only in head" for label, case in ours if (label, case) not in theirs]
    found = dict.fromkeys(record.cell.meter for run in (base, head) for record in run.records)
    measured = [*(meter for meter in meters.METERS if meter in found), *(m for m in found if m not in meters.METERS)]
    for pair in _pairs(base, head):
        for meter in filter(score_of, measured):
            if finding.recipes(pair.base, meter) != finding.recipes(pair.head, meter):
                lines.append(f"{pair.label}: {meter}: base and head were trained by unlike recipes")
        for meter in (meter for meter in measured if meters.find(meter).is_speed):
            theirs_on, ours_on = finding.peaks_on(pair.base, meter), finding.peaks_on(pair.head, meter)
            if theirs_on and ours_on and not theirs_on & ours_on:
                unlike = " and ".join(sorted({*min(theirs_on)} ^ {*min(ours_on)}))
                lines.append(f"{pair.label}: {meter} peak_bytes: not compared across GPUs or libraries ({unlike})")
        for side in (pair.base, pair.head):
            if side.withheld:
                lines.append(f"{pair.label}: timings of {side.name} are withheld: {side.withheld}")
            for meter in measured:
                cells = [record for record in side.records if record.cell.meter == meter]
                failed = [record for record in cells if record.status != "ok"]
                if failed:
                    told = f"{len(failed)} of {len(cells)} cells of {side.name} have no number"
                    lines.append(f"{pair.label}: {meter}: {told} ({failed[0].reason})")
                if not cells and finding.ran(pair.head if side is pair.base else pair.base, meter):
                    lines.append(f"{pair.label}: {meter}: {side.name} was not measured")
    for name, run in (("base", base), ("head", head)):
        for other in run.others:
            where = f"{name} also holds timings of {', '.join(other.plan.merged)}, taken on {other.plan.environment}"
            lines.append(f"{where}: they stand apart; compare that run itself")
    return lines


def exit_code(found: Iterable[Finding], differences: Sequence[str], *, allowed: bool) -> int:
    """3 for a regression, 4 where the timings of unlike environments were left out, 5 where nothing was compared."""
    found = list(found)
    if any(each.verdict == "regression" for each in found):
        return 3
    if differences and not allowed:
        return 4
    return 0 if found else 5


def _conditions(run: Run) -> dict[str, Any]:
    """What timings depend on: the machine, torch's math libraries, and what of the protocol any timing reads."""
    libraries = {str(record.values["libraries"]) for record in run.records if "libraries" in record.values}
    speeds = [name for name in run.plan.experiment.meters if meters.find(name).is_speed]
    read = dict.fromkeys(key for name in speeds for key in meters.find(name).conditions)
    recorded = {key for record in run.records if record.cell.meter in speeds for key in record.cell.protocol}
    protocol = {
        # On the CPU nothing of it is recorded, and by an older version nothing was set.
        key: getattr(run.plan.experiment.protocol, key) if key in recorded or key not in ON_DEVICE else "not set"
        for key in read
    }
    told = {"libraries": " or ".join(sorted(libraries))} if libraries else {}
    return run.plan.environment.facts() | told | protocol


def _by_row(run: Run) -> dict[tuple[str, Case], list[Record]]:
    """Records by what the row is called and where it was measured: one name may mean two things in two runs."""
    rows: dict[tuple[str, Case], list[Record]] = {}
    for record in run.records:
        rows.setdefault((record.cell.row.label, record.cell.row.case), []).append(record)
    return rows


def _pairs(base: Run, head: Run) -> list[Pair]:
    ours, theirs = _by_row(head), _by_row(base)
    refused, wrong = withheld_of(base), withheld_of(head)
    return [
        Pair(
            label=label,
            base=Side(name="base", records=records, withheld=refused[label]),
            head=Side(name="head", records=ours[label, case], withheld=wrong[label]),
        )
        for (label, case), records in theirs.items()
        if (label, case) in ours
    ]
