"""What was measured: a record a cell, the plan that it belongs to, and the run that both make."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field

from acmix_bench.runs.environment import Environment, State
from acmix_bench.spec.cell import Cell, Row, cells_of
from acmix_bench.spec.experiment import Experiment
from acmix_bench.spec.strict import Value

# Of records and plans. It is counted up when an older version could no longer tell what a newer one wrote; files of
# before it was written down are read as the first.
FORMAT = 1
Status = Literal["ok", "diverged", "crashed", "timeout", "withheld"]
# Of what was measured before, what a run measures again: what crashed or came too late, what diverged too, or all.
Again = Literal["crashed", "failed", "all"]


class Record(Value):
    """A cell, where and when it ran, and its raw values or the reason why there are none."""

    key: str
    cell: Cell
    environment: Environment
    started: str
    seconds: float
    state: State
    status: Status
    reason: str | None = None
    values: dict[str, Any] = {}
    output: str = Field("", exclude=True, description="the end of what it printed; a file of its own keeps it")
    format: Literal[1] = 1

    @property
    def is_result(self) -> bool:
        """Whether this answers the cell; a crash or a timeout is tried again by the next run."""
        return self.status in ("ok", "diverged")

    def counts(self, again: Again) -> bool:
        """Whether a run that measures so much again keeps this."""
        return again != "all" and self.is_result and (again == "crashed" or self.status == "ok")

    def named_by(self, rows: Mapping[str, Row]) -> Record:
        """Under the label that a run has for this row, by its content; another run may have called it otherwise."""
        row = rows.get(self.cell.row.content, self.cell.row)
        return self.model_copy(update={"cell": self.cell.model_copy(update={"row": row})})


class Plan(Value):
    """What a run set out to measure, and where.

    Attributes:
        code: the version of what each row runs, by label and meter.
        merged: of a run that was made of others, their names.
        environment: of all its timings; of a run on one machine, of everything.
        pooled: the other environments that its counts and scores may come from.
    """

    experiment: Experiment
    rows: tuple[Row, ...]
    code: dict[str, str]
    environment: Environment
    merged: tuple[str, ...] = ()
    pooled: tuple[Environment, ...] = ()

    @cached_property
    def cells(self) -> list[Cell]:
        """All cells in the order in which they are measured.

        A plan of a version that knew no check of what runs as it is timed has no cells of it.
        """
        experiment = self.experiment
        cells = cells_of(
            self.rows,
            experiment.meters,
            experiment.protocol,
            lambda row, meter: self.code.get(f"{row.label} {meter}", ""),
        )
        return [cell for cell in cells if cell.meter != "as_timed" or cell.code]


class KeptPlan(Plan):
    """A plan as it stands in `run.json`, with the keys of its cells as the version gave them that measured them.

    A version with more axes would give others, and still can read what was measured. `file` is the experiment's, seen
    from the folder of the run: nothing where it came with the package, and None where that was not written down.
    `others` are folders in that folder: runs whose timings stand apart.
    """

    keys: tuple[str, ...]
    file: str | None = None
    others: tuple[Annotated[str, Field(pattern=r"^timings-\d+$")], ...] = ()
    format: Literal[1] = 1


class Run(Value):
    """A plan with the records that exist of it: what the views read. `others` are timings that stand apart."""

    plan: Plan
    records: tuple[Record, ...]
    others: tuple[Run, ...] = ()
