"""What several commands share: options that mean the same everywhere, and how a run is found."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from acmix_bench.errors import unknown

if TYPE_CHECKING:
    from acmix_bench.run.record import Run

SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="key=value of the protocol, backbone or image_size. Repeatable.")
]
ResultsOption = Annotated[Path, typer.Option("--results", help="Folder of results.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print raw values as JSON.")]


def note(line: str) -> None:
    """Tell a person something on stderr; stdout is for results."""
    print(line, file=sys.stderr, flush=True)


def load(run: str, results: Path) -> Run:
    """A run by its folder, or by its name below the results folder."""
    from acmix_bench.run.store import Store, runs_below

    for folder in (Path(run), results / run):
        if (folder / "run.json").exists():
            return Store(folder).load()
    raise unknown("run", run, runs_below(results), where=str(results))
