"""Commands that tell what a run came to: table, plot, report, plan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, get_args

import typer

from acmix_bench.cli import complete
from acmix_bench.cli.common import ResultsOption, note
from acmix_bench.errors import UserError, unknown
from acmix_bench.report.figures import KINDS, WIDTHS

Style = Literal["text", "md", "csv", "tex", "json", "parquet"]
STYLES: tuple[Style, ...] = get_args(Style)


def table(
    run: Annotated[
        str | None,
        typer.Argument(help="An experiment with results, or the folder of a run.", autocompletion=complete.runs),
    ] = None,
    style: Annotated[
        str,
        typer.Option(
            "--format",
            help="text, md, csv, tex, json, or parquet (with --out).",
            autocompletion=complete.one_of(*STYLES),
        ),
    ] = "text",
    columns: Annotated[
        str | None,
        typer.Option(
            help="One table with these, in place of all: NAME or NAME=title, joined by commas. all: every table.",
        ),
    ] = None,
    standalone: Annotated[bool, typer.Option("--standalone", help="A whole LaTeX document.")] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write it to this file, with its stamp.")] = None,
    check: Annotated[
        Path | None,
        typer.Option("--verify", metavar="FILE", help="Hold a file of --out against its run, which RUN may name."),
    ] = None,
    results: ResultsOption = Path("results"),
) -> None:
    """Print the tables of a run, or its numbers with every digit, or hold a rendered file against the records.

    \b
    Examples:
      acmix-bench table paths --format tex --out paths.tex
      acmix-bench table paths --columns 'parameters,inference_ratio=Speed-up,accuracy'
      acmix-bench table paths --format parquet --out paths.parquet
      acmix-bench table --verify paths.tex
    """
    from acmix_bench.report.table.columns import split

    chosen = next((known for known in STYLES if known == style), None)
    if chosen is None:
        raise unknown("format", style, STYLES)
    if check is not None:
        if columns is not None or standalone or out is not None or style != "text":
            raise UserError("--verify: the file says how it was rendered; beside it stand RUN and --results alone")
        _verify(check, run, results)
        return
    if run is None:
        raise UserError("table: name a run, or a file with --verify")
    if standalone and style != "tex":
        raise UserError(f"--standalone: is for --format tex, not {style}")
    if columns is not None and style not in ("text", "md", "tex"):
        raise UserError(f"--columns: is for text, md and tex; {style} holds every number")
    _render(run, results, chosen, None if columns is None else split(columns), out, standalone=standalone)


def _render(
    run: str, results: Path, style: Style, columns: Sequence[str] | None, out: Path | None, *, standalone: bool
) -> None:
    from acmix_bench import files
    from acmix_bench.analysis.compare import compare
    from acmix_bench.cli import terminal
    from acmix_bench.report.stamp import stamp, stamped
    from acmix_bench.report.table import render, tables
    from acmix_bench.runs.store import Store, folder_of

    folder = folder_of(run, results)
    comparison = compare(Store(folder).load())
    if style == "text" and out is None:
        terminal.show(tables(comparison, columns))
        return
    if style == "parquet":
        from acmix_bench.report import frame

        if out is None:
            raise UserError("--format parquet: is for programs; say which file with --out")
        frame.write_parquet(comparison, out, stamp(folder, out, style))
        print(out)
        return
    if style in ("csv", "json"):
        from acmix_bench.report import frame

        text = {"csv": frame.to_csv, "json": frame.to_json}[style](comparison)
    else:
        text = render(comparison, style, columns, standalone=standalone)
    if out is None:
        print(text, end="")
        return
    files.replace(out, stamped(text, stamp(folder, out, style, columns=columns, standalone=standalone)))
    print(out)


def _verify(file: Path, run: str | None, results: Path) -> None:
    """Print what a file says that the records do not. Exit code 1 where there is anything."""
    from acmix_bench.report.verify import verify

    verdict = verify(file, results, run)
    for line in verdict.differences:
        print(f"{file}: {line}")
    for line in verdict.told:
        note(f"{file}: {line}")
    if verdict.differences:
        raise typer.Exit(1)
    print(f"{file}: all {verdict.numbers} numbers are those of the records")


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


def report(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...", help="Experiments with results, or folders of runs.", autocompletion=complete.runs
        ),
    ],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The HTML file; RUN.html where not given.")] = None,
    results: ResultsOption = Path("results"),
) -> None:
    """Write runs as one HTML page that needs no network, with what the others differ by from the first.

    \b
    Examples:
      acmix-bench report paths
      acmix-bench report results/yesterday results/today --out today.html
    """
    from acmix_bench import files
    from acmix_bench.report import page
    from acmix_bench.report.stamp import stamp_of_page, stamped
    from acmix_bench.runs.store import Store, folder_of

    folders = [folder_of(run, results) for run in runs]
    shown = [
        page.Shown(name=name, folder=folder, run=Store(folder).load())
        for name, folder in zip(runs, folders, strict=True)
    ]
    path = out or Path(f"{folders[0].resolve().name}.html")
    made = stamp_of_page(list(zip(runs, folders, strict=True)), path)
    files.replace(path, stamped(page.render(shown), made))
    print(path)
