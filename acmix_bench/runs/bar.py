"""How far something is, on stderr: a bar on a terminal or in a notebook that has ipywidgets, else a line a minute."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from acmix_bench.errors import printable

SECONDS_BETWEEN_LINES = 60
SECONDS_BETWEEN_DRAWINGS = 0.1  # of a bar that is told more often than somebody can see


class Bar:
    """A bar that is there while its block runs, and lines that stay above it.

    It is drawn when it is told something and at no other time, because nothing else may run while a cell is timed.
    """

    def __init__(self, unit: str, *, is_silent: bool = False) -> None:
        """Count in this unit; a silent one shows nothing, and says what it is told to."""
        self._console = Console(stderr=True, emoji=False)  # mine.py:Star: is no picture of a star
        # A notebook shows no bar without ipywidgets, but warnings that they are missing.
        can_draw = find_spec("ipywidgets") is not None if self._console.is_jupyter else self._console.is_terminal
        self._unit, self._is_silent, self.is_drawn = unit, is_silent, can_draw and not is_silent
        # What a program prints while the bar stands comes above it, unless it goes elsewhere.
        self._live = Live(
            console=self._console, auto_refresh=False, transient=True, redirect_stdout=sys.stdout.isatty()
        )
        self._begun: tuple[float, int] | None = None
        self._told, self._drawn = time.monotonic(), 0.0

    def __enter__(self) -> Bar:
        if self.is_drawn:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(
        self,
        done: int,
        total: int,
        what: str = "",
        *,
        left: str | None = None,
        below: Sequence[str] = (),
        at_once: bool = False,
    ) -> None:
        """Tell how far it is.

        Args:
            what: what runs now, or how it goes.
            left: the time left, where somebody knows better than by the pace so far.
            below: lines of their own under the bar; without a terminal they are left out.
            at_once: draw it even if it was drawn just now.
        """
        now = time.monotonic()
        since, first = self._begun = self._begun or (now, done)
        if self._is_silent or now - (self._drawn if self.is_drawn else self._told) < self._pause(at_once):
            return
        if left is None:
            left = f"{clock((now - since) / (done - first) * (total - done))} left" if done > first else ""
        if not self.is_drawn:
            self.say(", ".join(filter(None, (what, f"{done:,} of {total:,} {self._unit}", left))))
            return
        self._drawn = now
        grid = Table.grid(padding=(0, 2), pad_edge=False)
        grid.add_column(no_wrap=True, overflow="ellipsis")
        bar = ProgressBar(total, done, width=max(10, self._console.width // 4))
        grid.add_row(*[Text(what)] * bool(what), bar, Text(f"{done:,}/{total:,} {self._unit}"), Text(left))
        lines = (Text(f"  {line}", "dim", no_wrap=True, overflow="ellipsis") for line in below)
        self._live.update(Group(grid, *lines), refresh=True)

    def _pause(self, at_once: bool) -> float:
        if not self.is_drawn:
            return SECONDS_BETWEEN_LINES
        return 0 if at_once else SECONDS_BETWEEN_DRAWINGS

    def say(self, line: str) -> None:
        """Tell a line, above the bar."""
        self._told, line = time.monotonic(), printable(line)
        if self.is_drawn:
            self._console.print(line, highlight=False, markup=False)
        else:
            print(line, file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """Seconds as somebody reads a time that is left: 0:05, 12:30, 3:00:00, 2 days 3:00:00."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    told = f"{hour}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
    return f"{days} day{'s' * (days > 1)} {told}" if days else told
