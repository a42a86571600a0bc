"""`running.json`: what a run measures just now, for `acmix-bench status`. It is there as long as the run goes on.

A process that was killed leaves it behind, but not the lock on the records.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from acmix_bench import files
from acmix_bench.errors import UserError
from acmix_bench.runs.progress import Tell
from acmix_bench.runs.record import Again
from acmix_bench.runs.store import Store
from acmix_bench.spec.strict import Value

RUNNING = "running.json"
MOST = 64 * 2**20  # bytes of it


class Started(Value):
    """A cell that runs, where, and since when in seconds of the system's clock."""

    key: str
    row: str
    meter: str
    repeat: int
    where: str
    time: float


class Writing(Value):
    """Who measures a run, how, and what just now.

    Attributes:
        before: how long the records were when it began, in bytes: what stands behind is its own.
    """

    host: str
    pid: int
    started: float
    jobs: int
    again: Again
    before: int
    cells: tuple[Started, ...] = ()
    format: Literal[1] = 1


@contextmanager
def written_down(store: Store, jobs: int, again: Again) -> Iterator[Tell]:
    """Write down who measures here and what runs, in a store that is open; gives what is to be told what happens.

    A run goes on where this cannot be written.
    """
    now = Writing(
        host=socket.gethostname(),
        pid=os.getpid(),
        started=time.time(),
        jobs=jobs,
        again=again,
        before=store.length,
    )

    def tell(event: dict[str, Any]) -> None:
        nonlocal now
        cells = [cell for cell in now.cells if cell.key != event.get("key")]
        if event["event"] == "started":
            cells.append(Started(**{name: event[name] for name in Started.model_fields}))
        now = now.model_copy(update={"cells": tuple(cells)})
        with suppress(UserError):
            store.write(RUNNING, now.model_dump_json())

    try:
        tell({"event": "opened"})
        yield tell
    finally:
        with suppress(OSError):
            (store.folder / RUNNING).unlink(missing_ok=True)


def written(folder: Path) -> Writing | None:
    """What is written down; None where nothing is, or nothing that this version can read."""
    try:
        return Writing.model_validate_json(files.content_of(folder / RUNNING, most=MOST))
    except (OSError, ValidationError, UserError):
        return None
