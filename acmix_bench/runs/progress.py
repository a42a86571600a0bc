"""Progress of a run on stderr: a bar with the time left on a terminal or in a notebook that has ipywidgets, else a line
now and then.
"""

from __future__ import annotations

import sys
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from importlib.util import find_spec
from statistics import fmean
from typing import Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

from acmix_bench.meters import find
from acmix_bench.runs.record import Record
from acmix_bench.spec.cell import Cell

SECONDS_BETWEEN_LINES = 30


Loudness = Literal["quiet", "normal", "verbose"]


class Progress:
    """Counts cells, tells problems at once, and guesses the time left from the cells of the same meter so far.

    A quiet one tells problems alone, a verbose one every cell.
    """

    def __init__(
        self, cells: Sequence[Cell], done: Collection[str], loudness: Loudness = "normal", jobs: int = 1
    ) -> None:
        self._left = [cell for cell in cells if cell.key not in done]
        self._total, self._done = len(cells), len(cells) - len(self._left)
        self._seconds: dict[str, list[float]] = defaultdict(list)
        self._console = Console(stderr=True, emoji=False)  # mine.py:Star: is no picture of a star
        self._loudness, self._jobs = loudness, jobs
        # A notebook shows no bar without ipywidgets, but warnings that they are missing.
        can_draw = find_spec("ipywidgets") is not None if self._console.is_jupyter else self._console.is_terminal
        self._is_watched = can_draw and loudness != "quiet"
        self._bar = Bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}"),
            console=self._console,
            disable=not self._is_watched,
            transient=True,
            auto_refresh=False,  # nothing else may run while a cell is timed
        )
        self._task = self._bar.add_task("", total=self._total, completed=self._done, left="")
        self._last_line = time.monotonic()

    def __enter__(self) -> Progress:
        if self._done and self._loudness != "quiet":
            self.say(f"{self._done} of {self._total} cells were measured before and are kept")
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def start(self, cells: Sequence[Cell], where: str = "") -> None:
        """A cell begins, or several that are timed together or need not wait for each other; `where` names a node."""
        meters = dict.fromkeys(cell.meter for cell in cells)
        rows = dict.fromkeys(cell.row.label for cell in cells)
        what = next(iter(rows)) if len(rows) == 1 else f"{len(rows)} rows"
        self._bar.update(self._task, description=f"{where}  {', '.join(meters)}  {what}".strip(), refresh=True)

    def finished(self, record: Record) -> Record:
        """A cell has ended, one way or another; gives its record back."""
        cell = record.cell
        self._left.remove(cell)
        self._done += 1
        self._seconds[cell.meter].append(record.seconds)
        if record.status not in ("ok", "withheld"):
            self.say(f"{cell.row.label}: {cell.meter} {cell.repeat} {record.status}: {record.reason}")
        elif self._loudness == "verbose":
            self.say(f"{cell.row.label}: {cell.meter} {cell.repeat} {record.status} in {record.seconds:.1f} s")
        self._bar.update(self._task, completed=self._done, left=self._time_left(), refresh=True)
        if (
            self._loudness == "normal"
            and not self._is_watched
            and time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES
        ):
            self.say(f"{self._done} of {self._total} cells, {self._time_left()}")
        return record

    def _time_left(self) -> str:
        if any(cell.meter not in self._seconds for cell in self._left):
            return ""
        counts = Counter(cell.meter for cell in self._left)
        beside = {meter: self._jobs if find(meter).repeats == "seeds" else 1 for meter in counts}
        left = sum(number * fmean(self._seconds[meter]) / beside[meter] for meter, number in counts.items())
        return f"{int(left // 60)}:{int(left % 60):02d} left"

    def say(self, line: str) -> None:
        """Tell something above the bar."""
        self._last_line = time.monotonic()
        if self._is_watched:
            self._bar.console.print(line, highlight=False, markup=False)
        else:
            print(line, file=sys.stderr, flush=True)
