"""Runs of several machines, or of several ranges of seeds, become one.

Counts and scores are pooled, each from where it was measured first. Timings are never mixed: those of the first run
that has any stand in the main tables, those of every other run stay a run of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from acmix_bench import meters
from acmix_bench.errors import UserError
from acmix_bench.runs.record import KeptPlan, Record, Run
from acmix_bench.spec.cell import CHECKS, Row
from acmix_bench.spec.experiment import Experiment

Part = tuple[str, Run]
# What of the protocol may be another one: how much was measured, and what belongs to a machine.
MAY_DIFFER = ("threads", "data_root", "processes", "seconds", "precision", "seeds", "first_seed", "timeout", "memory")
SHOWN = 5  # doubles, before the others are only counted


def merge(runs: Sequence[Part]) -> tuple[Run, list[str]]:
    """Make one run of several.

    Args:
        runs: each with the name that it is told by; the first says how rows are called and which come first.

    Returns:
        The run, and what somebody should know of how it was made: doubles, and what was not measured.

    Raises:
        UserError: where the runs are not of one experiment, one protocol and one version of the code.
    """
    parts = [(name, one) for name, run in runs for one in (run, *run.others)]
    for part in parts[1:]:
        _refuse_unlike(parts[0], part)
    rows = list({row.content: row for _, run in reversed(parts) for row in reversed(run.plan.rows)}.values())[::-1]
    _refuse_ambiguous(rows)
    notes = [
        f"{name}: {len(missing)} of {len(keys)} cells are not measured"
        for name, run in runs
        if not run.plan.merged
        and (keys := run.plan.keys if isinstance(run.plan, KeptPlan) else [cell.key for cell in run.plan.cells])
        and (missing := set(keys) - {record.key for record in run.records})
    ]
    pooled, doubles = _pooled(parts)
    timed, copies = _timed_apart(parts)
    doubles += copies
    main = timed[0] if timed else parts[0][1]
    records = [*pooled, *(record for record in main.records if _is_timing(record))]
    environments = list(dict.fromkeys([main.plan.environment, *(record.environment for record in records)]))
    plan = KeptPlan(
        experiment=_experiment(parts, pooled),
        rows=tuple(rows),
        code={key: code for _, run in reversed(parts) for key, code in run.plan.code.items()},
        environment=main.plan.environment,
        pooled=tuple(environments[1:]),
        merged=tuple(name for name, _ in runs),
        keys=tuple(record.key for record in records),
    )
    labels = {row.content: row for row in rows}
    notes += doubles[:SHOWN] + [f"and {len(doubles) - SHOWN} more doubles"] * (len(doubles) > SHOWN)
    return Run(plan=plan, records=tuple(record.named_by(labels) for record in records), others=tuple(timed[1:])), notes


def _refuse_unlike(first: Part, other: Part) -> None:
    """Refuse what cannot stand in one table: another experiment, protocol or code."""
    (name, base), (their_name, run) = first, other
    where = f"{name} and {their_name} cannot be merged"
    ours, theirs = base.plan.experiment, run.plan.experiment
    for key in ("name", "baseline"):
        if getattr(ours, key) != getattr(theirs, key):
            raise UserError(f"{where}: {key} is {getattr(ours, key)} in one and {getattr(theirs, key)} in the other")
    for key, value in ours.protocol:
        if key not in MAY_DIFFER and value != getattr(theirs.protocol, key):
            raise UserError(f"{where}: {key} is {value} in one and {getattr(theirs.protocol, key)} in the other")
    for key, code in base.plan.code.items():
        if run.plan.code.get(key, code) != code:
            raise UserError(f"{where}: they ran different code for {key}; measure one of them again")


def _refuse_ambiguous(rows: Sequence[Row]) -> None:
    known: dict[str, Row] = {}
    for row in rows:
        if known.setdefault(row.label, row) is not row:
            raise UserError(f"the runs cannot be merged: {row.label} is one variant in one of them and one in another")


def _pooled(parts: Sequence[Part]) -> tuple[list[Record], list[str]]:
    """Each count and score once, and a line for each that was there twice.

    Of a seed, rows come from the run that has most of them, so that they are paired on one machine where they can be.
    """
    together: dict[tuple[str, int], dict[int, list[Record]]] = {}
    for number, (_, run) in enumerate(parts):
        for record in run.records:
            if not _is_timing(record):
                found = together.setdefault((record.cell.meter, record.cell.repeat), {})
                found.setdefault(number, []).append(record)
    kept: list[Record] = []
    told: list[str] = []
    for by_part in together.values():
        fullest = sorted(by_part, key=lambda number: -sum(record.is_result for record in by_part[number]))
        candidates = [(parts[number][0], record) for number in fullest for record in by_part[number]]
        taken: dict[str, tuple[str, Record]] = {}
        for name, record in sorted(candidates, key=lambda one: not one[1].is_result):  # a failure gives way to a result
            before = taken.setdefault(record.cell.row.content, (name, record))
            if before[1] is not record and record.is_result:
                told += _double(before, (name, record))
        kept += [record for _, record in taken.values()]
    return kept, told


def _double(kept: tuple[str, Record], left: tuple[str, Record]) -> Iterator[str]:
    """A line where the same cell was measured twice: that it was, or, of a count, that the two differ."""
    (name, ours), (their_name, theirs) = kept, left
    meter = meters.find(ours.cell.meter)
    is_score = meter.repeats == "seeds"
    values = [[metric.numbers(record.values) for metric in meter.metrics if metric.gated] for record in (ours, theirs)]
    what = f"{ours.cell.row.label}: {ours.cell.meter}" + f" of seed {ours.cell.repeat}" * is_score
    if values[0] != values[1]:
        yield f"{what} is in {name} and in {their_name}, and differs; {name} stands"
    elif is_score:
        yield f"{what} is in {name} and in {their_name}; {name} stands"


def _timed_apart(parts: Sequence[Part]) -> tuple[list[Run], list[str]]:
    """The timings of each run that has any, with what says whether they may be shown; copies are told, and left out."""
    timed: list[Run] = []
    copies: list[str] = []
    seen: set[Any] = set()
    for name, run in parts:
        timings = [record for record in run.records if _is_timing(record)]
        fresh = [record for record in timings if _identity(record) not in seen]
        if len(fresh) < len(timings):
            copies.append(f"{name}: {len(timings) - len(fresh)} timings are those of another run")
        seen.update(map(_identity, timings))
        if not fresh:
            continue
        shown = tuple(n for n in run.plan.experiment.meters if n in CHECKS or meters.find(n).is_timing)
        records = [record for record in run.records if record.cell.meter in CHECKS] + fresh
        experiment = run.plan.experiment.model_copy(update={"meters": shown})
        known = run.plan.model_dump() | {"experiment": experiment.model_dump()}
        names = run.plan.merged if len(run.plan.merged) == 1 else (name,)  # timings of a run that was merged before
        known |= {"keys": [record.key for record in records], "merged": names, "pooled": (), "others": ()}
        timed.append(Run(plan=KeptPlan(**known), records=tuple(records)))
    return timed, copies


def _experiment(parts: Sequence[Part], pooled: Sequence[Record]) -> Experiment:
    """The first run's, with the meters of all and as many seeds as there are."""
    first = parts[0][1].plan.experiment
    seeds = {record.cell.repeat for record in pooled if meters.find(record.cell.meter).repeats == "seeds"}
    protocol = first.protocol.model_copy(
        update={"seeds": len(seeds) or first.protocol.seeds, "first_seed": min(seeds, default=0)}
    )
    names = tuple(dict.fromkeys(name for _, run in parts for name in run.plan.experiment.meters))
    return first.model_copy(update={"protocol": protocol, "meters": names})


def _identity(record: Record) -> tuple[Any, ...]:
    """The same in all copies of a record, and in no other one."""
    return record.key, record.started, record.environment


def _is_timing(record: Record) -> bool:
    return meters.find(record.cell.meter).is_timing
