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
from acmix_bench.runs.accelerators import environment_on
from acmix_bench.runs.code import code_of, look_again
from acmix_bench.runs.environment import Environment, machine_state
from acmix_bench.runs.load import look, taken_since
from acmix_bench.runs.local import Outcome
from acmix_bench.runs.record import Record, Status
from acmix_bench.spec.cell import Cell

Measure = Callable[..., list[Outcome]]


@dataclass(frozen=True, kw_only=True)
class Work:
    """Call it with the cells of a group, for a record each. It can be pickled and called on another machine.

    Attributes:
        folder: where the command was given. What is named by a path is looked for below it.
        device: that of the protocol; of several of its kind a cell may get one.
        is_elsewhere: whether it is called on other machines, where other cells of the sweep may be beside it.
    """

    measure: Measure
    timeout: float
    folder: str = ""
    device: str = "cpu"
    is_elsewhere: bool = False

    def __call__(self, cells: Sequence[Cell], **how: Any) -> list[Record]:
        """Measure cells together; `how` goes to the measuring. A cell whose code is edited meanwhile fails."""
        if self.is_elsewhere:
            enter(self.folder)
        unlike = self._unlike(cells)
        started, clock, state, before = datetime.now(UTC), time.monotonic(), machine_state(), look()
        fit = [cell for cell in cells if not unlike[cell.key]]
        measured = self.measure(fit, self.timeout, **how) if fit else []
        outcomes = {cell.key: outcome for cell, outcome in zip(fit, measured, strict=True)}
        seconds = (time.monotonic() - clock) / max(1, len(fit))
        if not self.is_elsewhere and (taken := taken_since(before)):
            state = state.model_copy(update={"others": taken.others, "stolen": taken.stolen})
        unlike |= self._unlike(fit)  # somebody may have edited it meanwhile
        environment, found = environment_on(self.device), []
        for cell in cells:
            outcome = outcomes.get(cell.key, Outcome(status="crashed"))
            if reason := unlike[cell.key]:
                outcome = Outcome(status="crashed", reason=reason, output=outcome.output)
            found.append(
                Record(
                    key=cell.key,
                    cell=cell,
                    environment=environment.on(outcome.values.get("gpu")),
                    started=started.isoformat(timespec="seconds"),
                    seconds=seconds if cell.key in outcomes else 0,
                    state=state,
                    status=outcome.status,
                    reason=outcome.reason,
                    values=outcome.values,
                    output=outcome.output,
                )
            )
        return found

    def _unlike(self, cells: Sequence[Cell]) -> dict[str, str | None]:
        """Why each cell cannot be measured now, by its key; None where its code is here as it was."""
        look_again()
        return {cell.key: other_code(cell, is_elsewhere=self.is_elsewhere) for cell in cells}


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


def other_code(cell: Cell, *, is_elsewhere: bool = True) -> str | None:
    """Why a cell cannot be measured now, whose code or data are other ones; None where they are the cell's."""
    try:
        same = code_of(cell.row, cell.meter) == cell.code
    except UserError as error:
        return f"{error}; what is your own must lie on every node where it lies here" if is_elsewhere else str(error)
    if same:
        return None
    if is_elsewhere:
        what = f"{cell.row.label}: {cell.meter} would run other code here than where the command was given"
        return f"{what}; install one version on all nodes, and give them the same files"
    return f"its code was edited after the command was given; the same command measures {cell.row.label} anew"
