"""What a decision is read from: two runs beside each other, and the seeds that a difference takes."""

from __future__ import annotations

from collections.abc import Sequence

from acmix_bench.analysis.compare import SeedPlan
from acmix_bench.analysis.finding import Finding, Unit
from acmix_bench.report import rounding
from acmix_bench.report.table.grid import Table


def gate_table(found: Sequence[Finding], unlike: Sequence[str], not_compared: Sequence[str]) -> Table:
    """Two runs beside each other: timings, and of what is exact each row's changes."""
    rows, unchanged = [], 0
    for finding in found:
        if finding.ratio is None and finding.difference is None and finding.verdict == "same":
            unchanged += 1
            continue
        limit, change = "0", rounding.ratio(finding.ratio) or "-"
        if finding.threshold is not None:
            limit = f"{100 * finding.threshold:g} %"
        if finding.difference is not None:
            change = rounding.difference(finding.difference, finding.difference.samples, finding.unit)
        floor = rounding.fine_percent(finding.noise_floor) if finding.noise_floor is not None else "-"
        values = [
            _shown(finding.base, finding.unit),
            _shown(finding.head, finding.unit) or "failed",
            change,
            limit,
            floor,
        ]
        rows.append([finding.label, finding.metric, *values, finding.verdict])
    header = ["row", "metric", "base", "head", "head / base", "limit", "noise\nfloor", "verdict"]
    scores = "Scores: head less base, paired by seed (shares in points); the intervals hold together at 95 %."
    notes = [
        f"{rounding.several(unchanged, 'exact metric is', 'exact metrics are')} equal to the last unit (parameters, "
        "MACs, peak bytes); any increase is a regression.",
        "Timings: ms an image, paired by process; the intervals hold together at 95 %. A regression or an improvement "
        "is one whose whole interval lies beyond the limit and the noise floor, the smallest difference that can be "
        "told here.",
        *([scores] if any(finding.difference for finding in found) else []),
        *(f"UNLIKE: {difference}." for difference in unlike),
        *(f"Not compared: {line}." for line in not_compared),
    ]
    return Table(title="Base against head", header=header, rows=rows, notes=notes)


def _shown(value: float | None, unit: Unit) -> str:
    """Nothing for None."""
    return rounding.milliseconds(value) if unit == "seconds" else rounding.number(value, unit)


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
