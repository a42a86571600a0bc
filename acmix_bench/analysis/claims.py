"""From records to verdicts: what each claim's rules come to. Nothing is measured or rounded here.

A kind of rule is one function, from a run to its evidence: an estimate, and which values of it would bear the rule
out. One function makes the verdict of both: supported where the whole interval bears it out, refuted where none of it
does, and else nobody can tell. A count is an interval without width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import fmean, stdev
from typing import Literal

from acmix_bench import stats
from acmix_bench.analysis.compare import Comparison, by_seed, compare, paired_by_repeat, resolution, speedup
from acmix_bench.runs.record import Record, Run
from acmix_bench.spec.claim import (
    Claim,
    Claims,
    Faster,
    Greater,
    NotWorse,
    Proportional,
    Rule,
    Share,
    Trend,
)
from acmix_bench.stats import Estimate

Verdict = Literal["supported", "refuted here", "can't tell"]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a rule reads of a run.

    Attributes:
        estimate: its quantity with the interval that holds together with those of all rules that read the run.
        holds: whether a value of it bears the rule out.
        floor: how much wider the interval is taken at each end, in logarithms: a timing's noise floor.
        needed: samples that it would take to see what matters, at 80 % power; None where that is not known.
    """

    estimate: Estimate
    holds: Callable[[float], bool]
    floor: float = 0.0
    needed: int | None = None


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A rule's verdict with its evidence, or the reason why there is none."""

    rule: Rule
    verdict: Verdict
    evidence: Evidence | None = None
    problem: str | None = None


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A claim with what its rules came to: it is supported where all are, and refuted where one is."""

    claim: Claim
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> Verdict:
        found: set[Verdict] = {finding.verdict for finding in self.findings}
        return "refuted here" if "refuted here" in found else "can't tell" if "can't tell" in found else "supported"


class Unanswered(Exception):
    """Why the records hold no evidence for a rule."""


def judge(claims: Claims, chosen: Sequence[Claim], runs: Mapping[str, Run]) -> list[Judged]:
    """What the chosen claims come to.

    The intervals of all rules that read one experiment hold together at 95 %, those of claims that are not chosen
    among them: which claims somebody looks at changes no verdict.
    """
    compared = {name: compare(run) for name, run in runs.items()}
    return [
        Judged(
            claim=claim,
            findings=tuple(
                finding_of(rule, compared[rule.experiment], confidence_of(claims, rule.experiment))
                for rule in claim.rules
            ),
        )
        for claim in chosen
    ]


def confidence_of(claims: Claims, experiment: str) -> float:
    """Of each interval that rules read of an experiment, for all of them to hold together."""
    return stats.simultaneous(sum(not rule.is_exact for rule in claims.rules_of(experiment)))


def finding_of(rule: Rule, comparison: Comparison, confidence: float) -> Finding:
    """What one rule comes to."""
    try:
        evidence = EVIDENCE[type(rule)](rule, comparison, confidence)
    except Unanswered as reason:
        return Finding(rule=rule, verdict="can't tell", problem=str(reason))
    return Finding(rule=rule, verdict=verdict_of(evidence), evidence=evidence)


def verdict_of(evidence: Evidence) -> Verdict:
    """By the ends of the interval. What bears a rule out is all above or all below a threshold, or one count."""
    low, high = evidence.estimate.low, evidence.estimate.high
    if low is None or high is None:
        return "can't tell"
    ends = {evidence.holds(low * math.exp(-evidence.floor)), evidence.holds(high * math.exp(evidence.floor))}
    return "can't tell" if len(ends) == 2 else "supported" if ends == {True} else "refuted here"


def _greater(rule: Greater, comparison: Comparison, confidence: float) -> Evidence:
    return _difference(rule, comparison, confidence, above=0.0, matters=rule.matters)


def _not_worse(rule: NotWorse, comparison: Comparison, confidence: float) -> Evidence:
    return _difference(rule, comparison, confidence, above=-rule.margin, matters=rule.margin)


def _difference(
    rule: Greater | NotWorse, comparison: Comparison, confidence: float, *, above: float, matters: float
) -> Evidence:
    """Of two rows' scores, paired by seed."""
    ours, theirs = (_records(comparison, label, rule.meter) for label in rule.labels)
    differences = [a - b for a, b in paired_by_repeat(by_seed(ours, rule.meter), by_seed(theirs, rule.meter))]
    estimate = _mean(differences, confidence)
    smallest = resolution([*ours, *theirs], rule.meter)
    return Evidence(
        estimate=stats.at_least(estimate, margin=smallest),
        holds=lambda value: value > above,
        needed=_needed(differences, matters, confidence) if matters > smallest else None,
    )


def _faster(rule: Faster, comparison: Comparison, confidence: float) -> Evidence:
    """Of two rows' throughputs, paired by process and within it by block."""
    ours, theirs = (
        {r.cell.repeat: r for r in _records(comparison, label, rule.meter) if r.values["seconds"]}
        for label in rule.labels
    )
    lines = [line for line in comparison.lines if line.row.label in rule.labels]
    if withheld := next((line.withheld for line in lines if line.withheld), None):
        raise Unanswered(f"timings withheld: {withheld}")
    ratios = [speedup(a, b) for a, b in paired_by_repeat(ours, theirs)]
    if not ratios:
        raise Unanswered("no process has timed both")
    floors = [line.timings[rule.meter].noise_floor for line in lines if rule.meter in line.timings]
    if None in floors:
        raise Unanswered("too few processes for a noise floor")
    return Evidence(
        estimate=stats.ratio(ratios, confidence=confidence),
        holds=lambda value: value > rule.times,
        floor=max((floor for floor in floors if floor is not None), default=0.0),
        needed=_needed([math.log(ratio) for ratio in ratios], math.log(rule.matters), confidence),
    )


def _trend(rule: Trend, comparison: Comparison, confidence: float) -> Evidence:
    """Each seed's slope of log |alpha / beta| over the layers, by least squares."""
    slopes = [
        slope([math.log(abs(alpha / beta)) for alpha, beta in layers])
        for record in _records(comparison, rule.row, rule.meter)
        if len(layers := record.values.get("mixing_weights") or []) > 1 and all(a and b for a, b in layers)
    ]
    if not slopes:
        raise Unanswered(f"{rule.row} has no two layers that mix")
    return Evidence(
        estimate=_mean(slopes, confidence),
        holds=lambda value: value > 0,
        needed=_needed(slopes, rule.matters, confidence),
    )


def slope(values: Sequence[float]) -> float:
    """How much values rise from one to the next, by least squares."""
    centre, mean = (len(values) - 1) / 2, fmean(values)
    rise = sum((place - centre) * (value - mean) for place, value in enumerate(values))
    return rise / sum((place - centre) ** 2 for place in range(len(values)))


def _share(rule: Share, comparison: Comparison, _: float) -> Evidence:
    part, whole = (
        _macs(comparison, label, parts) for label, parts in zip(rule.labels, (rule.parts, rule.of_parts), strict=True)
    )
    if not whole:
        raise Unanswered(f"{rule.of or rule.row} has no multiply-adds in {', '.join(rule.of_parts)}")
    if rule.equal is not None:
        return Evidence(estimate=_exactly(part / whole), holds=lambda value: value == rule.equal)
    return Evidence(estimate=_exactly(part / whole), holds=lambda value: value < (rule.below or 0))


def _proportional(rule: Proportional, comparison: Comparison, _: float) -> Evidence:
    """Of MACs over a power of the sizes: the largest over the smallest, which is 1 where they are in proportion."""
    whole = [Fraction(_macs(comparison, label, rule.parts), size**rule.power) for label, size in rule.sizes.items()]
    if not all(whole):
        raise Unanswered(f"a row has no multiply-adds in {', '.join(rule.parts)}")
    spread = max(whole) / min(whole)  # in whole numbers, in which nothing is lost
    return Evidence(estimate=_exactly(float(spread)), holds=lambda _: spread == 1)


# A function a kind of rule, of the kind that it stands beside here.
EVIDENCE: dict[type[Rule], Callable[..., Evidence]] = {
    Greater: _greater,
    NotWorse: _not_worse,
    Faster: _faster,
    Trend: _trend,
    Share: _share,
    Proportional: _proportional,
}


def _records(comparison: Comparison, label: str, meter: str) -> list[Record]:
    """A row's records of a meter.

    Raises:
        Unanswered: where none has a number.
    """
    ours = [r for r in comparison.run.records if r.cell.row.label == label and r.cell.meter == meter]
    if good := [record for record in ours if record.status == "ok"]:
        return good
    failed = next((f"{record.status}: {record.reason}" for record in ours), "not measured yet")
    raise Unanswered(f"{label}: {failed}")


def _macs(comparison: Comparison, label: str, parts: Sequence[str]) -> int:
    (record, *_) = _records(comparison, label, "macs")
    return sum(record.values["macs_by_stage"].get(part, 0) for part in parts)


def _mean(samples: Sequence[float], confidence: float) -> Estimate:
    if not samples:
        raise Unanswered("no seed has both rows")
    return stats.mean(samples, confidence=confidence)


def _exactly(value: float) -> Estimate:
    return Estimate(value=value, low=value, high=value, samples=1)


def _needed(samples: Sequence[float], difference: float, confidence: float) -> int | None:
    """How many of such samples would show a difference."""
    return None if len(samples) < 2 else stats.samples_to_detect(stdev(samples), difference, confidence=confidence)
