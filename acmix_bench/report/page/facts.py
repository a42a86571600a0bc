"""What a page tells of a run beside its numbers: what failed and why, where it ran, and how to repeat it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from acmix_bench.analysis.compare import Comparison
from acmix_bench.errors import UserError, a_few
from acmix_bench.report import rounding
from acmix_bench.runs.record import Plan, Record, Run
from acmix_bench.spec import library
from acmix_bench.spec.meter import short

MOST_FAILURES = 30  # ways in which cells fail; of more, the first
TAIL_LINES = 30  # of what a cell printed
NAMES = {"cpu": "CPU", "gpu": "GPU", "memory_gib": "memory, GiB", "quota": "cores granted", "native": "native operator"}


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One way in which cells failed, which cells, and the end of what the first of them printed."""

    what: str
    cells: str
    tail: str


def failures(comparison: Comparison) -> list[Failure]:
    """Every way in which cells have no number: timings that were withheld, then what failed, most cells first."""
    told = [
        Failure(what=f"timings withheld: {line.withheld}", cells=line.row.label, tail="")
        for line in comparison.lines
        if line.withheld
    ]
    ways: dict[tuple[str, str | None], list[Record]] = {}
    for record in comparison.run.records:
        if record.status != "ok":
            ways.setdefault((record.status, record.reason), []).append(record)
    for (status, reason), records in sorted(ways.items(), key=lambda way: -len(way[1])):
        cells = list(dict.fromkeys(f"{r.cell.row.label}: {short(r.cell.meter)} {r.cell.repeat}" for r in records))
        tail = next((str(r.values["output"]) for r in records if r.values.get("output")), "")
        told.append(
            Failure(
                what=f"{status}: {reason or 'no reason is recorded'}",
                cells=f"{rounding.several(len(records), 'cell', 'cells')} ({a_few(cells)})",
                tail="\n".join(tail.splitlines()[-TAIL_LINES:]),
            )
        )
    return told


def glance(comparison: Comparison) -> dict[str, str]:
    """A run in a few words: how much of it is there, where and when it was measured, what was expected."""
    run, plan = comparison.run, comparison.run.plan
    failed = sum(record.status != "ok" for record in run.records)
    missing = sum(line.missing for line in comparison.lines)
    cells = f"{len(run.records):,} of {len(run.records) + missing:,} measured"
    started = sorted(record.started for record in run.records)
    days = list(dict.fromkeys(day(moment) for moment in (*started[:1], *started[-1:])))
    took = rounding.minutes(sum(record.seconds for record in run.records))
    told = {
        "machine": f"{plan.environment.cpu}, {rounding.several(plan.environment.cores, 'core', 'cores')}"
        + (f", {plan.environment.gpu}" if plan.environment.gpu else ""),
        "cells": f"{cells}, {failed:,} failed" if failed else cells,
        "measured": f"{' to '.join(days)}, in {took}" if days else "nothing yet",
        "expected": plan.experiment.expected,
        "source": plan.experiment.source,
    }
    return told | ({"merged from": a_few(plan.merged)} if plan.merged else {})


def day(started: str) -> str:
    """The day of a time as it is recorded."""
    return started.partition("T")[0]


def environments(run: Run) -> list[dict[str, str]]:
    """The machines and their software, that of the timings first."""
    found = dict.fromkeys((run.plan.environment, *(record.environment for record in run.records)))
    return [
        {NAMES.get(key, key): str(value) for key, value in environment.facts().items() if value not in (None, "")}
        for environment in found
    ]


def conditions(run: Run) -> dict[str, str]:
    """What drifted while it was measured, from the least to the most."""
    states = [record.state for record in run.records]
    ranges: dict[str, list[float]] = {
        "load of the machine": [state.load for state in states],
        "clock, MHz": [state.mhz for state in states if state.mhz is not None],
        "cores that other programs took": [state.others for state in states if state.others is not None],
        "cores that the host took": [state.stolen for state in states if state.stolen is not None],
    }
    told = {}
    for what, values in ranges.items():
        if values:
            ends = dict.fromkeys(rounding.significant(value, 3) for value in (min(values), max(values)))
            told[what] = " to ".join(ends)
    return told


def versions(comparison: Comparison) -> dict[str, str]:
    """The commits of this package that measured it, and the seeds of its trainings, where there are some."""
    protocol, told = comparison.run.plan.experiment.protocol, {}
    commits = dict.fromkeys(commit for record in comparison.run.records if (commit := record.state.commit))
    if commits:
        changed = " (+: and what was changed since)" * any(commit.endswith("+") for commit in commits)
        told["source, by git"] = a_few(list(commits)) + changed
    if any(line.scores for line in comparison.lines):
        seeds = dict.fromkeys((protocol.first_seed, protocol.first_seed + protocol.seeds - 1))
        told["seeds"] = " to ".join(map(str, seeds))
    return told


def commands(name: str, run: Run, kinds: Sequence[str]) -> dict[str, str]:
    """What to type: to measure it, and to see it again."""
    quoted, experiment = shlex.quote(name), run.plan.experiment
    told = {"measure it": experiment.command}
    if run.plan.merged:
        told = {"merge it": f"acmix-bench merge {shlex.join(run.plan.merged)} --out {quoted}", **told}
    file = shlex.quote(f"{experiment.name}.yaml")
    extra = "".join(f" --variant {shlex.quote(label)}" for label in _asked_by_hand(run.plan))
    told["measure it as it was here, with the file below"] = f"acmix-bench ablate --experiment {file}{extra}"
    told["see how far it is"] = f"acmix-bench status {quoted}"
    told["print its tables"] = f"acmix-bench table {quoted}"
    told["every digit"] = f"acmix-bench table {quoted} --format json"
    told |= {f"draw {kind}": f"acmix-bench plot {quoted} {kind}" for kind in kinds}
    told["hold another run against it"] = f"acmix-bench compare {quoted} ANOTHER"
    return told


def _asked_by_hand(plan: Plan) -> list[str]:
    """Rows that came by `--variant`: the experiment does not hold them."""
    if plan.experiment.models or not plan.rows:
        return []
    try:
        held = {row.label for row in library.variant_rows(plan.experiment, plan.rows[0].case)}
    except UserError:  # a variant's file is not here
        return []
    return [row.label for row in plan.rows if row.label not in held]


def as_yaml(plan: Plan) -> str:
    """The experiment with every setting that was in force, as a file that `--experiment` takes."""
    content = plan.experiment.model_dump(mode="json", exclude_defaults=True, exclude={"name", "recipe"})
    content["protocol"] = plan.experiment.protocol.model_dump(mode="json", exclude_none=True)
    return str(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100))


def code(plan: Plan) -> list[tuple[str, str]]:
    """The hash of the code that cells ran, and which cells."""
    ran: dict[str, list[str]] = {}
    for cells, key in plan.code.items():
        ran.setdefault(key, []).append(cells)
    return [(key, a_few(cells)) for key, cells in ran.items()]


def variants(comparison: Comparison) -> list[Mapping[str, Any]]:
    """What each row is."""
    return [
        {"label": line.row.label, "case": str(line.row.case), "data": line.row.case.data}
        | line.row.variant.model_dump(include={"summary", "claim"})
        for line in comparison.lines
    ]
