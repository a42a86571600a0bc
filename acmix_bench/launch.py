"""Where a cell runs: in a fresh process of its own, on this machine.

A cell that crashes, hangs or fills the memory takes nothing with it, and none inherits another's caches, threads or
random numbers. The processes are forked from a server that has torch imported but has run nothing, which makes a
fresh one in milliseconds. This process itself never imports torch.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pkgutil import resolve_name
from typing import Any

from acmix_bench.errors import UserError
from acmix_bench.meters import METERS
from acmix_bench.record import Status
from acmix_bench.spec import Cell

# torch imports its compiler on first use of the meta device and of some counters: a second a process, if not here.
_PRELOAD = [f"acmix_bench.{name}" for name in ("cli", "meters.accuracy", "meters.latency", "meters.macs")]
_PRELOAD.append("torch._dynamo")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a cell: its values, or a status that says why there are none."""

    status: Status
    reason: str | None = None
    values: dict[str, Any] = field(default_factory=dict)


def measure(cell: Cell, timeout: float) -> Outcome:
    """Run a cell's meter in a process of its own.

    Raises:
        UserError: for a mistake that only showed itself there.
    """
    kind, content = _call(_measure, cell, timeout)
    if kind == "user":
        raise UserError(content)
    if kind == "ok":
        return Outcome(status=kind, values=content)
    reason, _, details = content.partition("\n")
    return Outcome(status=kind, reason=reason, values={"traceback": details} if details else {})


def check(cells: list[Cell], timeout: float) -> None:
    """Try the shapes of all cells before anything is measured.

    Raises:
        UserError: for the first that cannot be.
    """
    kind, content = _call(_check, cells, timeout)
    if kind == "user":
        raise UserError(content)


def train_here(cell: Cell, report: Callable[[int, float, float], None]) -> Outcome:
    """Train in this process, for someone who watches the epochs.

    Raises:
        UserError: where the cell cannot be.
    """
    import torch

    from acmix_bench.meters import accuracy, subject

    torch.set_num_threads(cell.protocol["threads"])
    try:
        subject.check(cell)
        return Outcome(status="ok", values=accuracy.measure(subject.Subject.of(cell), report=report))
    except subject.Diverged as error:
        return Outcome(status="diverged", reason=str(error))
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever the variant's code raises
        return Outcome(status="crashed", reason=_first_line(error), values={"traceback": traceback.format_exc()})


def _measure(cell: Cell) -> dict[str, Any]:
    import torch

    from acmix_bench.meters.subject import Subject

    if "threads" in cell.protocol:
        torch.set_num_threads(cell.protocol["threads"])
    values: dict[str, Any] = resolve_name(METERS[cell.meter].function)(Subject.of(cell))
    return values


def _check(cells: list[Cell]) -> dict[str, Any]:
    """Only a user's mistake ends the run here. What else goes wrong is told by the cell, when it is measured."""
    from acmix_bench.meters import subject

    for cell in cells:
        try:
            subject.check(cell)
        except UserError:
            raise
        except Exception:  # noqa: BLE001 - the cell itself will fail, and say how
            continue
    return {}


def _call(function: Callable[[Any], dict[str, Any]], argument: Any, timeout: float) -> tuple[Any, Any]:
    """Run a function in a fresh process; whatever happens to that process is told in the answer."""
    context = _context()
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, function, argument), daemon=True)
    process.start()
    sender.close()
    try:
        if not receiver.poll(timeout):
            return "timeout", f"no answer within {timeout:g} seconds"
        answer: tuple[str, Any] = receiver.recv()
        return answer
    except EOFError:
        process.join()
        return "crashed", _death(process.exitcode or 0)
    finally:
        process.kill()
        process.join()
        receiver.close()


def _child(sender: Connection, function: Callable[[Any], dict[str, Any]], argument: Any) -> None:
    """Answer with a status and the values, or a line that says what happened and, below it, where.

    Ctrl-C is the parent's to handle.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(2, 1)  # what a variant's code prints does not belong into the tables
    from acmix_bench.meters.subject import Diverged

    try:
        answer: tuple[str, Any] = ("ok", function(argument))
    except UserError as error:
        answer = ("user", str(error))
    except Diverged as error:
        answer = ("diverged", str(error))
    except Exception as error:  # noqa: BLE001 - whatever the variant's code raises is this row's result, not the run's end
        answer = ("crashed", f"{_first_line(error)}\n{traceback.format_exc()}")
    with suppress(BrokenPipeError):  # after Ctrl-C nobody waits for the answer
        sender.send(answer)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"


def _death(exitcode: int) -> str:
    if exitcode >= 0:
        return f"its process ended with code {exitcode}"
    name = signal.Signals(-exitcode).name
    hint = "; the system may have run out of memory" if name == "SIGKILL" else ""
    return f"its process was ended by {name}{hint}"


def _context() -> ForkServerContext:
    """The server that cells are forked from. Ctrl-C is this process's to handle, even while the server imports."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, handler)
    return context
