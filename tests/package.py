"""The command line as a user meets it: in a process and a folder of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parent.parent


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
    """Its exit code, and what it printed."""
    process = start(*arguments, folder=folder, path=path, within=within)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err
