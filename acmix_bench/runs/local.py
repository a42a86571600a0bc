"""Where a cell runs: in a fresh process of its own, on this machine.

A cell that crashes, hangs or fills the memory takes nothing with it, and none inherits another's caches, threads or
random numbers. The processes are forked from a server that has torch imported but has run nothing, which makes a
fresh one in milliseconds. This process itself imports no torch, unless what a user brings does.
"""

from __future__ import annotations

import gc
import json
import math
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from threading import Lock
from types import ModuleType
from typing import Any

from acmix_bench import meters
from acmix_bench.errors import UserError
from acmix_bench.meters.turns import Turns
from acmix_bench.runs.environment import usable_cores
from acmix_bench.runs.record import Status
from acmix_bench.spec.cell import Cell

# torch imports its compiler on first use of the meta device and of some counters: a second a process, if not here.
PRELOAD = ["acmix_bench.runs.server"]
PRELOAD += [f"acmix_bench.meters.{name}" for name in ("accuracy", "conditions", "matmul", "parity", "steps")]
PRELOAD += ["acmix_bench.cli", "torch._dynamo", "torchvision.models"]
# multiprocessing looks after all processes whenever one starts or is asked for, in whatever thread that is.
_PROCESSES = Lock()


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a cell: its values, or a status that says why there are none."""

    status: Status
    reason: str | None = None
    values: dict[str, Any] = field(default_factory=dict)


def measure(cells: Sequence[Cell], timeout: float, turns: Turns | None = None) -> list[Outcome]:
    """Run a meter on one cell, or on the cells that are timed together, in a process of their own.

    With `turns` they are timed in turns with those of another process. Where the process dies with several in it, each
    is tried alone, so that the one at fault is known.
    """
    status, content = call(partial(_measure, turns=turns), cells, timeout * len(cells))
    if status == "ok":
        outcomes: list[Outcome] = content
        return outcomes
    if len(cells) > 1 and not turns:
        return [outcome for cell in cells for outcome in measure([cell], timeout)]
    return [Outcome(status="crashed" if status == "user" else status, reason=content) for _ in cells]


def misfits(cells: Sequence[Cell], timeout: float) -> dict[str, str]:
    """Try the shapes of cells before anything is measured: why each row that cannot be cannot, by its label.

    Only what a user did wrong is told. What else goes wrong is told by the cell, when it is measured.
    """
    cores = usable_cores()
    parts = [cells[first::cores] for first in range(cores) if cells[first:]]
    answers = beside(partial(call, _misfits, timeout=timeout), parts, cores)
    return {label: why for status, content in answers if status == "ok" for label, why in content.items()}


def _measure(cells: Sequence[Cell], *, turns: Turns | None) -> list[Outcome]:
    import torch._inductor.config

    from acmix_bench.meters import conditions, latency
    from acmix_bench.meters.subject import Subject

    torch._inductor.config.compile_threads = 1  # its pool of workers would outlive this process
    if meters.find(cells[0].meter).repeats == "once":
        gc.disable()  # a count is over before its garbage matters
    meter, held = meters.find(cells[0].meter), conditions.hold(cells[0].protocol)
    subjects = [Subject.of(cell) for cell in cells]
    try:
        if meter.is_timing:
            results = latency.alternate(subjects, meter.measure, turns=turns)
        else:
            results = [meter.measure(subjects[0])]
    except Exception as error:  # noqa: BLE001 - whatever a user's code raises is this row's result, not the run's end
        results = [error] * len(cells)
    return [outcome_of(result, held if meter.is_timing else {}, name=cells[0].meter) for result in results]


def _refuse_odd_numbers(values: dict[str, Any], name: str) -> None:
    """Refuse values that do not hold the numbers that their meter declares."""
    meter = meters.find(name)
    for metric in meter.metrics:
        found = values.get(metric.key)
        numbers = list(found.values()) if isinstance(found, dict) else [found] * (found is not None)
        odd = [number for number in numbers if not isinstance(number, int | float) or isinstance(number, bool)]
        if odd or (not numbers and found is None and (metric.title or meter.repeats == "seeds")):
            told = f"but {odd[0]!r:.40}" if odd else f"but only {', '.join(values) or 'nothing'}"
            raise UserError(f"meter {name} must give a number as '{metric.key}', {told}")


def outcome_of(result: Any, more: dict[str, Any] | None = None, *, name: str) -> Outcome:
    """What came of a meter, in values that JSON can hold."""
    from acmix_bench.train.loop import Diverged

    try:
        if isinstance(result, Exception):
            raise result
        if not isinstance(result, dict):
            raise UserError(f"a meter must give a dict of JSON values, and gave {result!r:.60}")
        values = json.loads(json.dumps(_plain(result | (more or {}))))
        _refuse_odd_numbers(values, name)
        return Outcome(status="ok", values=values)
    except Diverged as error:
        return Outcome(status="diverged", reason=str(error))
    except UserError as error:
        return Outcome(status="crashed", reason=str(error))
    except Exception as error:  # noqa: BLE001 - as above
        first_line = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
        details = "".join(traceback.format_exception(error))
        return Outcome(status="crashed", reason=first_line, values={"traceback": details})


def _plain(value: Any, key: str = "") -> Any:
    """Raw values as JSON holds them: what numpy and torch give becomes numbers and lists.

    Raises:
        UserError: naming the key of what cannot be, or is no finite number.
    """
    if isinstance(value, dict):
        return {str(name): _plain(inner, f"{key}.{name}" if key else str(name)) for name, inner in value.items()}
    if not isinstance(value, str | int | float | None) and hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(inner, key) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"a meter gave {key}={value}, which is not a finite number")
    if not isinstance(value, str | int | float | None):
        raise UserError(f"a meter gave {key}={value!r:.60}, but its values must be numbers, texts, lists or mappings")
    return value


def _misfits(cells: Sequence[Cell]) -> dict[str, str]:
    from acmix_bench.meters import conditions, subject

    conditions.use_threads(1)  # there is such a process a core
    found: dict[str, str] = {}
    for cell in cells:
        try:
            subject.try_out(cell)
        except UserError as error:
            found.setdefault(cell.row.label, str(error))
        except Exception:  # noqa: BLE001 - the cell itself will fail, and say how
            continue
    return found


def call(function: Callable[[Any], Any], argument: Any, timeout: float) -> tuple[Any, Any]:
    """Run a function in a fresh process; whatever happens to that process is told in the answer."""
    with _PROCESSES:
        context = start_server()
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_child, args=(sender, function, argument))
        with _without_main():
            process.start()
    sender.close()
    try:
        if not receiver.poll(timeout):
            return "timeout", f"no answer within {timeout:g} seconds"
        answer: tuple[str, Any] = receiver.recv()
        process.join(5)  # so that it gives back what it holds of the system
        return answer
    except EOFError:
        with _PROCESSES:
            process.join()
        code = process.exitcode or 0
        if code >= 0:
            return "crashed", f"its process ended with code {code}"
        name = signal.Signals(-code).name
        hint = "; the system may have run out of memory" if name == "SIGKILL" else ""
        return "crashed", f"its process was ended by {name}{hint}"
    finally:
        process.kill()
        process.join()
        receiver.close()


def beside(function: Callable[[Any], Any], arguments: Sequence[Any], jobs: int) -> Iterator[Any]:
    """Call a function that measures, for several arguments at once; what it gives, as it comes.

    Ctrl-C ends what runs.
    """
    with ThreadPoolExecutor(jobs) as pool:
        asked = [pool.submit(function, argument) for argument in arguments]
        try:
            for future in as_completed(asked):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            with _PROCESSES:
                for process in multiprocessing.active_children():
                    process.kill()
            raise


@contextmanager
def _without_main() -> Iterator[None]:
    """Start processes that do not import the script that calls: it would run again in each, from its first line."""
    ours, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = ours


def _child(sender: Connection, function: Callable[[Any], Any], argument: Any) -> None:
    """Answer with a status and what the function gives.

    Ctrl-C is the parent's to handle.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()  # what the server has imported is no garbage; looking through it takes a third of a second a process
    gc.enable()
    os.dup2(2, 1)  # what a variant's code prints does not belong into the tables
    try:
        answer: tuple[str, Any] = ("ok", function(argument))
    except UserError as error:
        answer = ("user", str(error))
    with suppress(BrokenPipeError):  # after Ctrl-C nobody waits for the answer
        sender.send(answer)


def start_server() -> ForkServerContext:
    """The server that cells are forked from; whoever calls does not wait for its imports, and may call early.

    Ctrl-C is this process's to handle, even while the server imports.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    os.environ["PYTHONSAFEPATH"] = "1"  # else it imports the package from the working folder, if that holds one
    resource_tracker.ensure_running()  # it would lift the mask, and has its own for itself
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)  # a Ctrl-C of meanwhile comes now
    return context
