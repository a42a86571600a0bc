"""Each kind of rule on each side of its threshold, and where the noise hides it."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import pytest
from fake_meter import answer_one

from acmix_bench import ablate
from acmix_bench.analysis.claims import Finding, Judged, confidence_of, finding_of, judge, slope
from acmix_bench.analysis.compare import Comparison, compare
from acmix_bench.runs.environment import State
from acmix_bench.runs.record import Plan, Record, Run
from acmix_bench.spec import library
from acmix_bench.spec.cell import Cell
from acmix_bench.spec.claim import KINDS, Claim, Claims, Faster, Greater, NotWorse, Proportional, Rule, Share, Trend

WIGGLE = (0.010, -0.010, 0.006, -0.006, 0.003, -0.003)
STATE = State(load=0, mhz=None, commit=None)
SMOKE = {"experiment": "smoke", "why": "a test"}
OURS, THEIRS = "operator=conv", "baseline"


@cache
def plan() -> Plan:
    experiment = library.with_settings(library.load_experiment("smoke"), ["processes=6", "seeds=6"])
    return ablate.plan_of(experiment, ablate.rows_of(experiment))


def compared(**told: Any) -> Comparison:
    """Six seeds and processes, in which the row `operator=conv` differs from the others as told."""

    def values_of(cell: Cell) -> dict[str, Any]:
        values, repeat, is_ours = dict(answer_one(cell).values), cell.repeat, cell.row.label == OURS
        if cell.meter == "accuracy":
            lead = told.get("lead", 0.0) + told.get("spread", 1.0) * WIGGLE[repeat] if is_ours else 0.0
            values["accuracy"] = 0.8 - 0.01 * repeat + lead
            layers = [math.exp(told.get("rise", 0.0) * layer + WIGGLE[repeat] * layer) for layer in range(4)]
            values["mixing_weights"] = [[-0.5 * ratio, 0.5] for ratio in layers] if is_ours else []
        if cell.meter == "macs" and "stages" in told:
            values["macs_by_stage"] = told["stages"][cell.row.label]
        if "seconds" in values:
            second = (2 if repeat == 1 else 1) / (told.get("times", 1.0) * math.exp(WIGGLE[repeat]) if is_ours else 1)
            values["seconds"] = [second] * 3
            if "again_seconds" in values:
                values["again_seconds"] = [second * told.get("again", 1.0)] * 3
        return values

    told_by = {"environment": plan().environment, "started": "now", "seconds": 1.0, "state": STATE, "status": "ok"}
    records = [Record(key=cell.key, cell=cell, values=values_of(cell), **told_by) for cell in plan().cells]
    return compare(Run(plan=plan(), records=tuple(records)))


def found(rule: Rule, **told: Any) -> Finding:
    return finding_of(rule, compared(**told), 0.95)


@pytest.mark.parametrize(
    ("lead", "spread", "verdict"),
    [(0.02, 1, "supported"), (-0.02, 1, "refuted here"), (0.02, 5, "can't tell"), (0.0, 1, "can't tell")],
)
def test_greater(lead: float, spread: float, verdict: str) -> None:
    rule = Greater(row=OURS, than=THEIRS, matters=0.01, **SMOKE)
    one = found(rule, lead=lead, spread=spread)
    assert one.verdict == verdict
    assert one.evidence.estimate.value == pytest.approx(lead)
    assert one.evidence.estimate.samples == 6
    if spread == 5:
        assert one.evidence.needed > 6, "and how many seeds would show a point"


@pytest.mark.parametrize(
    ("lead", "verdict"), [(0.0, "supported"), (-0.01, "supported"), (-0.04, "refuted here"), (-0.02, "can't tell")]
)
def test_not_worse(lead: float, verdict: str) -> None:
    rule = NotWorse(row=OURS, than=THEIRS, margin=0.02, **SMOKE)
    assert found(rule, lead=lead).verdict == verdict


@pytest.mark.parametrize(
    ("times", "again", "verdict"),
    [
        (1.5, 1.0, "supported"),
        (1.2, 1.0, "refuted here"),
        (1.3, 1.0, "can't tell"),
        (1.4, 1.2, "can't tell"),  # two copies of the baseline differ by more
        (1.2, 1.2, "can't tell"),
    ],
)
def test_faster(times: float, again: float, verdict: str) -> None:
    rule = Faster(row=OURS, than=THEIRS, times=1.3, matters=1.05, **SMOKE)
    assert found(rule, times=times, again=again).verdict == verdict


@pytest.mark.parametrize(("rise", "verdict"), [(0.1, "supported"), (-0.1, "refuted here"), (0.002, "can't tell")])
def test_trend(rise: float, verdict: str) -> None:
    one = found(Trend(row=OURS, matters=0.05, **SMOKE), rise=rise)
    assert one.verdict == verdict
    assert one.evidence.estimate.value == pytest.approx(rise)


def test_a_slope_is_that_of_least_squares() -> None:
    assert slope([1.0, 3.0, 5.0]) == pytest.approx(2)
    assert slope([0.0, 1.0, 0.0]) == pytest.approx(0)
    assert slope([3.0, 0.0, 0.0, 0.0]) == pytest.approx(-0.9)


def stages(**told: tuple[int, int]) -> dict[str, dict[str, int]]:
    empty = {"fully_connected": 0, "grouped_convolution": 0, "rest": 1}
    rows = {"baseline": told["base"], OURS: told["ours"], "shift=tensor": told["base"]}
    return {row: {"stage_1": first, "attention": second, **empty} for row, (first, second) in rows.items()}


@pytest.mark.parametrize(
    ("limit", "verdict"), [({"below": 0.51}, "supported"), ({"below": 0.5}, "refuted here"), ({"equal": 0.5}, None)]
)
def test_share(limit: dict[str, float], verdict: str | None) -> None:
    rule = Share(row=OURS, parts=("attention",), of_parts=("stage_1",), **limit, **SMOKE)
    counts = {"stages": stages(base=(10, 10), ours=(20, 10))}
    assert found(rule, **counts).verdict == (verdict or "supported")
    beside = rule.model_copy(update={"of": THEIRS})
    assert found(beside, **counts).verdict == "refuted here", "10 of the other's 10"


def test_proportional() -> None:
    def verdict(ours: int, power: int) -> str:
        rule = Proportional(sizes={THEIRS: 3, OURS: 9}, parts=("attention",), power=power, **SMOKE)
        return found(rule, stages=stages(base=(1, 10**17), ours=(1, ours))).verdict

    assert verdict(3 * 10**17, 1) == "supported"
    assert verdict(3 * 10**17 + 1, 1) == "refuted here", "to the last multiply-add"
    assert verdict(9 * 10**17, 2) == "supported"
    assert verdict(3 * 10**17, 2) == "refuted here"


def test_what_has_no_numbers_says_why() -> None:
    comparison = compared()
    run = comparison.run
    none = Comparison(run=run.model_copy(update={"records": ()}), lines=comparison.lines)
    rules = [
        Greater(row=OURS, than=THEIRS, matters=0.01, **SMOKE),
        Faster(row=OURS, than=THEIRS, matters=1.1, **SMOKE),
        Share(row=OURS, of=THEIRS, below=1, **SMOKE),
    ]
    for rule in rules:
        one = finding_of(rule, none, 0.95)
        assert (one.verdict, one.problem) == ("can't tell", f"{OURS}: not measured yet")
    mixes = finding_of(Trend(row=THEIRS, matters=0.05, **SMOKE), comparison, 0.95)
    assert mixes.problem == "baseline has no two layers that mix"


def claims_of(*rules: Rule) -> Claims:
    told = [
        Claim(name=f"claim {number}", statement="so", source="a test", here="nowhere", rules=(rule,))
        for number, rule in enumerate(rules)
    ]
    return Claims(place="here", minutes={"smoke": 1}, claims=tuple(told))


def test_intervals_of_one_experiment_hold_together_whatever_is_chosen() -> None:
    rule = Greater(row=OURS, than=THEIRS, matters=0.01, **SMOKE)
    exact = Share(row=OURS, of=THEIRS, below=1, **SMOKE)
    claims, run = claims_of(rule, rule, exact), compared(lead=0.02).run
    assert confidence_of(claims, "smoke") == pytest.approx(0.975), "counts have none"
    widths = [
        judge(several, several.claims[:1], {"smoke": run})[0].findings[0].evidence.estimate.margin
        for several in (claims_of(rule), claims)
    ]
    assert widths[1] > widths[0]


def test_a_claim_is_refuted_where_one_rule_is_and_supported_where_all_are() -> None:
    rule = Greater(row=OURS, than=THEIRS, matters=0.01, **SMOKE)
    (claim,) = claims_of(rule).claims

    def verdict(*verdicts: Any) -> str:
        return Judged(claim=claim, findings=tuple(Finding(rule=rule, verdict=one) for one in verdicts)).verdict

    assert verdict("supported", "supported") == "supported"
    assert verdict("supported", "can't tell") == "can't tell"
    assert verdict("can't tell", "refuted here", "supported") == "refuted here"


def test_every_kind_has_its_evidence() -> None:
    from acmix_bench.analysis.claims import EVIDENCE

    assert set(EVIDENCE) == set(KINDS.values())
