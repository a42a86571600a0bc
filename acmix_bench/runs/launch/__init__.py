"""Where the cells of a sweep run: a launcher by its name, or one of a user's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from acmix_bench.errors import UserError
from acmix_bench.runs.accelerators import Device
from acmix_bench.runs.launch.here import here
from acmix_bench.runs.launch.launcher import Launcher
from acmix_bench.runs.record import Plan
from acmix_bench.spec import plugins

KNOWN = ("here", "ray")


@contextmanager
def opened(
    name: str, plan: Plan, *, address: str | None = None, jobs: int = 1, devices: Sequence[Device] = ()
) -> Iterator[Launcher]:
    """The launcher of a plan's cells; what it holds of a cluster is given back at the end.

    Raises:
        UserError: for an unknown name, an option that it does not take, or a cluster that does not answer.
    """
    if address is not None and name != "ray":
        raise UserError(f"--address: is where a Ray cluster is; {name} has none, so add --launcher ray")
    if jobs > 1 and name != "here":
        raise UserError(f"--jobs: is for processes of this machine; --launcher {name} takes what its machines have")
    if devices and name != "here":
        raise UserError(f"--devices: is for GPUs of this machine; --launcher {name} takes what its machines have")
    if name == "here":
        yield here(jobs, devices)
    elif name == "ray":
        from acmix_bench.runs.launch.ray import connected

        with connected(address, plan) as launcher:
            yield launcher
    else:
        yield plugins.find("launcher", name, dict.fromkeys(KNOWN, here()), Launcher)
