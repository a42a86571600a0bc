"""Two versions of this package, measured alternately in one job, each by its own Python.

Each version runs `acmix-bench serve`, which measures a group of cells when it is asked for it. The two are asked at the
same time, and time in turns, block by block, so that both see the same moods of the machine.
"""

from __future__ import annotations

import random
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from acmix_bench import ablate
from acmix_bench.analysis import gate
from acmix_bench.analysis.thresholds import Thresholds
from acmix_bench.errors import UserError
from acmix_bench.meters.turns import Turns
from acmix_bench.runs import local
from acmix_bench.runs.bar import Bar
from acmix_bench.runs.process import socket_folder
from acmix_bench.runs.record import Plan
from acmix_bench.runs.store import Store
from acmix_bench.runs.work import Work, unmeasured
from acmix_bench.spec.cell import groups_of

MIN_REPEATS = 8


@dataclass(kw_only=True)
class Side:
    """A version that is being served, and the store that it writes to."""

    name: str
    process: subprocess.Popen[str]
    store: Store
    errors: Path

    @cached_property
    def groups(self) -> list[int]:
        """The repeat of each group of cells: the first thing that a version says."""
        line = self.answer()
        try:
            return [int(repeat) for repeat in line.split()]
        except ValueError as error:
            raise UserError(
                f"{self.name}: is no version of this package that can be served; it said {line!r:.60}"
            ) from error

    def ask(self, number: int, meeting: Path, *, first: bool) -> None:
        """Have one group measured, in turns with the other version where it is timed."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # the answer says why
            self.process.stdin.write(f"{number} {meeting} {'first' if first else 'second'}\n")
            self.process.stdin.flush()

    def answer(self) -> str:
        """What the version says next.

        Raises:
            UserError: where it gave up.
        """
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            told = self.errors.read_text(errors="replace").strip().splitlines()
            raise UserError(f"{self.name}: {told[-1] if told else 'its process ended without a word'}")
        return line.strip()


@contextmanager
def served(name: str, python: Path, experiment: str, settings: list[str], folder: Path) -> Iterator[Side]:
    """Start a version; it ends with the block.

    Raises:
        UserError: where this Python has no such version, or its version refuses the experiment.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Safe path (-P): the version is the one that is installed there, not the one in this folder.
    command = [str(python.absolute()), "-P", "-m", "acmix_bench", "serve", experiment, "--folder", str(folder)]
    command += [word for setting in settings for word in ("--set", setting)]
    with (folder / "errors.log").open("w+") as errors:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, errors="replace"
            )
        except OSError as error:
            raise UserError(f"{name}: {python} cannot be run ({error.strerror})") from error
        side = Side(name=name, process=process, store=Store(folder), errors=folder / "errors.log")
        with process:
            yield side


def measure(base: Side, head: Side, budget: float, precision: float) -> str:
    """Measure both alternately until every ratio is known to within the precision, or the time is up.

    Returns:
        Which of the two it was.
    """
    if base.groups != head.groups:
        raise UserError("base and head make different measurements of this experiment")
    end, order = time.monotonic() + budget, random.Random(0)
    repeats = sorted(set(head.groups))
    with Bar("pairs of processes") as bar:
        for repeat in repeats:
            for number in (number for number, of in enumerate(head.groups) if of == repeat):
                sides = order.sample((base, head), 2)
                with tempfile.TemporaryDirectory(prefix="acmix-bench-", dir=socket_folder()) as folder:
                    for side in sides:
                        side.ask(number, Path(folder) / "turns", first=side is sides[0])
                    for side in sides:
                        side.answer()
            runs = (
                base.store.load(),
                head.store.load(),
            )  # the first pair already shows whether this version can read them
            found = gate.findings(*runs, Thresholds())
            margins = [
                finding.ratio.margin if finding.ratio else None for finding in found if finding.threshold is not None
            ]
            narrow = bool(margins) and all(margin is not None and margin <= precision for margin in margins)
            if repeat + 1 >= MIN_REPEATS and narrow:
                return f"narrow: every ratio is known to ±{100 * precision:g} % after {repeat + 1} pairs of processes"
            if time.monotonic() > end and repeat + 1 >= MIN_REPEATS:
                return f"budget: {budget:g} seconds are up after {repeat + 1} pairs of processes"
            bar.show(repeat + 1, len(repeats), "at most", at_once=True)
    return f"budget: all {len(repeats)} pairs of processes are measured"


def serve(plan: Plan, store: Store, asked: Iterable[tuple[int, Turns]]) -> Iterator[int]:
    """Measure the plan's groups as they are asked for, timings in turns with another version's.

    Each group's number is given back when its records are on disk.
    """
    groups, device = groups_of(plan.cells), plan.experiment.protocol.device
    withheld = ablate.fitting(plan, (), local.misfits)
    with store.opened(plan):
        for number, turns in asked:
            measure = ablate.limited(partial(local.measure, turns=turns), plan)
            work = Work(measure=measure, timeout=plan.experiment.protocol.timeout, device=device)
            for cell in groups[number]:
                if reason := withheld.get(cell.row.label):
                    store.append(*unmeasured([cell], plan.environment, "withheld", reason))
            for record in work([cell for cell in groups[number] if cell.row.label not in withheld]):
                store.append(record)
            yield number
