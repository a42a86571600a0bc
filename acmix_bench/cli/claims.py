"""The command claims: what the paper says, held against records."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from acmix_bench.cli import complete
from acmix_bench.cli.common import ResultsOption, note
from acmix_bench.errors import Interrupted, UserError, unknown

if TYPE_CHECKING:
    from acmix_bench.claims import Work

STYLES = ("text", "md", "tex", "json")
MOST_MINUTES = 1_000_000


def claims(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CLAIM]...", help="Some of them; all where none is given.", autocompletion=complete.claims
        ),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option("--budget", metavar="MINUTES", min=0, help="Measure no longer; 0 judges the runs that are there."),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="Claims of your own; else experiments/claims.yaml, yours or ours.")
    ] = None,
    results: ResultsOption = Path("results"),
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", min=1, help="Trainings at once; as many as cores where not given.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what is missing, measure nothing.")] = False,
    style: Annotated[
        str,
        typer.Option("--format", help="text, md, tex, or json.", autocompletion=complete.one_of(*STYLES)),
    ] = "text",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Measure what the paper's claims lack, and print each: supported, refuted here, or can't tell.

    Each claim's rules stand in experiments/claims.yaml since before anything was measured. Ctrl-C, and the end of the
    minutes, keep what is done; the same command goes on.

    \b
    Examples:
      acmix-bench claims --budget 60
      acmix-bench claims stage-two-linear stage-one-shared
      acmix-bench claims --budget 0 --format md
    """
    from acmix_bench.cli import terminal
    from acmix_bench.report.table import latex
    from acmix_bench.report.table.claims import as_json, claims_table
    from acmix_bench.spec.claim import load_claims

    if style not in STYLES:
        raise unknown("format", style, STYLES)
    if budget is not None and budget > MOST_MINUTES:
        raise UserError(f"--budget {budget:g}: say how many minutes, {MOST_MINUTES:,} at most; any without it")
    known = load_claims(file)
    for name in names or ():
        if name not in (all_names := [claim.name for claim in known.claims]):
            raise unknown("claim", name, all_names)
    chosen = [claim for claim in known.claims if not names or claim.name in names]
    from acmix_bench import claims as flow

    work = flow.work_of(known, chosen, results, jobs)
    if dry_run:
        _print_missing(work)
        return
    if budget == 0:
        settled = flow.as_stored(known, chosen, work)
    else:
        settled = flow.settle(
            known,
            chosen,
            work,
            budget=math.inf if budget is None else 60 * budget,
            loudness="quiet" if quiet else "normal",
            say=(lambda line: None) if quiet else note,
        )
    if style == "json":
        print(json.dumps(as_json(settled.judged, settled.runs), indent=1))
    else:
        table = claims_table(
            known, settled.judged, settled.runs, seconds=settled.seconds, unmeasured=settled.unmeasured
        )
        if style == "text":
            terminal.show([table])
        else:
            print(latex.render([table], "claims") if style == "tex" else table.render(style), end="")
    if settled.is_interrupted:
        kept = "interrupted: what is finished is kept; the same command goes on from here"
        raise Interrupted(kept, terminated=settled.is_terminated)
    raise typer.Exit(1 if settled.failed else 0)


def _print_missing(work: list[Work]) -> None:
    """Each experiment, and what it lacks."""
    from acmix_bench.claims import seconds_left
    from acmix_bench.report.rounding import minutes, several

    for one in work:
        done = one.records()
        lacking = sum(cell.key not in done for cell in one.plan.cells)
        rules = several(one.rules, "rule", "rules")
        print(
            f"{one.name:<20} {lacking} of {several(len(one.plan.cells), 'cell', 'cells')} missing, about "
            f"{minutes(seconds_left(one, done))}, for {rules}, in {one.store.folder}"
        )
    print(f"{'all':<20} about {minutes(sum(seconds_left(one, one.records()) for one in work))}")
