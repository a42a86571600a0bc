"""Progress of a run: what is done, what runs and where, and how long it takes, told to people and to programs."""

from __future__ import annotations

import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from threading import Event, RLock, Thread
from typing import Any, Literal

from acmix_bench.errors import UserError
from acmix_bench.meters import find
from acmix_bench.runs.bar import Bar, clock
from acmix_bench.runs.load import Taken, look, taken_since
from acmix_bench.runs.record import Record
from acmix_bench.spec.cell import Cell
from acmix_bench.spec.meter import short

SECONDS_OF_LOAD = 5  # over which other work is looked for, at least
SECONDS_BETWEEN_LOOKS = 1  # at what runs, by itself
SHOWN = 8  # of what runs at once

Loudness = Literal["quiet", "normal", "verbose"]
# Each is told what happens, in values that JSON can hold: see docs/sweeps.md.
Tell = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, kw_only=True)
class Running:
    """Cells that are measured together, where they run, and since when."""

    cells: tuple[Cell, ...]
    where: str
    since: float

    def __str__(self) -> str:
        """Its meter, and its row and repeat or how many rows."""
        meters = dict.fromkeys(short(cell.meter) for cell in self.cells)
        rows = dict.fromkeys(f"{cell.row.label} {cell.repeat}" for cell in self.cells)
        return f"{', '.join(meters)}  {next(iter(rows)) if len(rows) == 1 else f'{len(rows)} rows'}"


class Progress:
    """Counts cells, tells problems at once, and guesses the time left from the cells of the same meter so far.

    A quiet one tells problems alone, a verbose one every cell. While nothing is timed it looks after the bar and the
    line a minute by itself; while something is, it does nothing between two cells.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        done: Mapping[str, Record],
        loudness: Loudness = "normal",
        jobs: int = 1,
        tell: Sequence[Tell] = (),
        *,
        is_elsewhere: bool = False,
    ) -> None:
        """Begin to count.

        Args:
            done: the records of cells that were measured before and are kept.
            jobs: how many scores are measured at once.
            is_elsewhere: whether cells run where they may not be told from other work on this machine.
        """
        self._total, left = len(cells), [cell for cell in cells if not done or cell.key not in done]
        self._kept, self._failed = len(cells) - len(left), sum(record.status != "ok" for record in done.values())
        self._left = Counter(cell.meter for cell in left)
        self._seconds: dict[str, list[float]] = defaultdict(list)
        self._running: dict[str, Running] = {}  # by the key of the first cell
        self._where: dict[str, str] = {}
        self._loudness, self._jobs, self._tell = loudness, jobs, tell
        self._bar = Bar("cells", is_silent=loudness == "quiet")
        self._lock, self._is_over = RLock(), Event()
        self._looked = None if is_elsewhere else look()
        self._taken: Taken | None = None

    def __enter__(self) -> Progress:
        if self._kept and self._loudness != "quiet":
            self.say(f"{self._kept} of {self._total} cells were measured before and are kept")
        self._send("begun", cells=self._total, kept=self._kept, jobs=self._jobs)
        self._bar.__enter__()
        # Ctrl-C and SIGTERM are the main thread's, which may have them wait.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])
        try:
            Thread(target=self._look_after, daemon=True).start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        with self._lock:
            self._bar.__exit__()

    def start(self, cells: Sequence[Cell], where: str = "") -> None:
        """Cells begin that are measured together.

        Args:
            where: the cores or the node that they run on, where there are several.
        """
        with self._lock:
            keys = tuple(cell.key for cell in cells)
            self._running[keys[0]] = Running(cells=tuple(cells), where=where, since=time.monotonic())
            self._where |= dict.fromkeys(keys, where)
            for key, cell in zip(keys, cells, strict=True):
                self._send("started", key=key, **_told(cell), where=where)
            self._show(at_once=True)

    def stop(self, cells: Sequence[Cell]) -> None:
        """Cells are over that began together; their records come."""
        with self._lock:
            self._running.pop(cells[0].key, None)

    def finished(self, record: Record) -> None:
        """A cell has ended, one way or another, and its record is kept."""
        cell = record.cell
        with self._lock:
            where = self._where.pop(record.key, "")
            self._left[cell.meter] -= 1
            self._seconds[cell.meter].append(record.seconds)
            self._failed += record.status != "ok"
            self._look_for_load()
            place = f" on {where}" if where else ""
            if record.status not in ("ok", "withheld"):
                self.say(f"{cell.row.label}: {cell.meter} {cell.repeat} {record.status}{place}: {record.reason}")
            elif self._loudness == "verbose":
                told = f"{record.status} in {record.seconds:.1f} s{place}"
                self.say(f"{cell.row.label}: {cell.meter} {cell.repeat} {told}")
            self._send(
                "finished",
                key=record.key,
                **_told(cell),
                where=where,
                status=record.status,
                reason=record.reason,
                seconds=round(record.seconds, 3),
                others=record.state.others,
                done=self._done,
                failed=self._failed,
                left=self._left.total(),
                seconds_left=self._seconds_left(),
            )
            self._show(at_once=True)

    @property
    def _done(self) -> int:
        return self._total - self._left.total()

    def _send(self, event: str, **content: Any) -> None:
        for tell in self._tell:
            tell({"event": event, "time": round(time.time(), 3), **content})

    def _look_after(self) -> None:
        """Keep the bar, or the line a minute, up to date, unless something is timed."""
        while not self._is_over.wait(SECONDS_BETWEEN_LOOKS):
            with self._lock:
                is_timed = any(find(one.cells[0].meter).is_timing for one in self._running.values())
                if not self._is_over.is_set() and not is_timed:
                    self._look_for_load()
                    self._show()

    def _look_for_load(self) -> None:
        """See every few seconds what other programs take."""
        if taken := taken_since(self._looked, SECONDS_OF_LOAD):
            self._looked, self._taken = look(), taken

    def _show(self, *, at_once: bool = False) -> None:
        if self._loudness == "verbose" and not self._bar.is_drawn:
            return  # every cell has its line
        now, running, several = time.monotonic(), list(self._running.values()), len(self._running) > 1
        rows = [f"{one}{f'  on {one.where}' * bool(one.where)}  {clock(now - one.since)}" for one in running[:SHOWN]]
        more = [f"and {len(running) - SHOWN} more"] * (len(running) > SHOWN)
        left = self._seconds_left()
        told = [
            f"{len(running)} running" * several,
            f"{self._failed} failed" * bool(self._failed),
            f"{clock(left)} left" if left is not None else "",
        ]
        load = self._taken.told if self._taken else ""
        self._bar.show(
            self._done,
            self._total,
            str(running[0]) if running and self._bar.is_drawn and not several else "",
            left=", ".join(filter(None, [*told, *([load] if not self._bar.is_drawn else [])])),
            below=[*(rows if several else []), *more, *([load] if load else [])],
            at_once=at_once,
        )

    def _seconds_left(self) -> float | None:
        now = time.monotonic()
        running = [(c.meter, (now - one.since) / len(one.cells)) for one in self._running.values() for c in one.cells]
        seconds = seconds_left(self._left, running, self._seconds, self._jobs)
        return None if seconds is None else round(seconds, 1)

    def say(self, line: str) -> None:
        """Tell something above the bar."""
        with self._lock:
            self._bar.say(line)


def seconds_left(
    left: Mapping[str, int],
    running: Sequence[tuple[str, float]],
    seconds: Mapping[str, Sequence[float]],
    jobs: int,
) -> float | None:
    """How long the cells that are left will take, by those of the same meter so far; None where it has none.

    Args:
        left: how many of each meter have not ended.
        running: meter, and seconds so far, of those of them that run.
        seconds: how long those of each meter took that have ended.
        jobs: how many scores are measured at once.
    """
    if any(number and not seconds.get(meter) for meter, number in left.items()):
        return None
    each = {meter: fmean(seconds[meter]) for meter, number in left.items() if number}
    work = {meter: left[meter] * mean for meter, mean in each.items()}
    for meter, so_far in running:
        work[meter] -= min(so_far, each[meter])
    return sum(amount / (jobs if _is_score(meter) else 1) for meter, amount in work.items())


def _is_score(meter: str) -> bool:
    try:
        return find(meter).repeats == "seeds"
    except UserError:  # somebody's own, of which nothing is known here
        return False


def _told(cell: Cell) -> dict[str, Any]:
    return {"row": cell.row.label, "meter": cell.meter, "repeat": cell.repeat}
