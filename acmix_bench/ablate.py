"""The main flow: an experiment becomes cells, cells become records, records become a comparison."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from acmix_bench import backbones, data, heads, meters
from acmix_bench.analysis.compare import Comparison, baselines_of, compare
from acmix_bench.cores import usable_cores
from acmix_bench.errors import Terminated, UserError
from acmix_bench.report.kept import write_tables
from acmix_bench.report.table.columns import chosen
from acmix_bench.runs import local, running
from acmix_bench.runs.accelerators import Device, device_here, environment_on
from acmix_bench.runs.code import code_of, look_again
from acmix_bench.runs.environment import Environment
from acmix_bench.runs.launch.launcher import Launcher
from acmix_bench.runs.process import start_server
from acmix_bench.runs.progress import Loudness, Tell
from acmix_bench.runs.record import Again, Plan, Record, Run
from acmix_bench.runs.store import Store
from acmix_bench.runs.sweep import placed, records
from acmix_bench.runs.work import Measure
from acmix_bench.spec import library
from acmix_bench.spec.cell import Cell, Row, cells_of
from acmix_bench.spec.experiment import DEFAULT_BACKBONE, Case, Experiment

Misfits = Callable[[Sequence[Cell], float], Mapping[str, str]]


@dataclass(frozen=True, kw_only=True)
class Finished:
    """What a run leaves: its comparison, how many cells it measured now, and whether Ctrl-C or SIGTERM ended it."""

    comparison: Comparison
    measured: int
    interrupted: bool
    terminated: bool = False


def rows_of(experiment: Experiment, extra: Sequence[str] = ()) -> list[Row]:
    """An experiment's rows: its models by name, or its variants and the `extra` ones on its backbone.

    Raises:
        UserError: for an unknown name.
    """
    if not experiment.models:
        return [implemented(row, experiment) for row in library.variant_rows(experiment, case_of(experiment), extra)]
    if extra or names_a_case(experiment):
        raise UserError(
            f"experiment {experiment.name} compares models, whose names say all: --variant, backbone, image_size, head "
            "and size have no effect there (they are written BACKBONE-VARIANT+HEAD@SIZE)"
        )
    rows = [implemented(backbones.find_model(name), experiment) for name in experiment.models]
    on = {"data": experiment.data} if experiment.data else {}
    return [row.model_copy(update={"case": row.case.model_copy(update=on)}) for row in rows]


def case_of(experiment: Experiment) -> Case:
    """Where an experiment's variants are measured."""
    return backbones.case_of(
        experiment.backbone, **experiment.model_dump(include={"image_size", "data", "head", "size"})
    )


def names_a_case(experiment: Experiment) -> bool:
    """Whether it says of itself what a model's name says: the backbone, the head or the size."""
    sizes = experiment.image_size or experiment.size
    return bool(sizes or experiment.head or experiment.backbone != DEFAULT_BACKBONE)


def implemented(row: Row, experiment: Experiment) -> Row:
    """The row in the implementation that the experiment asks of all; its label stays."""
    if experiment.implementation is None or "implementation" not in row.variant.content():
        return row
    variant = row.variant.model_copy(update={"implementation": experiment.implementation})
    return row.model_copy(update={"variant": variant})


def plan_of(
    experiment: Experiment,
    rows: Sequence[Row],
    jobs: int = 1,
    devices: Sequence[Device] = (),
    environment: Environment | None = None,
) -> Plan:
    """Settle everything that a cell's key depends on; names are checked here, shapes by `local.misfits`.

    Several jobs, one a device at least, share the cores where `threads` is not set; timings are of the first device.

    Raises:
        UserError: for an unknown backbone, data set or column, or two rows that are one measurement.
    """
    chosen(experiment, experiment.columns, where=f"{experiment.name}: columns")
    first: dict[str, Row] = {}
    for row in rows:
        same = first.setdefault(row.content, row)
        if same is not row:
            how = f" with implementation={experiment.implementation}" if experiment.implementation else ""
            raise UserError(f"{same.label} and {row.label} are one and the same measurement{how}; leave one out")
    protocol, jobs = experiment.protocol, max(jobs, len(devices))
    environment = environment or environment_on(devices[0].name if devices else protocol.device)
    threads, kind = protocol.threads or max(1, usable_cores() // jobs), devices[0].kind if devices else protocol.device
    protocol = protocol.model_copy(update={"threads": threads, "device": kind})
    once = protocol.model_copy(update={"processes": 1, "seeds": 1})
    each = cells_of(rows, experiment.meters, once, lambda *_: "")
    look_again(at_data=True)
    code = {f"{cell.row.label} {cell.meter}": code_of(cell.row, cell.meter) for cell in each}
    experiment = experiment.model_copy(update={"protocol": protocol})
    return Plan(experiment=experiment, rows=tuple(rows), code=code, environment=environment)


def ablate(
    plan: Plan,
    store: Store,
    *,
    insisted: Collection[str] = (),
    file: Path | None = None,
    loudness: Loudness = "normal",
    launcher: Launcher | None = None,
    again: Again = "crashed",
    tell: Sequence[Tell] = (),
    measure: Measure | None = None,
    misfits: Misfits = local.misfits,
) -> Finished:
    """Measure what is not measured yet, keeping each record at once, and write the tables.

    A row that cannot be is withheld with its reason. Ctrl-C ends the run, not the records: the tables then show what
    there is, and the same command goes on.

    Args:
        insisted: labels of the rows that somebody asked for by hand, which must fit.
        file: the experiment's, where it is the user's own.
        launcher: where cells run; here, one after the other, where not given.
        again: what is measured again of what was before.
        tell: are told what happens, as it does.
        measure: how cells are measured; where not given in processes here, with checkpoints beside the records.

    Raises:
        UserError: where a baseline or a row that was insisted on cannot be, or the store cannot be written.
    """
    plan, length = where(plan, store, launcher, again), store.length
    done = finished(plan, store, again)
    missing = {cell.key for cell in plan.cells if cell.key not in done}
    withheld = fitting(plan, insisted, misfits) if missing else {}
    measured, ended = 0, None
    measure = limited(measure or partial(local.measure, checkpoints=store.checkpoints.absolute()), plan)
    jobs = launcher.jobs if launcher else 1
    with store.opened(plan, file), running.written_down(store, jobs, again) as write_down:
        if store.length != length:  # another run ended meanwhile
            done = finished(plan, store, again)
        store.forget(missing if again == "all" else done)
        try:
            with closing(records(plan, done, measure, withheld, loudness, launcher, (write_down, *tell))) as found:
                for record in found:
                    if record.environment not in (plan.environment, *plan.pooled):  # of a node that came later
                        plan = plan.model_copy(update={"pooled": (*plan.pooled, record.environment)})
                        store.keep_plan(plan)
                    store.append(record)
                    if record.output:
                        store.write(f"logs/{record.key}.log", record.output)
                    if record.is_result:
                        store.forget([record.key])
                    measured += record.status != "withheld"
        except KeyboardInterrupt as error:
            ended = error
        comparison = compare(store.load())
        write_tables(store, comparison)
        counts = counted(comparison.run.records, plan)
        if not (counts["failed"] or counts["left"]):
            store.forget()
    for one in tell:
        one({"event": "ended", "time": time.time(), **counts, "is_interrupted": ended is not None})
    return Finished(
        comparison=comparison,
        measured=measured,
        interrupted=ended is not None,
        terminated=isinstance(ended, Terminated),
    )


def counted(kept: Sequence[Record], plan: Plan) -> dict[str, int]:
    """How many cells are done, of them failed, and left."""
    failed = sum(record.status != "ok" for record in kept)
    return {"done": len(kept), "failed": failed, "left": len(plan.cells) - len(kept)}


def finished(plan: Plan, store: Store, again: Again = "crashed") -> dict[str, Record]:
    """The records of the plan's cells that need no measuring, by their keys."""
    if again == "all":
        return {}
    kept = store.finished([cell.key for cell in plan.cells], plan.environment, *plan.pooled)
    return {
        key: record
        for key, record in kept.items()
        if record.counts(again)
        and (record.environment == plan.environment or not meters.find(record.cell.meter).must_be_alone)
    }


def where(plan: Plan, store: Store, launcher: Launcher | None, again: Again = "crashed") -> Plan:
    """The plan with the environments of the machines that a launcher reaches; as it is where everything runs here.

    Raises:
        UserError: where it reaches none.
    """
    if launcher is None or launcher.kinds is None:
        return plan
    if not (kinds := launcher.kinds()):
        raise UserError("the launcher reaches no machine")
    return placed(plan, kinds, [] if again == "all" else store.measured([cell.key for cell in plan.cells]))


def limited(measure: Measure, plan: Plan) -> Measure:
    """The measuring of a plan's cells, within the memory that its protocol grants."""
    return partial(measure, memory=memory) if (memory := plan.experiment.protocol.memory) else measure


def measure_now(plan: Plan, *, measure: Measure = local.measure, misfits: Misfits = local.misfits) -> Comparison:
    """Measure a plan for its tables alone: nothing is kept, nothing is reused, and every row must fit."""
    fitting(plan, [row.label for row in plan.rows], misfits)
    found: list[Record] = []
    for record in records(plan, {}, limited(measure, plan)):
        if record.output and (not found or record.output != found[-1].output):  # one process's, of several cells
            print(record.output, end="", file=sys.stderr, flush=True)
        found.append(record)
    return compare(Run(plan=plan, records=tuple(found)))


# What a command measures by itself, from no file: its question and its meters.
QUESTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "flops": ("parameters and multiply-adds", ("params", "macs")),
    "throughput": ("images a second", ("inference", "training")),
    "train": ("one variant", ("accuracy",)),
}


def named(command: str) -> Experiment:
    """The experiment of a command that has none in a file."""
    question, names = QUESTIONS[command]
    return library.load_experiment("custom").model_copy(update={"name": command, "question": question, "meters": names})


def measure_named(
    command: str,
    models: Sequence[str],
    variants: Sequence[str],
    settings: Sequence[str],
    sizes: Sequence[int] = (),
) -> Comparison:
    """Measure models by name, or else on nano these variants, or all that have all the command's meters.

    With `sizes` the models are torch modules of the user's own, and these the sizes of their input without the batch.

    Raises:
        UserError: for both, an unknown name, or a row that cannot be.
    """
    if models and variants:
        raise UserError("give models or variants, not both: a model names its variant, as in nano-acmix")
    experiment = library.with_settings(named(command), list(settings))
    if sizes and not models:
        raise UserError("--input: say which model, as package.module:Class or file.py:Class")
    if sizes:
        numbers = data.random_of(sizes)
        rows = [backbones.whole_model(model, image_size=sizes[-1], data=numbers) for model in models]
    elif models:
        rows = rows_of(experiment.model_copy(update={"models": tuple(models)}))
    else:
        known = {name: library.load_variant(name).runs for name in library.known("variant")}
        measured = [meters.find(name) for name in experiment.meters]
        whole = [name for name, runs in known.items() if all(map(runs.is_measured_by, measured))]
        rows = rows_of(experiment, variants or whole)
    start_server()  # it imports while the plan is made; a mistake in a name is told before it holds any pipe
    return measure_now(plan_of(experiment, rows))


def row_to_train(model: str | None, variant: str | None, settings: Sequence[str]) -> tuple[Row, Experiment]:
    """What the command `train` trains, and how: a model by name, or a variant on nano or the backbone that is set.

    Raises:
        UserError: for both, a grid of variants, or an unknown name.
    """
    if model and variant:
        raise UserError("give a model or a variant, not both: a model names its variant, as in nano-acmix")
    experiment = library.with_settings(named("train"), settings)
    if model:
        if names_a_case(experiment):
            raise UserError(f"{model} names its backbone and size; write the size as {model.partition('@')[0]}@SIZE")
        (row,) = rows_of(experiment.model_copy(update={"models": (model,)}))
    else:
        variants = library.expand(variant or "acmix", library.load_variant("acmix"))
        if len(variants) > 1:
            raise UserError(f"--variant {variant}: train takes one variant; ablate takes a grid")
        label = f"{experiment.backbone}-{variant or 'acmix'}"
        row = implemented(Row(label=label, variant=variants[0], case=case_of(experiment)), experiment)
    return row, experiment.model_copy(update={"meters": (meters.of_task(heads.task_of(row.case.head)),)})


def fitting(plan: Plan, insisted: Collection[str], misfits: Misfits) -> Mapping[str, str]:
    """Why rows that cannot be are withheld, by their labels.

    Raises:
        UserError: for a device that is not here; for the first row that must fit and does not, asked for or a baseline.
    """
    if any("device" in cell.protocol for cell in plan.cells):
        device_here(plan.experiment.protocol.device)
    # The cells that show whether each row can be: one that reads images, which needs most, or else any.
    ordered = sorted(plan.cells, key=lambda cell: "data_root" in cell.protocol)
    found = misfits(list({cell.row.label: cell for cell in ordered}.values()), plan.experiment.protocol.timeout)
    baselines = baselines_of(plan.rows)
    for row in plan.rows:
        if row.label in found and (row.label in insisted or row == baselines[row.case]):
            raise UserError(found[row.label])
    return found
