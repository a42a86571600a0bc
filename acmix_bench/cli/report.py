"""Commands that tell what a run came to: table, plot, plan."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from acmix_bench.cli import complete
from acmix_bench.cli.common import ResultsOption, note
from acmix_bench.errors import UserError, unknown
from acmix_bench.report.figures import KINDS, WIDTHS

STYLES = ("text", "md", "csv", "tex", "json", "parquet")


def table(
    run: Annotated[
        str, typer.Argument(help="An experiment with results, or the folder of a run.", autocompletion=complete.runs)
    ],
    style: Annotated[
        str,
        typer.Option(
            "--format",
            help="text, md, csv, tex, json, or parquet (with --out).",
            autocompletion=complete.one_of(*STYLES),
        ),
    ] = "text",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write it to this file.")] = None,
    results: ResultsOption = Path("results"),
) -> None:
    """Print the tables of a run, or its numbers with every digit.

    \b
    Examples:
      acmix-bench table paths --format tex
      acmix-bench table paths --format parquet --out paths.parquet
    """
    from acmix_bench.analysis.compare import compare
    from acmix_bench.cli import terminal
    from acmix_bench.report.table import render, tables
    from acmix_bench.report.table.grid import FORMATS
    from acmix_bench.runs.store import load_run

    if style not in STYLES:
        raise unknown("format", style, STYLES)
    comparison = compare(load_run(run, results))
    if style == "text" and out is None:
        terminal.show(tables(comparison))
        return
    if style in FORMATS:
        text = render(comparison, style)
    else:
        from acmix_bench.report import frame

        if style == "parquet":
            if out is None:
                raise UserError("--format parquet: is for programs; say which file with --out")
            frame.write_parquet(comparison, out)
            print(out)
            return
        text = {"csv": frame.to_csv, "json": frame.to_json}[style](comparison)
    if out is None:
        print(text, end="")
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror})") from error
    print(out)


def plan(
    run: Annotated[str, typer.Argument(help="A run with accuracies: the pilot.", autocompletion=complete.runs)],
    detect: Annotated[float, typer.Option("--detect", min=0.0001, help="Difference of top-1 in percentage points.")],
    results: ResultsOption = Path("results"),
) -> None:
    """Tell from a run how many seeds it would take to see a difference in accuracy.

    Example: acmix-bench plan paths --detect 0.5
    """
    from acmix_bench.analysis.compare import seed_plan
    from acmix_bench.cli import terminal
    from acmix_bench.report.table.decide import seed_table
    from acmix_bench.runs.store import load_run

    plans = seed_plan(load_run(run, results), detect / 100)
    if not plans:
        note(f"error: {run} has no row with accuracies of two seeds or more beside its baseline")
        raise typer.Exit(5)
    terminal.show([seed_table(plans, detect / 100)])


def plot(
    run: Annotated[
        str, typer.Argument(help="An experiment with results, or the folder of a run.", autocompletion=complete.runs)
    ],
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="[KIND]",
            help=f"{', '.join(KINDS)}; what fits best where not given.",
            autocompletion=complete.one_of(*KINDS),
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="File to draw to; its suffix chooses the format: pdf, svg or png.")
    ] = None,
    width: Annotated[
        str,
        typer.Option(
            help="Of a paper: column (3.3 inches) or page (6.9 inches).", autocompletion=complete.one_of(*WIDTHS)
        ),
    ] = "column",
    results: ResultsOption = Path("results"),
) -> None:
    """Draw a run as a figure that can stand in a paper.

    \b
    Examples:
      acmix-bench plot paths --out paths.pdf
      acmix-bench plot paths mixing --width page --out mixing.svg
    """
    from acmix_bench.analysis.compare import compare
    from acmix_bench.report.figures import draw, kinds_of
    from acmix_bench.runs.store import load_run

    comparison = compare(load_run(run, results))
    name = comparison.run.plan.experiment.name
    path = out or Path(f"{name}-{kind}.png" if kind else f"{name}.png")
    drawn = draw(comparison, path, kind, width)
    if kind is None and (others := [other for other in kinds_of(comparison) if other != drawn]):
        note(f"drawn as {drawn}; this run can be drawn as {', '.join(others)} too")
    print(path)
