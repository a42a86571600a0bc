"""The work of a sweep: a function that measures cells where it is called, on this machine or on another."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from acmix_bench.errors import UserError
from acmix_bench.runs.code import code_of
from acmix_bench.runs.environment import Environment, machine_state, this_environment
from acmix_bench.runs.load import look, taken_since
from acmix_bench.runs.local import Outcome
from acmix_bench.runs.record import Record, Status
from acmix_bench.spec.cell import Cell

Measure = Callable[..., list[Outcome]]


@dataclass(frozen=True, kw_only=True)
class Work:
    """Call it with the cells of a group, for a record each. It can be pickled and called on another machine.

    Attributes:
        environment: of this machine, where it is called here. Elsewhere it is read, and the code is checked.
        folder: where the command was given. What is named by a path is looked for below it.
    """

    measure: Measure
    timeout: float
    environment: Environment | None = None
    folder: str = ""

    def __call__(self, cells: Sequence[Cell], **how: Any) -> list[Record]:
        """Measure cells together; `how` goes to the measuring."""
        if self.environment is None:
            enter(self.folder)
        environment = self.environment or this_environment()
        unlike = {} if self.environment else {cell.key: other_code(cell) for cell in cells}
        started, clock, state, before = datetime.now(UTC), time.monotonic(), machine_state(), look()
        fit = [cell for cell in cells if not unlike.get(cell.key)]
        outcomes = iter(self.measure(fit, self.timeout, **how) if fit else [])
        seconds = (time.monotonic() - clock) / max(1, len(fit))
        if self.environment and (taken := taken_since(before)):  # elsewhere others of this run may be beside it
            state = state.model_copy(update={"others": taken.others, "stolen": taken.stolen})
        found = []
        for cell in cells:
            reason = unlike.get(cell.key)
            outcome = Outcome(status="crashed", reason=reason) if reason else next(outcomes)
            found.append(
                Record(
                    key=cell.key,
                    cell=cell,
                    environment=environment,
                    started=started.isoformat(timespec="seconds"),
                    seconds=0 if reason else seconds,
                    state=state,
                    status=outcome.status,
                    reason=outcome.reason,
                    values=outcome.values,
                    output=outcome.output,
                )
            )
        return found


def unmeasured(cells: Iterable[Cell], environment: Environment, status: Status, reason: str) -> list[Record]:
    """Records of cells that were not measured, which say why."""
    started, state = datetime.now(UTC).isoformat(timespec="seconds"), machine_state()
    told: dict[str, Any] = {"environment": environment, "started": started, "state": state}
    return [Record(key=cell.key, cell=cell, seconds=0, status=status, reason=reason, **told) for cell in cells]


def enter(folder: str) -> None:
    """Go where the command was given, so that a user's own files are found as they are there."""
    with suppress(OSError):  # what is missed is told by name
        os.chdir(folder)
    if "" not in sys.path:
        sys.path.append("")


def other_code(cell: Cell) -> str | None:
    """Why a cell cannot be measured on this machine, whose code is another one; None where it is the cell's."""
    try:
        same = code_of(cell.row, cell.meter) == cell.code
    except UserError as error:
        return f"{error}; what is your own must lie on every node where it lies here"
    what = f"{cell.row.label}: {cell.meter} would run other code here than where the command was given"
    return None if same else f"{what}; install one version on all nodes, and give them the same files"
