"""Commands that show what is there: list, show, table, plan, plot."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from acmix_bench import backbones, data, spec
from acmix_bench.cli.common import ResultsOption, load, note
from acmix_bench.errors import unknown
from acmix_bench.meters import METERS


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


def table(
    run: Annotated[str, typer.Argument(help="An experiment with results, or the folder of a run.")],
    style: Annotated[str, typer.Option("--format", help="text, md, csv or tex.")] = "text",
    results: ResultsOption = Path("results"),
) -> None:
    """Print the tables of a run.

    Example: acmix-bench table paths --format tex
    """
    from acmix_bench.compare import compare
    from acmix_bench.table import render
    from acmix_bench.table.grid import FORMATS
    from acmix_bench.table.raw import to_csv

    comparison = compare(load(run, results))
    if style == "csv":
        print(to_csv(comparison), end="")
    elif style in FORMATS:
        print(render(comparison, style), end="")
    else:
        raise unknown("format", style, [*FORMATS, "csv"])


def plan(
    run: Annotated[str, typer.Argument(help="A run with accuracies: the pilot.")],
    detect: Annotated[float, typer.Option("--detect", min=0.0001, help="Difference of top-1 in percentage points.")],
    results: ResultsOption = Path("results"),
) -> None:
    """Tell from a run how many seeds it would take to see a difference in accuracy.

    Example: acmix-bench plan paths --detect 0.5
    """
    from acmix_bench.compare import seed_plan
    from acmix_bench.table.decide import seed_table

    plans = seed_plan(load(run, results), detect / 100)
    if not plans:
        note(f"error: {run} has no row with accuracies of two seeds or more beside its baseline")
        raise typer.Exit(5)
    print(seed_table(plans, detect / 100).render("text"), end="")


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

    comparison = compare(load(run, results))
    path = out or Path(f"{comparison.run.plan.experiment.name}.png")
    draw(comparison, path)
    print(path)
