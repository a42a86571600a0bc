"""The claims with their verdicts: a row a rule, with its evidence, where it would hold, and what more it would take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from acmix_bench import meters
from acmix_bench.analysis.claims import Finding, Judged, confidence_of
from acmix_bench.analysis.compare import score_of
from acmix_bench.report import rounding
from acmix_bench.report.table.grid import Table
from acmix_bench.runs.record import Run
from acmix_bench.spec.claim import (
    STAGES,
    Beside,
    Claims,
    Faster,
    Greater,
    NotWorse,
    Proportional,
    Rule,
    Share,
    Trend,
)
from acmix_bench.spec.meter import short

STAGE_2 = {"attention", "fully_connected", "grouped_convolution"}


def claims_table(
    claims: Claims,
    judged: Sequence[Judged],
    runs: Mapping[str, Run],
    *,
    seconds: Mapping[str, float],
    unmeasured: Mapping[str, float],
) -> Table:
    """What the claims come to.

    Args:
        seconds: of each experiment, what a further repeat of it takes.
        unmeasured: of each experiment that is not whole, the seconds that the rest takes.
    """
    rows = []
    for one in judged:
        for number, finding in enumerate(one.findings):
            rule = finding.rule
            more = _more(finding, seconds[rule.experiment], unmeasured.get(rule.experiment))
            each = finding.verdict if len(one.findings) > 1 else ""
            first = [one.claim.name, one.verdict] if not number else ["", ""]
            rows.append([*first, what(rule), _measured(finding), _holds(rule), each, more])
    return Table(
        title="Claims",
        header=["claim", "verdict", "what", "measured here", "holds\nwhere", "each", "to tell more"],
        rows=rows,
        problems=[
            f"{name}: {record.cell.row.label}: {record.cell.meter} {record.cell.repeat} {record.status}: "
            f"{record.reason}"
            for name, run in runs.items()
            for record in run.records
            if record.status != "ok"
        ],
        notes=[
            *(
                f"{one.claim.name}: {one.verdict}: {one.claim.statement} ({one.claim.source}) Here: {one.claim.here}."
                for one in judged
            ),
            f"By the rules in {claims.place}, which has the reason of each threshold. Supported: of every rule of the "
            "claim the whole interval lies where the rule holds; refuted here: of one rule, none of it does; can't "
            "tell: anything else, at this budget. Counts are exact.",
            *_read_together(claims, runs),
            "Differences are in percentage points, paired by seed. Ratios are of throughput, paired by process; "
            "each end of theirs must clear the noise floor too, which two copies of one row show. To tell more: the "
            "seeds or processes in all that would show what the rule says matters, at 80 % power and by the spread "
            "here, and the time of those that are lacking.",
            *(_run_of(name, run, unmeasured.get(name)) for name, run in runs.items()),
        ],
    )


def what(rule: Rule) -> str:
    """What a rule reads, in words."""
    if isinstance(rule, Faster):
        return f"{short(rule.meter)}, {rule.row} / {rule.than}"
    if isinstance(rule, Beside):
        score = score_of(rule.reads)
        return f"{score.title if score and score.title else short(rule.reads)}, {rule.row} - {rule.than}"
    if isinstance(rule, Trend):
        return f"rise of log |alpha / beta| a layer, {rule.row}"
    if isinstance(rule, Share):
        other = "" if rule.of in ("", rule.row) else f" of {rule.of}"
        return f"MACs, {_parts(rule.parts)} of {rule.row} / {_parts(rule.of_parts)}{other}"
    if isinstance(rule, Proportional):
        power = f"^{rule.power}" * (rule.power > 1)
        return f"MACs, {_parts(rule.parts)} / size{power}, largest / smallest of {len(rule.sizes)} rows"
    raise TypeError(rule.kind)


def _parts(parts: Sequence[str]) -> str:
    if set(parts) == set(STAGES):
        return "all"
    if set(parts) == STAGE_2:
        return "stage II"
    return " + ".join("stage I" if part == "stage_1" else part.replace("_", " ") for part in parts)


def _measured(finding: Finding) -> str:
    if finding.evidence is None:
        return finding.problem or "-"
    estimate, rule = finding.evidence.estimate, finding.rule
    if isinstance(rule, (Share, Proportional)):
        return "1" if estimate.value == 1 else rounding.significant(estimate.value, 3)
    if isinstance(rule, Faster):
        floor = f", floor {rounding.fine_percent(finding.evidence.floor)}"
        return rounding.ratio(estimate, finding.evidence.floor).removesuffix(" noise") + floor
    score = score_of(rule.reads)
    unit = "number" if isinstance(rule, Trend) or score is None else score.unit
    return rounding.difference(estimate, estimate.samples, unit).removesuffix(" noise")


def _holds(rule: Rule) -> str:
    if isinstance(rule, (Greater, Trend)):
        return "> 0"
    if isinstance(rule, NotWorse):
        score = score_of(rule.meter)
        return f"> -{100 * rule.margin:g}" if score and score.unit == "percent" else f"> -{rule.margin:g}"
    if isinstance(rule, Faster):
        return f"> {rule.times:g}"
    if isinstance(rule, Share):
        return f"< {rule.below:g}" if rule.below is not None else f"= {rule.equal:g}"
    return "= 1"


def _more(finding: Finding, each: float, unmeasured: float | None) -> str:
    """How much more it would take, where nobody can tell."""
    if finding.verdict != "can't tell":
        return ""
    left = f"about {rounding.minutes(unmeasured)}" if unmeasured else ""
    if finding.evidence is None or finding.evidence.estimate.low is None:
        return left
    have, needed = finding.evidence.estimate.samples, finding.evidence.needed
    units = "seeds" if meters.find(finding.rule.reads).repeats == "seeds" else "processes"
    if needed is None:
        return "more than 100,000 samples"
    if needed <= have:
        return f"what matters would show in {needed} {units}"
    return f"{needed} {units} ({have} now), {rounding.minutes((needed - have) * each)} more"


def _read_together(claims: Claims, runs: Mapping[str, Run]) -> list[str]:
    """How sure the intervals of each experiment are."""
    told = []
    for name in runs:
        count = sum(not rule.is_exact for rule in claims.rules_of(name))
        if count:
            each = rounding.significant(100 * confidence_of(claims, name), 4)
            told.append(f"{name}: {count} at {each} % each" if count > 1 else f"{name}: one")
    if not told:
        return []
    return [f"Intervals that are read of one experiment hold together at 95 % ({'; '.join(told)})."]


def _run_of(name: str, run: Run, unmeasured: float | None) -> str:
    cells = f"{len(run.records)} of {len(run.plan.cells)} cells"
    took = rounding.minutes(sum(record.seconds for record in run.records))
    left = f"; the rest takes about {rounding.minutes(unmeasured)}" if unmeasured else ""
    return f"{name}: {cells} in {took} of work on {run.plan.environment}{left}."


def as_json(judged: Sequence[Judged], runs: Mapping[str, Run]) -> dict[str, Any]:
    """The claims and their evidence with every digit, and how far and where their experiments were measured."""
    return {
        "claims": [
            {
                "claim": one.claim.name,
                "verdict": one.verdict,
                **one.claim.model_dump(include={"statement", "source", "here"}),
                "rules": [_finding_as_json(finding) for finding in one.findings],
            }
            for one in judged
        ],
        "experiments": {
            name: {
                "measured": len(run.records),
                "cells": len(run.plan.cells),
                "environment": run.plan.environment.model_dump(),
            }
            for name, run in runs.items()
        },
    }


def _finding_as_json(finding: Finding) -> dict[str, Any]:
    told: dict[str, Any] = {"kind": finding.rule.kind, **finding.rule.model_dump(), "verdict": finding.verdict}
    if finding.problem:
        told["problem"] = finding.problem
    if evidence := finding.evidence:
        estimate = evidence.estimate
        told |= {"value": estimate.value, "low": estimate.low, "high": estimate.high, "samples": estimate.samples}
        told |= {"noise_floor": evidence.floor, "samples_needed": evidence.needed}
    return told
