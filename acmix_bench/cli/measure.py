"""Commands that measure: ablate, flops, throughput, train."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from acmix_bench.cli.common import (
    AddressOption,
    DevicesOption,
    ExperimentOption,
    JsonOption,
    LauncherOption,
    ModelsArgument,
    OneModelArgument,
    OneVariantOption,
    ResultsOption,
    SetOption,
    VariantOption,
    note,
    only_cell,
)
from acmix_bench.cli.watch import print_event
from acmix_bench.errors import Interrupted, Terminated, UserError
from acmix_bench.spec import library

if TYPE_CHECKING:
    from acmix_bench.analysis.compare import Comparison
    from acmix_bench.runs.progress import Loudness
    from acmix_bench.runs.record import Again

GOES_ON = "interrupted: what is finished is kept; the same command goes on from here"
PRINTED, KEPT = "What is printed", "What is kept"


def ablate(
    experiment: ExperimentOption = "custom",
    variant: VariantOption = None,
    settings: SetOption = None,
    results: ResultsOption = Path("results"),
    jobs: Annotated[
        int,
        typer.Option("--jobs", "-j", min=1, help="Trainings at once; timings stay alone. Their threads add up."),
    ] = 1,
    devices: DevicesOption = None,
    launcher: LauncherOption = "here",
    address: AddressOption = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Measure again what diverged, as what crashed always is.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Measure everything again.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the cells, measure nothing.", rich_help_panel=PRINTED)
    ] = False,
    every: Annotated[
        bool, typer.Option("--all", help="Print what explains the result too: mix, costs.", rich_help_panel=PRINTED)
    ] = False,
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", help="No progress, and no notes below the tables.", rich_help_panel=PRINTED),
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Tell every cell when it is measured.", rich_help_panel=PRINTED)
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print what happens as lines of JSON, and no tables.", rich_help_panel=PRINTED),
    ] = False,
) -> None:
    """Measure an experiment's variants and print the comparison tables.

    Cells that were measured before, on this machine and with this code, are kept. Ctrl-C keeps what is done.

    \b
    Examples:
      acmix-bench ablate --experiment paths
      acmix-bench ablate --variant shift=tensor
      acmix-bench ablate --variant mix=fixed,alpha,heads=2,4 --set epochs=4
    """
    if quiet and verbose:
        raise UserError("--quiet and --verbose: choose one")
    if as_json and (dry_run or every):
        raise UserError(f"--json and --{'dry-run' if dry_run else 'all'}: choose one")
    chosen = library.with_settings(library.load_experiment(experiment), settings or [])
    from acmix_bench import ablate as flow
    from acmix_bench.cli.terminal import show
    from acmix_bench.report.rounding import several
    from acmix_bench.report.table import decisive, explaining
    from acmix_bench.runs import accelerators
    from acmix_bench.runs.launch import opened
    from acmix_bench.runs.store import Store

    gpus = accelerators.chosen(devices, chosen.protocol.device) if devices else []
    plan = flow.plan_of(chosen, flow.rows_of(chosen, variant or []), jobs, gpus)
    store = Store(results / chosen.name)
    again: Again = "all" if force else "failed" if retry_failed else "crashed"
    if dry_run:
        with opened(launcher, plan, address=address, jobs=jobs, devices=gpus) as launching:
            finished = flow.finished(flow.where(plan, store, launching, again), store, again)
        for cell in plan.cells:
            print(f"{cell.key}  {cell.meter:<9} {cell.repeat}  {cell.row.label}{'  (done)' * (cell.key in finished)}")
        print(f"{several(len(plan.cells), 'cell', 'cells')}, {len(finished)} done, in {store.folder}")
        return
    insisted = {row.label for row in plan.rows} - {row.label for row in flow.rows_of(chosen)} if variant else set()
    loudness: Loudness = "quiet" if quiet else "verbose" if verbose else "normal"
    file = library.own_file("experiment", experiment)
    try:
        with opened(launcher, plan, address=address, jobs=jobs, devices=gpus) as launching:
            outcome = flow.ablate(
                plan,
                store,
                insisted=insisted,
                file=file,
                loudness=loudness,
                launcher=launching,
                again=again,
                tell=[print_event] * as_json,
            )
    except KeyboardInterrupt:  # before the first cell, or while the tables were written
        raise Interrupted(GOES_ON) from None
    if not as_json:
        more = explaining(outcome.comparison)
        show([*decisive(outcome.comparison), *(more if every else [])], notes=not quiet)
        left = several(len(more), "more table", "more tables")
        rest = f"  ({left}: acmix-bench table {shlex.quote(str(store.folder))})"
        print(f"Records and tables: {store.folder}/{rest if more and not (every or quiet) else ''}")
    if not outcome.measured and not outcome.interrupted:
        note("nothing was left to measure; --force measures again")
    if outcome.interrupted:
        raise Interrupted(GOES_ON, terminated=outcome.terminated)
    raise typer.Exit(_exit_code(outcome.comparison))


def flops(
    model: ModelsArgument = None,
    variant: VariantOption = None,
    sizes: Annotated[
        str | None,
        typer.Option("--input", metavar="C,H,W", help="Input of a torch module of your own, package.module:Class."),
    ] = None,
    layers: Annotated[bool, typer.Option("--layers", help="Break each model down by layer and stage.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail where an operation is in no book of the ledger.")
    ] = False,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Count parameters and MACs by stage, in a ledger of every operation, beside what fvcore and FlopCounterMode say.

    Without a model: every variant on the nano backbone.

    \b
    Examples:
      acmix-bench flops
      acmix-bench flops operator-64-acmix@28
      acmix-bench flops nano nano-acmix@32 --layers
      acmix-bench flops resnet50-acmix --strict
      acmix-bench flops mine.py:MyModel --input 3,224,224
    """
    from acmix_bench import ablate as flow

    comparison = flow.measure_named("flops", model or (), variant or (), settings or [], _sizes(sizes))
    if as_json:
        _print_json(comparison, ("layers",) if layers else ())
    else:
        _print_tables(comparison)
    if layers and not as_json:
        from acmix_bench.cli.terminal import show
        from acmix_bench.report.table.cost import layer_table, stage_table

        for line in comparison.lines:
            if line.count("macs", "layers"):
                print()
                show([layer_table(line), stage_table(line)])
    if strict:
        _refuse_unknown(comparison)
    raise typer.Exit(_exit_code(comparison))


def throughput(
    model: ModelsArgument = None,
    variant: VariantOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure images a second and peak memory, forward and training, with intervals; models alternate.

    Without a model: every variant that trains, on the nano backbone.

    \b
    Examples:
      acmix-bench throughput nano nano-acmix --set batch=8 --set processes=12
      acmix-bench throughput operator-64@56 operator-64-acmix@56
    """
    from acmix_bench import ablate as flow

    comparison = flow.measure_named("throughput", model or (), variant or (), settings or [])
    (_print_json if as_json else _print_tables)(comparison)
    raise typer.Exit(_exit_code(comparison))


def train(
    model: OneModelArgument = None,
    variant: OneVariantOption = None,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    settings: SetOption = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for checkpoints, weights and log.", rich_help_panel=KEPT),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the checkpoint in --out.", rich_help_panel=KEPT)
    ] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Log for TensorBoard in --out too.", rich_help_panel=KEPT)
    ] = False,
    weights: Annotated[
        Path | None,
        typer.Option("--weights", "-w", help="Start from these, as import-weights or a training wrote them."),
    ] = None,
    new_head: Annotated[
        bool, typer.Option("--new-head", help="Leave out their classifier, for other classes or a dense head.")
    ] = False,
    download: Annotated[bool, typer.Option("--download", help="Fetch a data set that is not there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train one model from one seed, by a recipe, showing loss and top-1 after every epoch.

    Under torchrun several processes train it together. Ctrl-C leaves a checkpoint in --out, from which --resume goes
    on as if it had never stopped.

    \b
    Examples:
      acmix-bench train
      acmix-bench train --variant conv3x3 --set epochs=3 --set image_size=32
      acmix-bench train resnet50-acmix --set recipe=resnet --set data=folder:photos --out runs/photos
      acmix-bench train swin-t-acmix --weights swin.safetensors --new-head --set data=folder:photos --set recipe=swin
      torchrun --nproc-per-node 8 -m acmix_bench train swin-t-acmix --set recipe=swin --set device=cuda --out runs/swin
    """
    from acmix_bench import ablate as flow
    from acmix_bench.runs import local
    from acmix_bench.runs.training import LOG, Wishes, told, train_watched
    from acmix_bench.train.devices import rank

    row, experiment = flow.row_to_train(model, variant, settings or [])
    cell = only_cell(row, experiment).model_copy(update={"repeat": seed})
    wishes = Wishes(
        folder=out, resume=resume, download=download, weights=weights, new_head=new_head, tensorboard=tensorboard
    )
    try:
        epochs = train_watched(cell, row.label, wishes)
    except UserError:
        raise
    except KeyboardInterrupt as error:
        kept = f"a checkpoint is in {out}; the same command with --resume goes on" if out else "nothing is kept"
        raise Interrupted(f"interrupted: {kept}", terminated=isinstance(error, Terminated)) from None
    except Exception as error:
        outcome = local.outcome_of(error, name=cell.meter)
        note(f"{outcome.status}: {outcome.reason}")
        raise typer.Exit(1) from error
    if rank():
        return
    last = epochs[-1]
    if as_json:
        each = [{"loss": epoch.loss, **epoch.scores, **dataclasses.asdict(epoch)} for epoch in epochs]
        print(json.dumps({**last.scores, "epochs": [{k: v for k, v in one.items() if k != "scores"} for one in each]}))
        return
    print(told(last.scores))
    if out:
        print(f"Weights, checkpoint and {LOG}: {out}/")


def _sizes(text: str | None) -> list[int]:
    """What --input says."""
    if text is None:
        return []
    sizes = text.replace("x", ",").split(",")
    if not all(size.isascii() and size.isdigit() and int(size) for size in sizes):
        raise UserError(f"--input {text}: write the sizes without the batch, as 3,224,224")
    return list(map(int, sizes))


def _refuse_unknown(comparison: Comparison) -> None:
    """End with exit code 1 where a row's cost is not complete, naming what is not in it."""
    complete = True
    for line in comparison.lines:
        keys = ("unknown", "no_formula", "count_with_ledger_failed")
        names = sorted({name for key in keys for name in line.counts.get("macs", {}).get(key, {})})
        if names:
            note(f"error: {line.row.label}: no cost is known of {', '.join(names)}")
            complete = False
    if not complete:
        raise typer.Exit(1)


def _print_tables(comparison: Comparison) -> None:
    from acmix_bench.cli.terminal import show
    from acmix_bench.report.table import tables

    show(tables(comparison))


def _print_json(comparison: Comparison, more: Sequence[str] = ()) -> None:
    from acmix_bench.report.table.raw import numbers_of

    names = comparison.run.plan.experiment.meters
    rows = [numbers_of(line, names) | {name: line.count("macs", name) for name in more} for line in comparison.lines]
    print(json.dumps(rows, indent=1))


def _exit_code(comparison: Comparison) -> int:
    if not comparison.run.records:
        return 5
    return 1 if any(line.problems for line in comparison.lines) else 0
