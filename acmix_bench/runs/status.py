"""How far a run is, from what it has written: one that goes on, is over, or was killed."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from acmix_bench import files
from acmix_bench.errors import UserError
from acmix_bench.runs.journal import RECORDS, TORN
from acmix_bench.runs.progress import seconds_left
from acmix_bench.runs.record import KeptPlan, Record
from acmix_bench.runs.running import Started, Writing, written
from acmix_bench.runs.store import Store

# Killed is one that had no time to say that it ends; unfinished, one that was interrupted, or has new cells.
State = Literal["running", "killed", "unfinished", "finished"]


@dataclass(frozen=True, kw_only=True)
class Status:
    """How far a run is.

    Attributes:
        cells, done, running: how many there are of each meter; what failed is done, what runs is not.
        failures: the records of what is done and has no number.
        writing: who measures it, or did when it was killed; None where that is not written down.
        current: what runs just now, or did when it was killed.
        seconds: how long the cells of each meter took so far.
        last: the record that was written last.
        last_seconds: how long ago that was; None where nobody writes.
        torn: records that a kill cut short, and that were set aside.
        is_cut: whether the last one is cut short now.
    """

    folder: Path
    plan: KeptPlan
    state: State
    cells: Counter[str]
    done: Counter[str]
    running: Counter[str]
    failures: tuple[Record, ...]
    writing: Writing | None
    current: tuple[Started, ...]
    seconds: dict[str, list[float]]
    last: Record | None
    last_seconds: float | None
    torn: int
    is_cut: bool
    most_taken: float

    @property
    def left(self) -> Counter[str]:
        """How many cells of each meter are not done."""
        return self.cells - self.done

    @property
    def seconds_left(self) -> float | None:
        """How long what is left will take, or would; None where no cell of some meter has ended yet."""
        now, going = time.time(), self.current if self.state == "running" else ()
        jobs = self.writing.jobs if self.writing else 1
        return seconds_left(self.left, [(one.meter, max(0, now - one.time)) for one in going], self.seconds, jobs)


def status_of(folder: Path, *, within: bool = False) -> Status:
    """Look at a run, which somebody may be writing meanwhile.

    Args:
        within: whether it is one of the runs that stand apart in another's folder.

    Raises:
        UserError: where there is none, or this version cannot read it.
    """
    store = Store(folder)
    is_written, writing = store.is_being_written(), written(folder)  # before the records, which are newer then
    plan = store.plan(within=within)
    placed = store.placed(plan.keys, plan.environment, *plan.pooled)
    own = {key for key, (place, _) in placed.items() if writing and place >= writing.before}
    again = writing.again if is_written and writing else None
    kept = {key: record for key, (_, record) in placed.items() if key in own or not again or record.counts(again)}
    meters = _meters(plan) | {key: record.cell.meter for key, (_, record) in placed.items()}
    current = tuple(one for one in writing.cells if one.key not in own) if writing else ()
    rows, seconds = {row.content: row for row in plan.rows}, defaultdict(list)
    for record in kept.values():
        if record.status != "withheld":
            seconds[record.cell.meter].append(record.seconds)
    found = Status(
        folder=folder,
        plan=plan,
        state=_state(plan, is_written=is_written, is_written_down=writing is not None, done=len(kept)),
        cells=Counter(meters.get(key, "not known here") for key in plan.keys),
        done=Counter(record.cell.meter for record in kept.values()),
        running=Counter(one.meter for one in current if is_written),
        failures=tuple(record.named_by(rows) for record in kept.values() if record.status != "ok"),
        writing=writing,
        current=current,
        seconds=seconds,
        last=max(placed.values(), key=lambda one: one[0])[1].named_by(rows) if placed else None,
        last_seconds=_age(folder / RECORDS) if is_written and placed else None,
        torn=_lines(folder / TORN),
        is_cut=not is_written and _is_cut(folder / RECORDS),
        most_taken=max((record.state.others or 0 for record in kept.values()), default=0),
    )
    for name in plan.others:  # timings of a run that was made of others
        other = status_of(folder / name, within=True)
        found.cells.update(other.cells)
        found.done.update(other.done)
    return found


def _state(plan: KeptPlan, *, is_written: bool, is_written_down: bool, done: int) -> State:
    if is_written:
        return "running"
    if is_written_down:
        return "killed"
    return "finished" if done == len(plan.keys) else "unfinished"


def _meters(plan: KeptPlan) -> dict[str, str]:
    """The meter of each cell, where this version would plan as many."""
    with suppress(UserError):  # a meter of somebody's own that is not here
        if len(plan.cells) == len(plan.keys):
            return {key: cell.meter for key, cell in zip(plan.keys, plan.cells, strict=True)}
    return {}


def _age(file: Path) -> float:
    return max(0.0, time.time() - file.stat().st_mtime)


def _lines(file: Path) -> int:
    try:
        with files.opened(file) as lines:
            return sum(1 for _ in lines)
    except OSError:
        return 0


def _is_cut(file: Path) -> bool:
    """Whether the last line has no end."""
    try:
        with files.opened(file) as records:
            return bool(records.seek(0, 2)) and records.seek(-1, 2) >= 0 and records.read() != b"\n"
    except OSError:
        return False
