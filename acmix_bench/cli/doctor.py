"""The command for a new machine: doctor."""

from __future__ import annotations

from typing import Annotated

import typer

from acmix_bench.cli.common import note

MARKS = {True: "pass", False: "FAIL", None: "n/a"}


def doctor(
    device: Annotated[str, typer.Option("--device", "-d", help="cpu, cuda, cuda:1, mps, xpu.")] = "cpu",
) -> None:
    """Say whether the numbers of this machine and device can be trusted, in at most 3 minutes: run it first.

    What it is and what is missing, each operator against its reference in each dtype, the clock, the memory. Every line
    is a pass, a fail with what to do, or not applicable. Exit code 1 where one fails.

    \b
    Examples:
      acmix-bench doctor
      acmix-bench doctor --device cuda:1
    """
    from acmix_bench.doctor import examined

    failed = 0
    for part, promises in examined(device):
        print(part.capitalize(), flush=True)
        for promise in promises:
            print(f"  {MARKS[promise.holds]:<5} {promise.name:<30} {promise.told}", flush=True)
        failed += sum(promise.holds is False for promise in promises)
    if failed:
        note(f"{failed} failed: numbers of this machine are not to be trusted yet")
        raise typer.Exit(1)
