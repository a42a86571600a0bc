"""How far a run is, as a table, and as JSON."""

from __future__ import annotations

from datetime import datetime
from statistics import fmean
from typing import Any

from acmix_bench.report.rounding import several
from acmix_bench.report.table.grid import Table
from acmix_bench.runs.bar import clock
from acmix_bench.runs.load import TELLING
from acmix_bench.runs.record import Record
from acmix_bench.runs.status import Status
from acmix_bench.spec.meter import short

SHOWN = 5  # failures, before the others are only counted


def status_table(status: Status) -> Table:
    """A row a meter, what failed, and what runs where."""
    cells, done, left, seconds = status.cells.total(), status.done.total(), status.left, status.seconds_left
    told = [
        f"{status.folder}: {status.state}",
        f"{done:,} of {cells:,} cells done",
        f"{len(status.failures):,} failed" * bool(status.failures),
        f"{clock(seconds)} left" if left and seconds is not None else "",
    ]
    rows = [
        [
            short(meter),
            f"{status.done[meter]:,}",
            f"{sum(record.cell.meter == meter for record in status.failures):,}",
            f"{status.running[meter]:,}",
            f"{left[meter]:,}",
            f"{fmean(status.seconds[meter]):.2f}" if status.seconds.get(meter) else "-",
        ]
        for meter in status.cells
    ]
    return Table(
        title=", ".join(filter(None, told)),
        header=["meter", "done", "failed", "running", "left", "seconds\na cell"],
        rows=rows,
        problems=_problems(status),
        notes=_notes(status),
    )


def _problems(status: Status) -> list[str]:
    told = [f"{_named(one)} {one.status}: {one.reason}" for one in status.failures[:SHOWN]]
    more = len(status.failures) - SHOWN
    return told + [f"and {more:,} more that failed: acmix-bench table {status.folder}"] * (more > 0)


def _named(record: Record) -> str:
    return f"{record.cell.row.label}: {short(record.cell.meter)} {record.cell.repeat}"


def _notes(status: Status) -> list[str]:
    """Who measures it, what runs now, and what somebody should know of the records."""
    writing, last, told = status.writing, status.last, []
    if writing:
        jobs = f", {writing.jobs} jobs" if writing.jobs > 1 else ""
        who = f"process {writing.pid} on {writing.host}, since {_at(writing.started)}{jobs}"
        if status.state == "running":
            told.append(f"Measured by {who}.")
        else:
            told.append(f"Was killed: {who}. The same command goes on.")
    elif status.state == "running":
        told.append("Somebody writes here; what runs is not written down.")
    told += [
        f"{'Runs' if status.state == 'running' else 'Ran when it was killed'}: {one.row}: {short(one.meter)} "
        f"{one.repeat}{f' on {one.where}' * bool(one.where)}, since {_at(one.time)}."
        for one in status.current
    ]
    if last and status.last_seconds is not None:
        told.append(f"The last record was written {clock(status.last_seconds)} ago: {_named(last)}, {last.status}.")
    elif last:
        told.append(f"The last record is of {last.started}: {_named(last)}, {last.status}.")
    if status.torn:
        count = several(status.torn, "record was", "records were")
        told.append(f"{count} cut short by a kill; such a cell is measured again (torn.jsonl).")
    if status.is_cut:
        told.append("The last line is cut short; the next run sets it aside.")
    if status.most_taken >= TELLING * status.plan.environment.cores:
        told.append(
            f"Other work took up to {status.most_taken:.1f} of {status.plan.environment.cores} cores meanwhile."
        )
    return told


def _at(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(sep=" ", timespec="seconds")


def as_json(status: Status) -> dict[str, Any]:
    """All of it, for a program."""
    writing, seconds, left = status.writing, status.seconds_left, status.left
    current = [one.model_dump() for one in status.current]
    return {
        "run": str(status.folder),
        "experiment": status.plan.experiment.name,
        "state": status.state,
        "cells": status.cells.total(),
        "done": status.done.total(),
        "failed": len(status.failures),
        "left": left.total(),
        "seconds_left": seconds,
        "meters": {
            meter: {
                "cells": status.cells[meter],
                "done": status.done[meter],
                "failed": sum(record.cell.meter == meter for record in status.failures),
                "running": status.running[meter],
                "left": left[meter],
            }
            for meter in status.cells
        },
        "running": current if status.state == "running" else [],
        "ran_when_killed": current if status.state == "killed" else [],
        "failures": [
            {
                "key": one.key,
                "row": one.cell.row.label,
                "meter": one.cell.meter,
                "repeat": one.cell.repeat,
                "status": one.status,
                "reason": one.reason,
            }
            for one in status.failures
        ],
        "writing": writing.model_dump(exclude={"cells", "before", "format"}) if writing else None,
        "last_record_seconds_ago": status.last_seconds,
        "torn_records": status.torn,
        "is_cut_short": status.is_cut,
        "most_cores_taken_by_others": status.most_taken,
    }
