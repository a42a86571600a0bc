"""Where a cell runs: in a fresh process of its own, on this machine.

A cell that crashes, hangs or fills the memory takes nothing with it, and none inherits another's caches, threads or
random numbers. The processes are forked from a server that has torch imported but has run nothing, which makes a
fresh one in milliseconds. This process itself never imports torch.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import random
import signal
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pkgutil import resolve_name
from typing import Any

from acmix_bench.errors import UserError
from acmix_bench.meters import METERS
from acmix_bench.meters.turns import Turns
from acmix_bench.record import Status
from acmix_bench.spec import Cell

# torch imports its compiler on first use of the meta device and of some counters: a second a process, if not here.
_PRELOAD = [f"acmix_bench.{name}" for name in ("cli", "meters.accuracy", "meters.latency", "meters.macs")]
_PRELOAD.append("torch._dynamo")
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's mallopt
HOLES = 128  # 4 KiB to 4 MiB each


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a cell: its values, or a status that says why there are none."""

    status: Status
    reason: str | None = None
    values: dict[str, Any] = field(default_factory=dict)


def measure(cells: Sequence[Cell], timeout: float, turns: Turns | None = None) -> list[Outcome]:
    """Run a meter on one cell, or on the cells that are timed together, in a process of their own.

    With `turns` they are timed in turns with those of another process. Where the
    process dies with several in it, each is tried alone, so that the one at fault is known.

    Raises:
        UserError: for a mistake that only showed itself there.
    """
    kind, content = _call(partial(_measure, turns=turns), cells, timeout * len(cells))
    if kind == "user":
        raise UserError(content)
    if kind == "ok":
        outcomes: list[Outcome] = content
        return outcomes
    if len(cells) > 1 and not turns:
        return [outcome for cell in cells for outcome in measure([cell], timeout)]
    return [Outcome(status=kind, reason=content) for _ in cells]


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
    from acmix_bench.meters import accuracy, subject

    _use_threads(cell.protocol["threads"])
    subject.check(cell)
    try:
        return _outcome(accuracy.measure(subject.Subject.of(cell), report=report))
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever the variant's code raises
        return _outcome(error)


def _measure(cells: Sequence[Cell], *, turns: Turns | None) -> list[Outcome]:
    import torch._inductor.config

    from acmix_bench.meters.subject import Subject

    torch._inductor.config.compile_threads = 1  # its pool of workers would outlive this process
    meter, pinned = METERS[cells[0].meter], {}
    if "threads" in cells[0].protocol:
        pinned = _pin(cells[0].protocol["threads"], cells[0].protocol.get("allocator"))
    run = resolve_name(meter.function)
    subjects = [Subject.of(cell) for cell in cells]
    try:
        results = run(subjects, turns) if meter.is_timing else [run(subjects[0])]
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever the variant's code raises is this row's result, not the run's end
        results = [error] * len(cells)
    return [_outcome(result, pinned if meter.is_timing else {}) for result in results]


def _outcome(result: dict[str, Any] | Exception, more: dict[str, Any] | None = None) -> Outcome:
    from acmix_bench.meters.subject import Diverged

    if isinstance(result, Diverged):
        return Outcome(status="diverged", reason=str(result))
    if isinstance(result, Exception):
        details = "".join(traceback.format_exception(result))
        return Outcome(status="crashed", reason=_first_line(result), values={"traceback": details})
    return Outcome(status="ok", values=result | (more or {}))


def _pin(threads: int, allocator: str | None) -> dict[str, Any]:
    """Hold what moves a timing: the threads, the cores that they run on, and where asked the memory allocator.

    glibc gives large blocks back to the system at once, and every page of the next one is a fault again: on a virtual
    machine that is up to half of a step's time, and it depends on what was freed before. With `keep` it keeps them,
    and its heap is scattered.
    """
    import torch

    _use_threads(threads)
    cores = sorted(os.sched_getaffinity(0))[:threads]
    os.sched_setaffinity(0, cores)
    keeps_memory = False
    if allocator == "keep":
        with suppress(AttributeError, OSError):  # not glibc
            libc = ctypes.CDLL(None)
            keeps_memory = bool(libc.mallopt(M_MMAP_MAX, 0) and libc.mallopt(M_TRIM_THRESHOLD, -1))
            _scatter(libc)
    build = torch.__config__.show().splitlines()
    libraries = [
        line.strip(" -") for line in build if any(word in line for word in ("Math Kernel", "MKL-DNN", "CPU cap"))
    ]
    return {"threads": threads, "cores": cores, "keeps_memory": keeps_memory, "libraries": libraries}


def _scatter(libc: ctypes.CDLL) -> None:
    """Leave holes of random sizes in the heap, so that each process has a memory layout of its own.

    Else all processes that are forked from one server lie alike in memory, and have the same luck with it: a version
    then differed from itself by up to 5 %, and no number of processes averaged that away.
    """
    libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    draw = random.SystemRandom()
    blocks = [libc.malloc(ctypes.c_size_t(int(2 ** draw.uniform(12, 22)))) for _ in range(2 * HOLES)]
    for block in draw.sample(blocks, HOLES):
        libc.free(block)


def _use_threads(threads: int) -> None:
    """Hold torch to a number of CPU threads.

    Not by torch.set_num_threads, which also tells MKL to thread products inside threads: 10 % slower attention.
    """
    import threadpoolctl
    import torch

    torch.get_num_threads()  # torch sets the number itself when it is first asked
    threadpoolctl.threadpool_limits(threads, user_api="openmp")
    if torch.get_num_threads() != threads:  # a torch without OpenMP
        torch.set_num_threads(threads)


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


def _call(function: Callable[[Any], Any], argument: Any, timeout: float) -> tuple[Any, Any]:
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
        process.join(5)  # so that it gives back what it holds of the system
        return answer
    except EOFError:
        process.join()
        return "crashed", _death(process.exitcode or 0)
    finally:
        process.kill()
        process.join()
        receiver.close()


def _child(sender: Connection, function: Callable[[Any], Any], argument: Any) -> None:
    """Answer with a status and what the function gives.

    Ctrl-C is the parent's to handle.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()  # what the server has imported is no garbage; looking through it takes a third of a second a process
    os.dup2(2, 1)  # what a variant's code prints does not belong into the tables
    try:
        answer: tuple[str, Any] = ("ok", function(argument))
    except UserError as error:
        answer = ("user", str(error))
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
    os.environ["PYTHONSAFEPATH"] = "1"  # else it imports the package from the working folder, if that holds one
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, handler)
    return context
