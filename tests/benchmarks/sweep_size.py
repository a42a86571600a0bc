"""How large a sweep may be: how long its views take, and how much memory, as its records grow.

    python tests/benchmarks/sweep_size.py [--cells 1000 10000 100000] [--out FILE]

Of each size there are two sweeps: ten variants with as many seeds as it takes (deep), and as many variants as it takes
with five seeds (wide). Their records are made up, in a folder that is thrown away; the commands are those of a user,
each in a process of its own, start included. Seconds are the processor's, of one thread. About 6 minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from acmix_bench import ablate
from acmix_bench.runs import environment
from acmix_bench.runs.record import Record
from acmix_bench.runs.store import Store
from acmix_bench.spec import library

TEN = ["heads=1,2,8", "window=3,5", "kernel_size=1,5", "mix=fixed,alpha"]
FINISHED = """
import sys, time
from pathlib import Path
from acmix_bench.runs.record import KeptPlan
from acmix_bench.runs.store import Store
folder = Path(sys.argv[1])
plan = KeptPlan.model_validate_json((folder / "run.json").read_bytes())
clock = time.process_time()
assert len(Store(folder).finished(plan.keys, plan.environment)) == len(plan.keys)
print(time.process_time() - clock)
"""


def sweep(cells: int, *, wide: bool) -> list[str]:
    """The arguments of `ablate` for a sweep of so many cells."""
    variants = ["heads=" + ",".join(str(n) for n in range(1, cells // 5 + 2) if n != 4)] if wide else TEN
    seeds = 5 if wide else cells // 10
    settings = ["meters=accuracy", f"seeds={seeds}", "threads=2"]
    return [word for v in variants for word in ("-v", v)] + [word for s in settings for word in ("--set", s)]


def filled(folder: Path, arguments: list[str]) -> int:
    """Make a store with a record of every cell; how many there are."""
    named = list(zip(arguments[::2], arguments[1::2], strict=True))
    settings = [value for option, value in named if option == "--set"]
    experiment = library.with_settings(library.load_experiment("custom"), settings)
    plan = ablate.plan_of(experiment, ablate.rows_of(experiment, [v for option, v in named if option == "-v"]))
    state, count = environment.machine_state(), 0
    with Store(folder).opened(plan), (folder / "records.jsonl").open("a") as file:
        for cell in plan.cells:
            top1 = 0.9 + cell.repeat % 7 / 100
            values = {"accuracy": top1, "test_images": 360, "accuracy_by_epoch": [0.5, 0.8, top1]}
            values |= {"loss_by_epoch": [1.0, 0.5, 0.25], "mixing_weights": [[1.0, 1.0]] * 4}
            record = Record(
                key=cell.key,
                cell=cell,
                environment=plan.environment,
                started="2026-01-01T00:00:00+00:00",
                seconds=10,
                state=state,
                status="ok",
                values=values,
            )
            file.write(record.model_dump_json() + "\n")
            count += 1
    return count


def measured(command: list[str], folder: Path) -> tuple[float, int, str]:
    """Processor seconds and peak MiB of a command, and what it printed."""
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(command, cwd=folder, stdout=out)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{command[:4]} ended with {process.returncode}")
        out.seek(0)
        return used.ru_utime + used.ru_stime, used.ru_maxrss // 1024, out.read()


def main() -> None:
    """Print a line a size."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cells", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    tool, found = [sys.executable, "-m", "acmix_bench"], []
    print("cells      variants   records.jsonl  finished       ablate --dry-run    table")
    for cells in chosen.cells:
        for wide in (False, True):
            arguments = sweep(cells, wide=wide)
            with tempfile.TemporaryDirectory() as place:
                folder = Path(place, "results", "custom")
                count = filled(folder, arguments)
                size = (folder / "records.jsonl").stat().st_size // 2**20
                *_, told = measured([sys.executable, "-c", FINISHED, str(folder)], Path(place))
                dry = measured([*tool, "ablate", *arguments, "--dry-run"], Path(place))
                if f"{count} done" not in dry[2].replace(",", ""):
                    raise SystemExit(dry[2][-200:])
                table = measured([*tool, "table", "custom"], Path(place))
            rows = cells // 5 + 1 if wide else 10
            times = f"{float(told):6.2f} s   {dry[0]:6.2f} s {dry[1]:5} MiB   {table[0]:6.2f} s {table[1]:5} MiB"
            print(f"{count:<10} {rows:<10} {size:5} MiB   {times}", flush=True)
            row = {
                "cells": count,
                "variants": rows,
                "finished_s": float(told),
                "dry_run_s": dry[0],
                "table_s": table[0],
            }
            found.append(row | {"dry_run_mib": dry[1], "table_mib": table[1]})
    if chosen.out:
        environment_told = environment.this_environment().model_dump()
        chosen.out.write_text(json.dumps({"environment": environment_told, "sizes": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
