"""The command for what you bring yourself: check."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from acmix_bench.cli import complete
from acmix_bench.cli.common import note
from acmix_bench.errors import UserError
from acmix_bench.ops import ATTENTIONS

MOST_SECONDS, MOST_SECONDS_OF_DATA = 600, 24 * 3600  # ImageNet's pictures take hours
MARKS = {True: "ok", False: "FAILS", None: "-"}


def check(
    name: Annotated[
        str,
        typer.Argument(
            help="package.module:NAME, file.py:NAME, folder:PATH, or a name.", autocompletion=complete.names
        ),
    ],
    attention: Annotated[
        str,
        typer.Option(
            "--attention",
            help=f"Of the backbones that an operator is for: {', '.join(ATTENTIONS)}.",
            autocompletion=complete.one_of(*ATTENTIONS),
        ),
    ] = "local",
    root: Annotated[str, typer.Option("--data-root", help="Folder of the data sets that are not embedded.")] = "data",
) -> None:
    """Build an operator, backbone, data set, meter or axis of your own, and say line by line what holds.

    Of a data set in folders it opens every picture, and names those that cannot be read.

    Exit code 1 where a promise does not hold.

    \b
    Examples:
      acmix-bench check mixers.py:MyMixer
      acmix-bench check mixers.py:MyMixer,gain=2
      acmix-bench check mypackage.layers:MyWindowMixer --attention window
      acmix-bench check mypackage.data:FLOWERS
      acmix-bench check data=folder:photos
    """
    from acmix_bench.runs import process
    from acmix_bench.runs.contract import kind_of, promises

    name = name.removeprefix("data=")  # as --set takes it
    kind = kind_of(name)
    seconds = MOST_SECONDS_OF_DATA if kind == "data set" else MOST_SECONDS
    status, found = process.call(partial(promises, attention=attention, root=root), name, seconds)
    if status == "user":
        raise UserError(found)
    if status != "ok":
        note(f"error: {kind} {name}: {found}")
        raise typer.Exit(1)
    print(f"{kind} {name}" + (f" in {attention} attention" if kind == "operator" else ""))
    for promise in found:
        print(f"  {MARKS[promise.holds]:<6} {promise.name:<20} {promise.told}")
    broken = sum(promise.holds is False for promise in found)
    if broken:
        note(f"{broken} of {len(found)} promises do not hold")
        raise typer.Exit(1)
