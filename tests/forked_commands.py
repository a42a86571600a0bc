"""Run commands for the tests, in processes that are forked from this one, which has imported all that they need.

Each is a process of its own, as a user's is, but for some seconds of imports: its own, and those of the servers that it
forks cells from, which all share. Asked by lines of JSON (arguments, folders, files for what is printed), this answers
with exit codes. A command runs in the first folder; modules are searched for there, and then in the others.
"""

from __future__ import annotations

import atexit
import json
import os
import random
import runpy
import signal
import sys
import traceback
from importlib import import_module
from multiprocessing import forkserver

from package import SECONDS

from acmix_bench.runs import process


def main() -> None:
    for name in process.PRELOAD:
        import_module(name)
    for is_patient in (False, True):
        process.start_server(patient=is_patient)
    for line in sys.stdin:
        child = os.fork()
        if not child:
            run(**json.loads(line))
        print(code_of(child), flush=True)


def code_of(child: int) -> int:
    def give_up(*_: object) -> None:
        os.killpg(child, signal.SIGKILL)

    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(SECONDS)
    _, status = os.waitpid(child, 0)
    signal.alarm(0)
    return os.waitstatus_to_exitcode(status)


def run(arguments: list[str], places: list[str], out: str, err: str) -> None:
    """Be `python -m acmix_bench` in a folder."""
    os.setsid()
    for stream, (path, how) in enumerate([(os.devnull, os.O_RDONLY), (out, os.O_WRONLY), (err, os.O_WRONLY)]):
        os.dup2(os.open(path, how), stream)
    os.chdir(places[0])
    sys.path[:1], sys.argv = places, ["acmix-bench", *arguments]
    random.seed()
    for server in (forkserver._forkserver, process._PATIENT):
        server.ensure_running = lambda: None  # it runs, as another's child
    forkserver.ensure_running = lambda: None
    code = 1
    try:
        runpy.run_module("acmix_bench", run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        if sys.exception():
            traceback.print_exc()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
