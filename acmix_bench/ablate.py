"""The main flow: an experiment becomes cells, cells become records, records become a comparison."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from acmix_bench import backbones, data, launch, spec
from acmix_bench.compare import Comparison, compare
from acmix_bench.errors import UserError
from acmix_bench.meters.turns import Turns
from acmix_bench.progress import Progress
from acmix_bench.record import Environment, Plan, Record, Run, Store, machine_state, this_environment
from acmix_bench.spec import Cell, Experiment, Row
from acmix_bench.table import render
from acmix_bench.table.raw import to_csv

Measure = Callable[[Sequence[Cell], float], list[launch.Outcome]]
Check = Callable[[list[Cell], float], None]


@dataclass(frozen=True, kw_only=True)
class Finished:
    """What a run leaves: its comparison, how many cells it measured now, and whether Ctrl-C ended it."""

    comparison: Comparison
    measured: int
    interrupted: bool


def rows_of(experiment: Experiment, extra: Sequence[str] = ()) -> list[Row]:
    """An experiment's rows: its models by name, or its variants and the `extra` ones on its backbone.

    Raises:
        UserError: for an unknown name.
    """
    if not experiment.models:
        case = backbones.case_of(experiment.backbone, image_size=experiment.image_size, data=experiment.data)
        return [implemented(row, experiment) for row in spec.rows_of(experiment, case, extra)]
    elsewhere = experiment.image_size or experiment.data or experiment.backbone != spec.DEFAULT_BACKBONE
    if extra or elsewhere:
        raise UserError(
            f"experiment {experiment.name} compares models, whose names say all: --variant, backbone, image_size and "
            "data have no effect there (a size is written MODEL@SIZE)"
        )
    return [implemented(backbones.find_model(name), experiment) for name in experiment.models]


def implemented(row: Row, experiment: Experiment) -> Row:
    """The row in the implementation that the experiment asks of all; its label stays."""
    if experiment.implementation is None or "implementation" not in row.variant.content():
        return row
    return row.model_copy(
        update={"variant": row.variant.model_copy(update={"implementation": experiment.implementation})}
    )


def plan_of(experiment: Experiment, rows: Sequence[Row]) -> Plan:
    """Settle everything that a cell's key depends on; names are checked here, shapes by `launch.check`.

    Raises:
        UserError: for an unknown backbone or data set, or two rows that are one measurement.
    """
    first: dict[str, Row] = {}
    for row in rows:
        backbones.find(row.case.backbone)
        data.find(row.case.data)
        same = first.setdefault(row.content, row)
        if same is not row:
            how = f" with implementation={experiment.implementation}" if experiment.implementation else ""
            raise UserError(f"{same.label} and {row.label} are one and the same measurement{how}; leave one out")
    environment = this_environment()
    threads = experiment.protocol.threads or environment.cores
    protocol = experiment.protocol.model_copy(update={"threads": threads})
    experiment = experiment.model_copy(update={"protocol": protocol})
    code = {row.variant.operator: spec.code_version(row.variant.operator) for row in rows}
    return Plan(experiment=experiment, rows=tuple(rows), code=code, environment=environment)


def ablate(plan: Plan, store: Store, *, measure: Measure = launch.measure, check: Check = launch.check) -> Finished:
    """Measure what is not measured yet, keeping each record at once, and write the tables.

    Ctrl-C ends the run, not the records: the tables then show what there is, and the same command goes on.
    """
    timeout = plan.experiment.protocol.timeout
    done = finished(plan, store)
    if any(cell.key not in done for cell in plan.cells):
        check(one_cell_a_row(plan), timeout)
    measured, interrupted = 0, False
    with store.opened(plan):
        try:
            for record in records(plan, done, measure):
                store.append(record)
                measured += 1
        except KeyboardInterrupt:
            interrupted = True
        comparison = compare(store.load())
        write_tables(store, comparison)
    return Finished(comparison=comparison, measured=measured, interrupted=interrupted)


def finished(plan: Plan, store: Store) -> set[str]:
    """Keys of the plan's cells that need no measuring."""
    records = store.finished([cell.key for cell in plan.cells], plan.environment)
    return {key for key, record in records.items() if record.is_result}


def measure_now(plan: Plan, *, measure: Measure = launch.measure, check: Check = launch.check) -> Comparison:
    """Measure a plan for its tables alone: nothing is kept, nothing is reused."""
    check(one_cell_a_row(plan), plan.experiment.protocol.timeout)
    return compare(Run(plan=plan, records=tuple(records(plan, set(), measure))))


def serve(plan: Plan, store: Store, asked: Iterable[tuple[int, Turns]]) -> Iterator[int]:
    """Measure the plan's groups as they are asked for, timings in turns with another version's.

    Each group's number is given back when its records are on disk.
    """
    timeout, groups = plan.experiment.protocol.timeout, spec.groups_of(plan.cells)
    launch.check(one_cell_a_row(plan), timeout)
    with store.opened(plan):
        for number, turns in asked:
            for record in _measured(groups[number], plan.environment, timeout, partial(launch.measure, turns=turns)):
                store.append(record)
            yield number


def records(plan: Plan, done: set[str], measure: Measure) -> Iterator[Record]:
    """Measure the cells that are not done, in order. Timings that belong together are made together, or again."""
    groups = [cells for cells in spec.groups_of(plan.cells) if any(cell.key not in done for cell in cells)]
    left = {cell.key for cells in groups for cell in cells}
    with Progress(plan.cells, done - left) as progress:
        for cells in groups:
            progress.start(cells)
            for record in _measured(cells, plan.environment, plan.experiment.protocol.timeout, measure):
                progress.finish(record)
                yield record


def one_cell_a_row(plan: Plan) -> list[Cell]:
    """The cells that show whether each row can be: its accuracy, which needs most, or else any."""
    cells = sorted(plan.cells, key=lambda cell: cell.meter == "accuracy")
    return list({cell.row.label: cell for cell in cells}.values())


def write_tables(store: Store, comparison: Comparison) -> None:
    """Leave the tables beside the records."""
    store.write("table.md", render(comparison, "md"))
    store.write("table.csv", to_csv(comparison))


def _measured(cells: list[Cell], environment: Environment, timeout: float, measure: Measure) -> list[Record]:
    started, clock, state = datetime.now(UTC), time.monotonic(), machine_state()
    outcomes = measure(cells, timeout)
    return [
        Record(
            key=cell.key,
            cell=cell,
            environment=environment,
            started=started.isoformat(timespec="seconds"),
            seconds=(time.monotonic() - clock) / len(cells),
            state=state,
            status=outcome.status,
            reason=outcome.reason,
            values=outcome.values,
        )
        for cell, outcome in zip(cells, outcomes, strict=True)
    ]
