"""What other programs take of our cores meanwhile: the time that the cores were busy, less that of our processes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
SHORTEST = 0.5  # seconds; the system counts in hundredths
TELLING = 0.1  # share of our cores from which on other work is worth telling


@dataclass(frozen=True, kw_only=True)
class Times:
    """A look at the clocks: seconds of the clock, and of all our cores together."""

    now: float
    busy: float
    stolen: float
    ours: float


@dataclass(frozen=True, kw_only=True)
class Taken:
    """How many of our cores were taken on average: by other programs, and by other machines on the same hardware."""

    others: float
    stolen: float

    @property
    def told(self) -> str:
        """The line that somebody should read, or nothing where it is not worth one."""
        cores = len(os.sched_getaffinity(0))
        if self.others + self.stolen < TELLING * cores:
            return ""
        who = "other work" if self.others >= self.stolen else "the host of this machine"
        taken = self.others + self.stolen
        return f"{who} takes {taken:.1f} of {cores} cores (load {os.getloadavg()[0]:.1f})"


def look() -> Times | None:
    """The times so far; None where the system does not tell them, or a process of ours ends just now."""
    try:
        cores = {f"cpu{number}" for number in os.sched_getaffinity(0)}
        lines = [line.split() for line in (PROC / "stat").read_text().splitlines()]
        per_core = [[int(ticks) for ticks in numbers] for name, *numbers in lines if name in cores]
        # user, nice, system, idle, waiting, interrupts (two), stolen; guests are in user
        busy = sum(sum(ticks[:3]) + sum(ticks[5:7]) for ticks in per_core)
        stolen, ours = sum(ticks[7] for ticks in per_core), sum(_ticks_of(os.getpid()))
    except (OSError, ValueError, IndexError):
        return None
    a_second = os.sysconf("SC_CLK_TCK")
    return Times(now=time.monotonic(), busy=busy / a_second, stolen=stolen / a_second, ours=ours / a_second)


def _ticks_of(process: int) -> Iterator[int]:
    """The time of a process, of those that it started, and so on, with those that have ended and were waited for."""
    folder = PROC / str(process)
    yield sum(map(int, (folder / "stat").read_text().rpartition(")")[2].split()[11:15]))
    for task in (folder / "task").iterdir():
        for child in (task / "children").read_text().split():
            yield from _ticks_of(int(child))


def taken_since(before: Times | None, least: float = SHORTEST) -> Taken | None:
    """What was taken since an earlier look; None where that is not known, or too short ago to say."""
    if before is None or time.monotonic() - before.now < least or not (now := look()):
        return None
    seconds, ours = now.now - before.now, now.ours - before.ours
    if ours < 0:  # one of ours has ended and nobody waited for it, so that its time is counted nowhere
        return None
    others = max(0.0, now.busy - before.busy - ours) / seconds
    return Taken(others=round(others, 3), stolen=round((now.stolen - before.stolen) / seconds, 3))
