"""The command line as a user meets it: in a process and a folder of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from functools import cache, partial
from pathlib import Path

ROOT = Path(__file__).parent.parent
SECONDS = 300  # after which a command is ended
# What a run is set to where its numbers do not matter.
QUICK = ["--set", "processes=2", "--set", "seconds=0.02", "--set", "seeds=1", "--set", "epochs=1", "--set", "batch=4"]
_BEFORE = dict(os.environ)


def start(
    *arguments: str, folder: Path, path: Path | None = None, within: tuple[str, ...] = ()
) -> subprocess.Popen[str]:
    """Start a command in a folder; `path` is searched for modules first, `within` stands before it."""
    command = [*within, sys.executable, "-m", "acmix_bench", *arguments]
    places = [str(place) for place in (path, os.environ.get("PYTHONPATH")) if place]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    # A shell's background job is started with Ctrl-C ignored, and would hand that on.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(
        command, cwd=folder, text=True, start_new_session=True, env=environment, preexec_fn=heed, **pipes
    )


def run_in(
    folder: Path, *arguments: str, path: Path | None = None, within: tuple[str, ...] = ()
) -> tuple[int, str, str]:
    """Its exit code, and what it printed. Forked from a process that has its imports, where it can be."""
    if within or _environment_is_another():
        process = start(*arguments, folder=folder, path=path, within=within)
        out, err = process.communicate(timeout=SECONDS)
        return process.returncode, out, err
    with tempfile.NamedTemporaryFile("r+") as out, tempfile.NamedTemporaryFile("r+") as err:
        places = [str(place) for place in (folder.absolute(), path) if place]
        asked = {"arguments": arguments, "places": places, "out": out.name, "err": err.name}
        server = _forking()
        server.stdin.write(json.dumps(asked) + "\n")
        server.stdin.flush()
        return int(server.stdout.readline()), Path(out.name).read_text(), Path(err.name).read_text()


def _environment_is_another() -> bool:
    changed = {name for name, _ in {*_BEFORE.items()} ^ {*os.environ.items()}}
    return bool(changed - {"PYTEST_CURRENT_TEST", "PYTHONSAFEPATH"})


@cache
def _forking() -> subprocess.Popen[str]:
    """It ends when this process does, and its pipes with it."""
    command = [sys.executable, str(ROOT / "tests" / "forked_commands.py")]
    # A test that measured here has set PYTHONSAFEPATH, with which a script does not find what lies beside it.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    return subprocess.Popen(command, text=True, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
