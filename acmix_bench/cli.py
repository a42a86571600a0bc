"""The command line: each command reads its arguments, makes one call, and prints.

Exit codes: 0 fine, 1 some cells failed, 2 a user's mistake, 3 a regression, 4 not comparable, 5 nothing was measured,
130 interrupted.
"""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from acmix_bench import backbones, data, spec
from acmix_bench.errors import Interrupted, UserError, unknown
from acmix_bench.meters import METERS
from acmix_bench.spec import Experiment, Row

if TYPE_CHECKING:
    from acmix_bench.compare import Comparison
    from acmix_bench.meters.turns import Turns
    from acmix_bench.record import Run

app = typer.Typer(
    help="""Benchmark and ablation harness for ACmix, the mix of convolution and self-attention.

\b
Examples:
  acmix-bench ablate --experiment paths        the main job: a comparison table in minutes
  acmix-bench ablate --variant shift=tensor    one change against the baseline
  acmix-bench flops operator-64-acmix@28       MACs by stage, and what counters miss
  acmix-bench compare base head                what one run is slower or dearer in than another
  acmix-bench list                             all names that the other commands take
""",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

VariantOption = Annotated[
    list[str] | None,
    typer.Option("--variant", "-v", help="A name, a YAML file, or axis=value[,value][,axis=value...]. Repeatable."),
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="key=value of the protocol, backbone or image_size. Repeatable.")
]
ResultsOption = Annotated[Path, typer.Option("--results", help="Folder of results.")]
ThresholdsOption = Annotated[
    Path | None, typer.Option("--thresholds", help="YAML: how much slower is a regression, by meter and row.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print raw values as JSON.")]
ModelsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[MODEL]...", help="BACKBONE[-VARIANT][@SIZE]: nano, nano-acmix@32, operator-64-acmix."),
]


@app.command("list")
def list_names() -> None:
    """List variants, experiments, backbones, data sets, meters and axes, a line each."""
    sections = {
        "Variants": {name: spec.load_variant(name).summary for name in spec.known("variant")},
        "Experiments": {name: spec.load_experiment(name).question for name in spec.known("experiment")},
        "Published figures": dict.fromkeys(spec.known("published"), "as printed, and as counted on the released code"),
        "Backbones": {name: entry.summary for name, entry in backbones.BACKBONES.items()},
        "Data sets": {name: entry.summary for name, entry in data.DATASETS.items()},
        "Meters": {name: entry.summary for name, entry in METERS.items()},
        "Axes of --variant": {axis: meaning for axis, meaning in spec.AXES.items() if axis != "options"},
        "Keys of --set": spec.settings(),
    }
    for title, entries in sections.items():
        print(f"\n{title}" if title != "Variants" else title)
        for name, summary in entries.items():
            print(f"  {name:<16} {summary}")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A variant, experiment, published table, backbone, data set or meter.")],
) -> None:
    """Show one variant, experiment, table of published figures, backbone, data set or meter in full.

    Example: acmix-bench show paths
    """
    found = False
    for kind in spec.FILES:
        if name in spec.known(kind):
            where, file = spec.source(kind, name)
            print(f"# {where}\n{file.read_text().rstrip()}")
            found = True
    entries: dict[str, Any] = {**backbones.BACKBONES, **data.DATASETS, **METERS}
    if name in entries:
        entry = entries[name]
        print(f"{name}: {entry.summary}")
        for key, value in vars(entry).items():
            if key != "summary":
                print(f"  {key}: {', '.join(value) if isinstance(value, tuple) else value}")
        found = True
    if not found:
        raise unknown("name", name, [*(known for kind in spec.FILES for known in spec.known(kind)), *entries])


@app.command()
def ablate(
    experiment: Annotated[str, typer.Option("--experiment", "-e", help="A name or a YAML file.")] = "custom",
    variant: VariantOption = None,
    settings: SetOption = None,
    results: ResultsOption = Path("results"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the cells, measure nothing.")] = False,
) -> None:
    """Measure an experiment's variants and print the comparison tables.

    Cells that were measured before, on this machine and with this code, are kept. Ctrl-C keeps what is done.

    \b
    Examples:
      acmix-bench ablate --experiment paths
      acmix-bench ablate --variant shift=tensor
      acmix-bench ablate --variant mix=fixed,alpha,heads=2,4 --set epochs=4
    """
    chosen = spec.with_settings(spec.load_experiment(experiment), settings or [])
    from acmix_bench import ablate as flow
    from acmix_bench.record import Store

    plan = flow.plan_of(chosen, flow.rows_of(chosen, variant or []))
    store = Store(results / chosen.name)
    if dry_run:
        finished = flow.finished(plan, store)
        for cell in plan.cells:
            print(f"{cell.key}  {cell.meter:<9} {cell.repeat}  {cell.row.label}{'  (done)' * (cell.key in finished)}")
        print(f"{len(plan.cells)} cells, {len(finished)} done, in {store.folder}")
        return
    outcome = flow.ablate(plan, store)
    _print_tables(outcome.comparison)
    print(f"Records and tables: {store.folder}/")
    if not outcome.measured and not outcome.interrupted:
        _note(f"nothing was left to measure; remove {store.folder} to measure again")
    if outcome.interrupted:
        raise Interrupted("interrupted: what is finished is kept; the same command goes on from here")
    raise typer.Exit(_exit_code(outcome.comparison))


@app.command()
def flops(
    model: ModelsArgument = None,
    variant: VariantOption = None,
    layers: Annotated[bool, typer.Option("--layers", help="Break each model down by layer and stage.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail where an operation is in no book of the ledger.")
    ] = False,
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
    """
    comparison = _measure("flops: parameters and multiply-adds", model, variant, ("params", "macs"), [])
    if as_json:
        _print_json(comparison, ("layers",) if layers else ())
    else:
        _print_tables(comparison)
    if layers and not as_json:
        from acmix_bench.table import layer_table, stage_table

        for line in comparison.lines:
            if "layers" in line.exact:
                print("\n" + layer_table(line).render("text"), end="")
                print("\n" + stage_table(line).render("text"), end="")
    if strict:
        _refuse_unknown(comparison)
    raise typer.Exit(_exit_code(comparison))


@app.command()
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
    comparison = _measure("throughput: images a second", model, variant, ("inference", "training"), settings or [])
    (_print_json if as_json else _print_tables)(comparison)
    raise typer.Exit(_exit_code(comparison))


@app.command()
def train(
    variant: Annotated[str, typer.Option("--variant", "-v", help="A name, a YAML file, or axis=value.")] = "acmix",
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train one variant from one seed, showing loss and top-1 after every epoch.

    \b
    Examples:
      acmix-bench train
      acmix-bench train --variant conv3x3 --set epochs=3 --set image_size=32
    """
    from acmix_bench import ablate as flow
    from acmix_bench import launch

    variants = spec.expand(variant, spec.load_variant("acmix"))
    if len(variants) > 1:
        raise UserError(f"--variant {variant}: train takes one variant; ablate takes a grid")
    experiment = spec.with_settings(_ad_hoc("train: one variant", ("accuracy",)), settings or [])
    case = backbones.case_of(experiment.backbone, image_size=experiment.image_size, data=experiment.data)
    row = flow.implemented(Row(label=variant, variant=variants[0], case=case), experiment)
    cell = flow.plan_of(experiment, [row]).cells[0].model_copy(update={"repeat": seed})
    outcome = launch.train_here(cell, _print_epoch)
    if outcome.status != "ok":
        _note(f"{outcome.status}: {outcome.reason}")
        raise typer.Exit(1)
    values = outcome.values
    if as_json:
        print(json.dumps(values))
        return
    print(f"top-1 {100 * values['accuracy']:.2f} %")


@app.command()
def table(
    run: Annotated[str, typer.Argument(help="An experiment with results, or the folder of a run.")],
    style: Annotated[str, typer.Option("--format", help="text, md, csv or tex.")] = "text",
    results: ResultsOption = Path("results"),
) -> None:
    """Print the tables of a run.

    Example: acmix-bench table paths --format tex
    """
    from acmix_bench import table as view
    from acmix_bench.compare import compare

    comparison = compare(_load(run, results))
    if style == "csv":
        print(view.to_csv(comparison), end="")
    elif style in view.FORMATS:
        print("\n".join(one.render(style) for one in view.tables(comparison)), end="")
    else:
        raise unknown("format", style, [*view.FORMATS, "csv"])


@app.command()
def plan(
    run: Annotated[str, typer.Argument(help="A run with accuracies: the pilot.")],
    detect: Annotated[float, typer.Option("--detect", min=0.0001, help="Difference of top-1 in percentage points.")],
    results: ResultsOption = Path("results"),
) -> None:
    """Tell from a run how many seeds it would take to see a difference in accuracy.

    Example: acmix-bench plan paths --detect 0.5
    """
    from acmix_bench.compare import seed_plan
    from acmix_bench.table import seed_table

    plans = seed_plan(_load(run, results), detect / 100)
    if not plans:
        _note(f"error: {run} has no row with accuracies of two seeds or more beside its baseline")
        raise typer.Exit(5)
    print(seed_table(plans, detect / 100).render("text"), end="")


@app.command("compare")
def compare_runs(
    base: Annotated[str, typer.Argument(help="A run's folder, or its name below the results folder.")],
    head: Annotated[str, typer.Argument(help="The run that must not be worse.")],
    thresholds: ThresholdsOption = None,
    allow_unlike: Annotated[
        bool, typer.Option("--allow-unlike", help="Compare the timings of unlike environments, and mark them.")
    ] = False,
    results: ResultsOption = Path("results"),
    as_json: JsonOption = False,
) -> None:
    """Compare two runs: what is exact to the last unit, timings as far as their noise allows.

    Exit codes: 0 no regression, 3 a regression, 4 timings of unlike environments, 5 nothing to compare.

    \b
    Examples:
      acmix-bench compare results/yesterday results/today
      acmix-bench compare base head --thresholds mine.yaml
    """
    raise typer.Exit(
        _gate(_load(base, results), _load(head, results), thresholds, allow_unlike=allow_unlike, as_json=as_json)
    )


@app.command()
def regress(
    base: Annotated[
        Path, typer.Option("--base", help="The Python of an environment with the version to compare with.")
    ],
    experiment: Annotated[str, typer.Option("--experiment", "-e", help="A name or a YAML file.")] = "regress",
    budget: Annotated[float, typer.Option("--budget", help="Seconds after which it stops, after 8 pairs.")] = 120.0,
    settings: SetOption = None,
    thresholds: ThresholdsOption = None,
    results: ResultsOption = Path("results"),
    as_json: JsonOption = False,
) -> None:
    """Measure another version of this package and this one alternately, and compare them.

    `nox -s regress -- --base REF` makes the other version's environment from a git reference. Exit codes as compare's.

    Example: acmix-bench regress --base .nox/base/venv/bin/python
    """
    from acmix_bench import gate
    from acmix_bench import regress as sides

    chosen = spec.with_settings(spec.load_experiment(experiment), settings or [])
    gate.load_thresholds(thresholds)  # a mistake in them is told before anything is measured
    folder = results / "regress"
    for name in ("base", "head"):
        shutil.rmtree(folder / name, ignore_errors=True)
    arguments = (experiment, settings or [])
    with (
        sides.served("base", base, *arguments, folder / "base") as old,
        sides.served("head", Path(sys.executable), *arguments, folder / "head") as new,
    ):
        ended = sides.measure(old, new, budget, chosen.protocol.precision, _note)
        runs = old.store.load(), new.store.load()
    _note(f"stopped for {ended}; records: {folder}/")
    raise typer.Exit(_gate(*runs, thresholds, allow_unlike=False, as_json=as_json, report=folder / "report.json"))


@app.command(hidden=True)
def serve(
    experiment: Annotated[str, typer.Argument()],
    folder: Annotated[Path, typer.Option("--folder")],
    settings: SetOption = None,
) -> None:
    """Measure an experiment's groups of cells as their numbers come on stdin: what regress drives."""
    from acmix_bench import ablate as flow
    from acmix_bench.record import Store

    chosen = spec.with_settings(spec.load_experiment(experiment), settings or [])
    plan = flow.plan_of(chosen, flow.rows_of(chosen))
    print(*(group[0].repeat for group in spec.groups_of(plan.cells)), flush=True)
    for number in flow.serve(plan, Store(folder), map(_asked, sys.stdin)):
        print(number, flush=True)


def _asked(line: str) -> tuple[int, Turns]:
    """A group's number, where to meet the other version, and which of them begins."""
    from acmix_bench.meters.turns import Turns

    number, path, first = line.split()
    return int(number), Turns(path=Path(path), first=first == "first")


@app.command()
def plot(
    run: Annotated[str, typer.Argument(help="An experiment with results, or the folder of a run.")],
    out: Annotated[Path | None, typer.Option("--out", help="Image file; its suffix chooses the format.")] = None,
    results: ResultsOption = Path("results"),
) -> None:
    """Draw the throughput and accuracy of a run with their intervals.

    Example: acmix-bench plot paths --out paths.png
    """
    from acmix_bench.compare import compare
    from acmix_bench.figure import draw

    comparison = compare(_load(run, results))
    path = out or Path(f"{comparison.run.plan.experiment.name}.png")
    draw(comparison, path)
    print(path)


@app.command("import-weights")
def import_weights(
    source: Annotated[Path, typer.Argument(help="A checkpoint of the released code, .pth.")],
    model: Annotated[str, typer.Option("--model", "-m", help="BACKBONE-VARIANT, such as swin-t-acmix.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The safetensors file to write.")],
) -> None:
    """Turn a released checkpoint into weights of ours. Tensors only: no code of the file runs.

    Example: acmix-bench import-weights acmix_swin_tiny.pth --model swin-t-acmix --out swin-t-acmix.safetensors
    """
    from acmix_bench import weights

    print(f"{weights.import_weights(source, model, out)} tensors in {out}")


@app.command()
def predict(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Images to classify.")],
    model: Annotated[str, typer.Option("--model", "-m", help="BACKBONE-VARIANT, such as swin-t-acmix.")],
    weights: Annotated[Path, typer.Option("--weights", "-w", help="What import-weights wrote.")],
) -> None:
    """Print the five most likely ImageNet classes of each image.

    Example: acmix-bench predict --model swin-t-acmix --weights swin-t-acmix.safetensors cat.jpg
    """
    from acmix_bench.weights import predict as classify

    for image, classes in zip(images, classify(model, weights, images), strict=True):
        print(image)
        for name, probability in classes:
            print(f"  {100 * probability:6.2f} %  {name}")


def main() -> None:
    """Run the command line; a user's mistake is one line and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without × or ± gets a question mark
    sys.path.append("")  # an operator of the user's own is imported from the working folder
    try:
        app()
    except UserError as error:
        _note(f"error: {error}")
        raise SystemExit(2) from None
    except Interrupted as error:
        _note(str(error))
        raise SystemExit(130) from None
    except SystemExit as end:
        if end.code == 130:  # typer has turned Ctrl-C into this without a word
            _note("interrupted")
        raise
    except BrokenPipeError:
        sys.stderr.close()
        raise SystemExit(0) from None


def _ad_hoc(title: str, meters: tuple[str, ...]) -> Experiment:
    """An experiment that no file holds: what a single command measures."""
    name, _, question = title.partition(": ")
    return spec.load_experiment("custom").model_copy(update={"name": name, "question": question, "meters": meters})


def _refuse_unknown(comparison: Comparison) -> None:
    """End with exit code 1 where a row's cost is not complete, naming what is not in it."""
    complete = True
    for line in comparison.lines:
        keys = ("unknown", "no_formula", "count_with_ledger_failed")
        names = sorted({name for key in keys for name in line.exact.get(key, {})})
        if names:
            _note(f"error: {line.row.label}: no cost is known of {', '.join(names)}")
            complete = False
    if not complete:
        raise typer.Exit(1)


def _measure(
    title: str, models: list[str] | None, variants: list[str] | None, meters: tuple[str, ...], settings: list[str]
) -> Comparison:
    """Measure models by name, or else on nano these variants, or all that have all these meters."""
    from acmix_bench import ablate as flow

    if models and variants:
        raise UserError("give models or --variant, not both: a model names its variant, as in nano-acmix")
    experiment = spec.with_settings(_ad_hoc(title, meters), settings)
    if models:
        rows = flow.rows_of(experiment.model_copy(update={"models": tuple(models)}))
    else:
        known = {name: spec.load_variant(name) for name in spec.known("variant")}
        whole = [name for name, variant in known.items() if all(map(variant.is_measured_by, experiment.meters))]
        rows = flow.rows_of(experiment, variants or whole)
    return flow.measure_now(flow.plan_of(experiment, rows))


def _gate(
    base: Run, head: Run, thresholds: Path | None, *, allow_unlike: bool, as_json: bool, report: Path | None = None
) -> int:
    """Print what two runs differ by, and give the exit code that goes with it."""
    from acmix_bench import gate, table

    limits, differences = gate.load_thresholds(thresholds), gate.unlike(base, head)
    found = gate.findings(base, head, limits, timings=allow_unlike or not differences)
    code = gate.exit_code(found, differences, allowed=allow_unlike)
    alone = gate.not_compared(base, head)
    told = {"exit_code": code, "unlike": differences, "not_compared": alone}
    text = json.dumps(told | {"findings": [asdict(finding) for finding in found]}, indent=1)
    if report:
        report.write_text(text + "\n", encoding="utf-8")
    print(text if as_json else table.gate_table(found, differences, alone).render("text"), end="")
    if differences and not allow_unlike:
        _note("error: timings are not comparable: " + "; ".join(differences) + " differ (--allow-unlike does it)")
    if code == 5:
        _note("error: nothing was measured that both runs have")
    for finding in found:
        if finding.verdict == "regression":
            _note(f"regression: {finding.label}: {finding.metric} {finding.note}".rstrip())
    return code


def _load(run: str, results: Path) -> Run:
    """A run by its folder, or by its name below the results folder."""
    from acmix_bench.record import Store, runs_below

    for folder in (Path(run), results / run):
        if (folder / "run.json").exists():
            return Store(folder).load()
    raise unknown("run", run, runs_below(results), where=str(results))


def _print_tables(comparison: Comparison) -> None:
    from acmix_bench.table import tables

    print("\n".join(table.render("text") for table in tables(comparison)), end="")


def _print_json(comparison: Comparison, more: Sequence[str] = ()) -> None:
    from acmix_bench.table import flat

    rows = [flat(line) | {name: line.exact.get(name) for name in more} for line in comparison.lines]
    print(json.dumps(rows, indent=1))


def _print_epoch(epoch: int, loss: float, accuracy: float) -> None:
    _note(f"epoch {epoch}: loss {loss:.4f}, top-1 {100 * accuracy:.2f} %")


def _exit_code(comparison: Comparison) -> int:
    if not comparison.run.records:
        return 5
    return 1 if any(line.problems for line in comparison.lines) else 0


def _note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
