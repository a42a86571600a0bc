"""How a run goes: the command status, and what a run tells programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from acmix_bench.cli import complete
from acmix_bench.cli.common import JsonOption, ResultsOption


def status(
    run: Annotated[
        str, typer.Argument(help="An experiment with results, or the folder of a run.", autocompletion=complete.runs)
    ],
    as_json: JsonOption = False,
    results: ResultsOption = Path("results"),
) -> None:
    """Tell how far a run is: done, failed and why, running and where, left, and the time left.

    It looks at what the run has written, and disturbs nothing. The exit code is 1 where cells failed.

    \b
    Examples:
      acmix-bench status paths
      acmix-bench status /cluster/results/paths --json
    """
    from acmix_bench.cli import terminal
    from acmix_bench.report.table.status import as_json as content_of
    from acmix_bench.report.table.status import status_table
    from acmix_bench.runs.status import status_of
    from acmix_bench.runs.store import folder_of

    found = status_of(folder_of(run, results))
    if as_json:
        print(json.dumps(content_of(found), indent=1))
    else:
        terminal.show([status_table(found)])
    raise typer.Exit(1 if found.failures else 0)


def print_event(event: dict[str, Any]) -> None:
    """What a run tells, as a line of JSON."""
    print(json.dumps(event), flush=True)
