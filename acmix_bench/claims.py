"""The third flow: what claims lack is measured within the minutes that there are, and each claim gets its verdict.

Every experiment runs as `ablate` runs it, with as many seeds or processes at a time as can end in what is left, so
that its records stand in the same store and the same command goes on.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from types import FrameType, MappingProxyType

from acmix_bench import ablate as flow
from acmix_bench import files, meters
from acmix_bench.analysis.claims import Judged, judge
from acmix_bench.cores import usable_cores
from acmix_bench.errors import Terminated
from acmix_bench.runs import local
from acmix_bench.runs.launch.here import here
from acmix_bench.runs.progress import Loudness
from acmix_bench.runs.record import Plan, Record, Run
from acmix_bench.runs.store import Store
from acmix_bench.runs.work import Measure
from acmix_bench.spec import library
from acmix_bench.spec.claim import Claim, Claims, refuse_unknown
from acmix_bench.spec.experiment import Experiment

OVERHEAD = 10.0  # seconds that a part of an experiment takes beside its cells: plans, shapes, tables


class OutOfTime(KeyboardInterrupt):
    """The minutes are over; what runs is ended as Ctrl-C ends it."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """An experiment that claims read: its whole plan, where its records are, and how long it takes.

    Attributes:
        name: as the claims write it: a name or a file.
        declared: seconds for all of it, as the claims say.
        jobs: how many trainings run at once.
        rules: how many of the chosen claims' rules read it.
    """

    name: str
    plan: Plan
    store: Store
    file: Path | None
    declared: float
    jobs: int
    rules: int

    @property
    def repeats(self) -> int:
        """How many seeds or processes it has; 1 where it only counts."""
        return 1 + max(cell.repeat - self._first(cell.meter) for cell in self.plan.cells)

    def _first(self, meter: str) -> int:
        return self.plan.experiment.protocol.first_seed if meters.find(meter).repeats == "seeds" else 0

    def records(self) -> dict[str, Record]:
        """Those of its cells that need no measuring."""
        return flow.finished(self.plan, self.store)

    def run(self) -> Run:
        """The whole plan with the records that exist of it, those of cells that failed among them."""
        kept = self.store.finished([cell.key for cell in self.plan.cells], self.plan.environment)
        rows = {row.content: row for row in self.plan.rows}
        keys = [cell.key for cell in self.plan.cells]
        return Run(plan=self.plan, records=tuple(kept[key].named_by(rows) for key in keys if key in kept))

    def left(self, done: Mapping[str, Record]) -> list[int]:
        """The repeats, from 0, that lack a cell."""
        lacking = {cell.repeat - self._first(cell.meter) for cell in self.plan.cells if cell.key not in done}
        return sorted(lacking)

    def begun(self, done: Mapping[str, Record]) -> int:
        """Up to how many repeats something is measured, and is to stay in its tables."""
        return max((record.cell.repeat - self._first(record.cell.meter) + 1 for record in done.values()), default=0)

    def first(self, repeats: int) -> Plan:
        """The plan of so many of its first repeats."""
        protocol = self.plan.experiment.protocol
        fewer = {key: min(getattr(protocol, key), repeats) for key in ("seeds", "processes")}
        update = {"protocol": protocol.model_copy(update=fewer)}
        whole = {name: getattr(self.plan, name) for name in Plan.model_fields}  # not the cells that it has made
        return Plan(**whole | {"experiment": self.plan.experiment.model_copy(update=update)})

    def seconds(self, done: Mapping[str, Record]) -> float:
        """A repeat's: measured here where a whole one is, or else its part of what is declared."""
        repeating = [cell for cell in self.plan.cells if meters.find(cell.meter).repeats != "once"]
        cells = [(cell.row.content, cell.meter) for cell in repeating]
        took: dict[tuple[str, str], list[float]] = {}
        for record in done.values():
            took.setdefault((record.cell.row.content, record.cell.meter), []).append(record.seconds)
        if not cells or not all(cell in took for cell in cells):
            return self.declared / self.repeats
        return sum(fmean(took[row, meter]) / self._at_once(meter) for row, meter in set(cells))

    def _at_once(self, meter: str) -> int:
        return self.jobs if meters.find(meter).repeats == "seeds" else 1


@dataclass(frozen=True, kw_only=True)
class Settled:
    """What a run of claims leaves.

    Attributes:
        seconds: of each experiment, what a further repeat of it takes.
        unmeasured: of each experiment that is not whole, the seconds that the rest takes.
        failed: how many cells failed.
        is_interrupted: by Ctrl-C or SIGTERM, not by the end of the minutes.
    """

    judged: tuple[Judged, ...]
    runs: Mapping[str, Run]
    seconds: Mapping[str, float]
    unmeasured: Mapping[str, float]
    failed: int
    is_interrupted: bool = False
    is_terminated: bool = False


def work_of(claims: Claims, chosen: Sequence[Claim], results: Path, jobs: int | None = None) -> list[Work]:
    """The experiments of the chosen claims, and whether they have all that any claim reads.

    Raises:
        UserError: for an experiment, row or meter that is not there.
    """
    found = []
    for name in claims.experiments:
        rules = sum(rule.experiment == name for claim in chosen for rule in claim.rules)
        experiment = library.load_experiment(name)
        rows = flow.rows_of(experiment)
        refuse_unknown(claims, experiment, [row.label for row in rows], name)
        if rules:
            together = (jobs or usable_cores()) if _trains_alone(experiment) else 1
            found.append(
                Work(
                    name=name,
                    plan=flow.plan_of(experiment, rows, together),
                    store=Store(results / experiment.name),
                    file=library.own_file("experiment", name),
                    declared=60 * claims.minutes[name],
                    jobs=together,
                    rules=rules,
                )
            )
    return found


def _trains_alone(experiment: Experiment) -> bool:
    """Whether it has scores and no timings, which would get fewer threads beside other jobs."""
    repeats = {meters.find(name).repeats for name in experiment.meters}
    return "seeds" in repeats and "processes" not in repeats


def settle(
    claims: Claims,
    chosen: Sequence[Claim],
    work: Sequence[Work],
    *,
    budget: float = math.inf,
    loudness: Loudness = "normal",
    say: Callable[[str], None] = lambda line: None,
    measure: Measure | None = None,
    misfits: flow.Misfits = local.misfits,
    clock: Callable[[], float] = time.monotonic,
) -> Settled:
    """Measure what is missing, what most rules wait for by the minute first, and judge the claims.

    Args:
        budget: seconds, after which nothing runs any more.
        say: is told each part before it begins.
    """
    deadline, tried = clock() + budget, dict[str, int]()
    interrupted = terminated = False
    try:
        with _ended_after(budget):
            while (step := next_step(work, deadline - clock(), tried)) is not None:
                one, repeats = step
                before = len(one.records())
                say(_told(one, repeats, deadline - clock()))
                finished = flow.ablate(
                    one.first(repeats),
                    one.store,
                    file=one.file,
                    loudness=loudness,
                    launcher=here(one.jobs),
                    measure=measure,
                    misfits=misfits,
                )
                tried[one.name] = repeats if len(one.records()) > before else one.repeats
                if finished.interrupted:
                    terminated = finished.terminated
                    interrupted = terminated or clock() < deadline
                    break
    except OutOfTime:
        pass
    except KeyboardInterrupt as error:
        interrupted, terminated = True, isinstance(error, Terminated)
    done = {one.name: one.records() for one in work}
    settled = _settled(claims, chosen, work, {one.name: one.run() for one in work}, done)
    left = {one.name: rest for one in work if (rest := seconds_left(one, done[one.name]))}
    return replace(settled, unmeasured=left, is_interrupted=interrupted, is_terminated=terminated)


def as_stored(claims: Claims, chosen: Sequence[Claim], work: Sequence[Work]) -> Settled:
    """Judge the claims by the runs that are there, whichever version measured them, as `table` shows a run."""
    runs = {one.name: one.store.load() if files.is_file(one.store.folder / "run.json") else one.run() for one in work}
    good = {name: {r.cell.key: r for r in run.records if r.status == "ok"} for name, run in runs.items()}
    missing = {one.name: 1 - len(good[one.name]) / len(runs[one.name].plan.cells) for one in work}
    settled = _settled(claims, chosen, work, runs, good)
    return replace(
        settled, unmeasured={one.name: missing[one.name] * one.declared for one in work if missing[one.name]}
    )


def _settled(
    claims: Claims,
    chosen: Sequence[Claim],
    work: Sequence[Work],
    runs: Mapping[str, Run],
    done: Mapping[str, Mapping[str, Record]],
) -> Settled:
    return Settled(
        judged=tuple(judge(claims, chosen, runs)),
        runs=runs,
        seconds={one.name: one.seconds(done[one.name]) for one in work},
        unmeasured={},
        failed=sum(record.status != "ok" for run in runs.values() for record in run.records),
    )


def next_step(
    work: Sequence[Work], seconds: float, tried: Mapping[str, int] = MappingProxyType({})
) -> tuple[Work, int] | None:
    """The experiment to run now, and up to how many repeats; None where nothing that is missing can end in time.

    That of which most rules wait for a minute of work. Of one that has no repeat yet, one is run at first: it shows how
    long the others take.

    Args:
        tried: up to how many repeats each was run now, or all where nothing came of it: that is for the next command.
    """
    found: list[tuple[float, Work, int]] = []
    for one in work:
        done = one.records()
        each = one.seconds(done)
        left = [repeat for repeat in one.left(done) if repeat >= tried.get(one.name, 0)]
        fit = min(len(left), int(max(0.0, min(seconds - OVERHEAD, 1e9)) / max(each, 1e-3)))
        if fit:
            is_first = one.name not in tried and len(one.left(done)) == one.repeats
            last = left[0 if is_first else fit - 1]
            found.append((one.rules / (len(left) * each), one, max(last + 1, one.begun(done))))
    if not found:
        return None
    _, one, repeats = max(found, key=lambda step: step[0])
    return one, repeats


def seconds_left(one: Work, done: Mapping[str, Record]) -> float:
    """What the rest of an experiment takes."""
    return len(one.left(done)) * one.seconds(done)


def _told(one: Work, repeats: int, seconds: float) -> str:
    done = one.records()
    now = sum(repeat < repeats for repeat in one.left(done))
    left = "" if math.isinf(seconds) else f", {seconds / 60:.0f} minutes left"
    return f"{one.name}: repeats to {repeats} of {one.repeats}, about {now * one.seconds(done) / 60:.1f} minutes{left}"


@contextmanager
def _ended_after(seconds: float) -> Iterator[None]:
    """End what runs when so much time has gone, as Ctrl-C does."""
    if math.isinf(seconds) or seconds <= 0:
        yield
        return
    before = signal.signal(signal.SIGALRM, _out_of_time)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _out_of_time(number: int, frame: FrameType | None) -> None:
    raise OutOfTime
