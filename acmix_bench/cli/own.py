"""The command for what you bring yourself: check."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from acmix_bench.cli import complete
from acmix_bench.cli.common import note
from acmix_bench.errors import UserError
from acmix_bench.ops import ATTENTIONS

MARKS = {True: "ok", False: "FAILS", None: "-"}


def check(
    name: Annotated[
        str,
        typer.Argument(help="package.module:NAME, file.py:NAME, or a name.", autocompletion=complete.names),
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

    Exit code 1 where a promise does not hold.

    \b
    Examples:
      acmix-bench check mixers.py:MyMixer
      acmix-bench check mixers.py:MyMixer,gain=2
      acmix-bench check mypackage.layers:MyWindowMixer --attention window
      acmix-bench check mypackage.data:FLOWERS
    """
    from acmix_bench.runs import local
    from acmix_bench.runs.contract import kind_of, promises

    kind = kind_of(name)
    status, found = local.call(partial(promises, attention=attention, root=root), name, 600)
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
