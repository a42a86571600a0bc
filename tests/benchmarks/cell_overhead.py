"""What does a cell cost beyond its own work?

    python tests/benchmarks/cell_overhead.py [--cells 40] [--out FILE]

Sweeps of cells that answer at once, one after the other, of the two kinds that have a process each: a count and a
score. The seconds a cell, start of the sweep left out, and where they go: the process (its start, and its answer
with its end), the record (written and on disk), the machine's state, and a log. About 2 minutes; nothing else should
run on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

from acmix_bench import ablate
from acmix_bench.runs import local, process, work
from acmix_bench.runs.environment import this_environment
from acmix_bench.runs.process import start_server
from acmix_bench.runs.store import Store
from acmix_bench.spec import library

METERS = """
from acmix_bench.spec.meter import Meter, Metric


def once(subject):
    return {"number": 1}


def seed(subject):
    print("a line for its log")
    return {"score": subject.seed / 1000}


COUNT = Meter(summary="a count", measure=once, metrics=(Metric(key="number", title="number"),))
SCORE = Meter(summary="a score", measure=seed, metrics=(Metric(key="score", title="score"),), repeats="seeds")
"""
spent: dict[str, list[float]] = defaultdict(list)


def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, whose seconds are noted."""

    def call(*arguments: Any, **named: Any) -> Any:
        clock = time.perf_counter()
        try:
            return function(*arguments, **named)
        finally:
            spent[name].append(time.perf_counter() - clock)

    return call


def main() -> None:
    """Print a line a kind."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cells", type=int, default=40)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        Path("mine.py").write_text(METERS)
        for kind in ("COUNT", "SCORE"):
            spent.clear()
            rows = [f"heads={number}" for number in range(1, chosen.cells + 2)] if kind == "COUNT" else []
            seeds = chosen.cells if kind == "SCORE" else 1
            settings = [f"meters=mine.py:{kind}", f"seeds={seeds}", "threads=1"]
            experiment = library.with_settings(library.load_experiment("custom"), settings)
            plan = ablate.plan_of(experiment, ablate.rows_of(experiment, rows))
            start_server(patient=kind == "SCORE")
            local.measure(plan.cells[:1], 60)  # the server has imported what it forks
            with (
                patch.object(Store, "append", timed("record", Store.append)),
                patch.object(Store, "write", timed("log", Store.write)),
                patch.object(process.ForkServerProcess, "start", timed("start", process.ForkServerProcess.start)),
                patch.object(process, "_awaited", timed("answer", process._awaited)),
                patch.object(work, "machine_state", timed("state", work.machine_state)),
                patch.object(import_module("acmix_bench.runs.launch.here"), "usable_cores", lambda: 1),
            ):
                clock = time.perf_counter()
                ablate.ablate(plan, Store(Path(kind)), loudness="quiet", misfits=lambda *_: {})
                seconds = (time.perf_counter() - clock) / len(plan.cells)
            parts = {name: median(times) for name, times in spent.items() if times}
            found[kind.lower()] = {"cells": len(plan.cells), "seconds_a_cell": seconds, **parts}
            told = ", ".join(f"{name} {1000 * value:.1f}" for name, value in parts.items())
            print(
                f"{kind.lower()}: {1000 * seconds:.0f} ms a cell of {len(plan.cells)}; medians in ms: {told}",
                flush=True,
            )
    if chosen.out:
        told = {"environment": this_environment().model_dump(), "kinds": found}
        chosen.out.write_text(json.dumps(told, indent=1) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
