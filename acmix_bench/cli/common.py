"""What several commands share: options that mean the same everywhere, and how a person is told something."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="key=value of the protocol, backbone or image_size. Repeatable.")
]
ResultsOption = Annotated[Path, typer.Option("--results", help="Folder of results.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print raw values as JSON.")]


def note(line: str) -> None:
    """Tell a person something on stderr; stdout is for results."""
    print(line, file=sys.stderr, flush=True)
