"""What several commands share: options that mean the same everywhere, and how a person is told something."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from acmix_bench.cli import complete

if TYPE_CHECKING:
    from acmix_bench.spec.cell import Cell, Row
    from acmix_bench.spec.experiment import Experiment

SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="key=value of the protocol, backbone or image_size. Repeatable.",
        autocompletion=complete.settings,
    ),
]
VariantOption = Annotated[
    list[str] | None,
    typer.Option(
        "--variant",
        "-v",
        help="A name, a YAML file, or axis=value[,value][,axis=value...]. Repeatable.",
        autocompletion=complete.variants,
    ),
]
ModelsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[MODEL]...",
        help="BACKBONE-VARIANT@SIZE, the last two where wanted: nano, nano-acmix@32, operator-64.",
        autocompletion=complete.models,
    ),
]
OneModelArgument = Annotated[
    str | None,
    typer.Argument(help="BACKBONE-VARIANT@SIZE, in place of --variant on nano.", autocompletion=complete.models),
]
OneVariantOption = Annotated[
    str | None,
    typer.Option("--variant", "-v", help="A name, a YAML file, or axis=value.", autocompletion=complete.variants),
]
ExperimentOption = Annotated[
    str, typer.Option("--experiment", "-e", help="A name or a YAML file.", autocompletion=complete.experiments)
]
ResultsOption = Annotated[Path, typer.Option("--results", help="Folder of results.")]
DevicesOption = Annotated[
    str | None,
    typer.Option(
        "--devices", metavar="NAMES", help="GPUs, a training each: cuda:0,cuda:1, or all. Timings run on the first."
    ),
]
LauncherOption = Annotated[
    str,
    typer.Option(
        "--launcher",
        help="Where cells run: here, ray, or a Launcher of your own, as file.py:NAME.",
        rich_help_panel="On a cluster",
    ),
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="HOST:PORT",
        help="Of the Ray cluster, where not the one of this machine.",
        rich_help_panel="On a cluster",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print raw values as JSON.")]


def is_watched() -> bool:
    """Whether somebody looks at a terminal and takes colours; what is piped stays plain text."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def as_help(text: str) -> str:
    """A docstring as help: on a terminal its examples stand out."""
    if not is_watched():
        return text
    text = re.sub(r"^( *)(Examples?:)", r"\1[bold]\2[/]", text, flags=re.MULTILINE)
    return re.sub(r"((?<=\s)acmix-bench .*?)(  .*)?$", r"[cyan]\1[/][dim]\2[/]", text, flags=re.MULTILINE)


def note(line: str) -> None:
    """Tell a person something on stderr; stdout is for results."""
    print(line, file=sys.stderr, flush=True)


def only_cell(row: Row, experiment: Experiment) -> Cell:
    """The one cell of a command that measures in this process and keeps no record: its devices are not looked at."""
    from acmix_bench import ablate as flow
    from acmix_bench.runs.environment import this_environment

    return flow.plan_of(experiment, [row], environment=this_environment()).cells[0]
