"""A call in a fresh process of its own, which is over when the call is, whatever happens to either.

The processes are forked from a server that has torch imported but has run nothing, which makes a fresh one in
milliseconds. This process itself imports no torch, unless what a user brings does.
"""

from __future__ import annotations

import atexit
import faulthandler
import fcntl
import gc
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import forkserver, parent_process, resource_tracker, util
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any

from acmix_bench.errors import UserError

# torch imports its compiler on first use of the meta device and of some counters: a second a process, if not here.
PRELOAD = ["acmix_bench.runs.server"]
PRELOAD += [f"acmix_bench.meters.{name}" for name in ("accuracy", "as_timed", "conditions", "matmul", "steps")]
PRELOAD += ["acmix_bench.cli", "torch._dynamo", "torchvision.models"]
LONGEST = 70  # characters of a folder whose sockets have paths that the system takes (107, with their own names)
KEPT_OUTPUT, MOST_OUTPUT = 64 * 1024, 64 * 1024**2  # bytes of what a process says
# multiprocessing looks after all processes whenever one starts or is asked for, in whatever thread that is.
_PROCESSES = Lock()
_RUNNING: set[ForkServerProcess] = set()
# OpenMP reads how its threads wait when torch is loaded: those of this server's processes sleep, and do not spin.
_PATIENT = forkserver.ForkServer()


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a process may take.

    Attributes:
        seconds: after which it is ended.
        memory: in GiB, of what it allocates, together with the 0.3 that it starts with. What it maps from files and
            what a GPU holds does not count.
        cores: those that it may run on, where not all.
        patient: whether its threads sleep while they wait for each other. They are woken a little later than threads
            that spin, and hold up no other process meanwhile.
    """

    seconds: float
    memory: float | None = None
    cores: tuple[int, ...] = ()
    patient: bool = False


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came of a call: `ok` and what the function gave, or a status and a reason; and the end of what it said."""

    status: str
    content: Any
    output: str


def call(function: Callable[[Any], Any], argument: Any, timeout: float) -> tuple[Any, Any]:
    """Run a function in a fresh process: a status, and what it gave or the reason. What it said goes to stderr."""
    answer = answer_of(function, argument, Limits(seconds=timeout))
    if answer.output:
        print(answer.output, end="", file=sys.stderr, flush=True)
    return answer.status, answer.content


def answer_of(function: Callable[[Any], Any], argument: Any, limits: Limits) -> Answer:
    """Run a function in a fresh process; whatever happens to that process is told in the answer."""
    context = multiprocessing.get_context("forkserver")
    receiver, sender = context.Pipe(duplex=False)
    heard, said = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, said, function, argument, limits))
    try:
        _RUNNING.add(process)
        with _PROCESSES:
            start_server(patient=limits.patient)
            with _without_main(), _forked_from(_PATIENT if limits.patient else None), _undisturbed():
                process.start()
        sender.close()
        said.close()
        tail = bytearray()
        status, content = _awaited(process, receiver, heard, tail, limits.seconds)
        return Answer(status=status, content=content, output=tail.decode(errors="replace"))
    finally:
        end(process)
        _RUNNING.discard(process)
        for pipe in (receiver, sender, heard, said):
            pipe.close()


def _awaited(
    process: ForkServerProcess, receiver: Connection, heard: Connection, tail: bytearray, seconds: float
) -> tuple[str, Any]:
    """The answer of a process, or why there is none. The end of what it says goes into the tail."""
    until, listened, total = time.monotonic() + seconds, [receiver, heard], 0
    while receiver not in (ready := wait(listened, max(0, until - time.monotonic()))):
        total += _listen(heard, tail, listened) if heard in ready else 0
        if total > MOST_OUTPUT:
            return "crashed", f"it printed more than {MOST_OUTPUT // 1024**2} MiB, and was ended"
        if time.monotonic() > until:
            return "timeout", f"no answer within {seconds:g} seconds"
    try:
        answer: tuple[str, Any] = receiver.recv()
    except EOFError:
        answer = ("crashed", "")
    while heard in listened and total < MOST_OUTPUT and heard.poll(0):
        total += _listen(heard, tail, listened)
    heard.close()
    with _PROCESSES:
        process.join(5)  # so that it gives back what it holds of the system
    return answer if answer != ("crashed", "") else ("crashed", _end_of(process.exitcode))


def _listen(heard: Connection, tail: bytearray, listened: list[Connection]) -> int:
    """Read what was said; how many bytes it was."""
    piece = os.read(heard.fileno(), KEPT_OUTPUT)
    tail += piece
    del tail[:-KEPT_OUTPUT]
    if not piece:
        listened.remove(heard)
    return len(piece)


def _end_of(code: int | None) -> str:
    if code is None or code >= 0:
        return f"its process ended with code {code}" if code is not None else "its process gave no answer"
    name = signal.Signals(-code).name
    return f"its process was ended by {name}{'; the system may have run out of memory' * (name == 'SIGKILL')}"


def end(process: ForkServerProcess) -> None:
    """End a process and all that it started."""
    if process.pid is not None:
        with suppress(ProcessLookupError, PermissionError):  # it has not come so far as to lead a group
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.join()


@atexit.register
def _end_all() -> None:
    """Those of a Ctrl-C that came between a start and what ends it; multiprocessing would wait for them."""
    for process in list(_RUNNING):
        end(process)


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
            while not all(future.done() for future in asked):
                for process in list(_RUNNING):  # one that a thread was about to start, too
                    if process.pid is not None:
                        process.kill()
                time.sleep(0.01)
            raise


@contextmanager
def _without_main() -> Iterator[None]:
    """Start processes that do not import the script that calls: it would run again in each, from its first line."""
    ours, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = ours


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait: a process that has heard half of what it is to do says so in a traceback."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)  # one of meanwhile comes now


@contextmanager
def _forked_from(server: forkserver.ForkServer | None) -> Iterator[None]:
    """Start processes from another server than multiprocessing's own, which knows one."""
    before = forkserver.connect_to_new_process
    if server:
        forkserver.connect_to_new_process = server.connect_to_new_process
    try:
        yield
    finally:
        forkserver.connect_to_new_process = before


def _child(sender: Connection, said: Connection, function: Callable[[Any], Any], argument: Any, limits: Limits) -> None:
    """Answer with a status and what the function gives.

    Ctrl-C is the parent's to handle.
    """
    os.setpgid(0, 0)  # what it starts is ended with it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with_parent()
    gc.freeze()  # what the server has imported is no garbage; looking through it takes a third of a second a process
    gc.enable()
    for stream in (1, 2):  # what a variant's code prints does not belong into the tables
        os.dup2(said.fileno(), stream)
    said.close()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    faulthandler.enable()
    if limits.cores:
        os.sched_setaffinity(0, limits.cores)
    if limits.memory:
        most = int(limits.memory * 2**30)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    try:
        answer: tuple[str, Any] = ("ok", function(argument))
    except UserError as error:
        answer = ("user", str(error))
    sys.stdout.flush()
    with suppress(BrokenPipeError):  # after Ctrl-C nobody waits for the answer
        sender.send(answer)


def _end_with_parent() -> None:
    """Have the system end this process and all that it starts when the one that asked for it is gone, even by SIGKILL.

    That one holds the other end of a pipe; when it closes, the system sends SIGIO, which nobody handles.
    """
    parent = parent_process()
    assert parent is not None
    fcntl.fcntl(parent.sentinel, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(parent.sentinel, fcntl.F_SETFL, fcntl.fcntl(parent.sentinel, fcntl.F_GETFL) | os.O_ASYNC)
    if wait([parent.sentinel], 0):
        os._exit(1)


def start_server(*, patient: bool = False) -> ForkServerContext:
    """The server that cells are forked from; whoever calls does not wait for its imports, and may call early.

    Ctrl-C is this process's to handle, even while the server imports.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    _PATIENT.set_forkserver_preload(PRELOAD)
    os.environ["PYTHONSAFEPATH"] = "1"  # else it imports the package from the working folder, if that holds one
    keep_sockets_short()
    resource_tracker.ensure_running()  # it would lift the mask, and has its own for itself
    before, policy = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT]), os.environ.get("OMP_WAIT_POLICY")
    try:
        if patient:
            os.environ["OMP_WAIT_POLICY"] = "passive"
            _PATIENT.ensure_running()
        else:
            forkserver.ensure_running()
    finally:
        if patient and policy is None:
            del os.environ["OMP_WAIT_POLICY"]
        elif policy is not None:
            os.environ["OMP_WAIT_POLICY"] = policy
        signal.pthread_sigmask(signal.SIG_SETMASK, before)  # a Ctrl-C of meanwhile comes now
    return context


def socket_folder() -> str:
    """Where sockets can lie: the system's path of one is short, and TMPDIR may be long.

    Raises:
        UserError: where there is no such folder.
    """
    ours = tempfile.gettempdir()
    for folder in (ours, "/tmp", "/var/tmp", "/dev/shm"):
        if len(os.fsencode(folder)) <= LONGEST and os.access(folder, os.W_OK | os.X_OK) and Path(folder).is_dir():
            return folder
    raise UserError(f"TMPDIR={ours}: is too long for a socket ({LONGEST} characters are the most); set a shorter one")


def keep_sockets_short() -> None:
    """Have multiprocessing make its sockets where their paths are short enough, in this process and what it starts."""
    before = tempfile.tempdir
    tempfile.tempdir = socket_folder()
    try:
        util.get_temp_dir()
    finally:
        tempfile.tempdir = before
