"""The cells of a plan, measured in order: what is beside what, and a record of each."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Generator, Mapping
from datetime import UTC, datetime
from functools import partial
from queue import SimpleQueue

from acmix_bench import meters
from acmix_bench.cores import usable_cores
from acmix_bench.runs.environment import machine_state
from acmix_bench.runs.local import Outcome
from acmix_bench.runs.process import beside
from acmix_bench.runs.progress import Loudness, Progress
from acmix_bench.runs.record import Plan, Record
from acmix_bench.spec.cell import Cell, groups_of

Measure = Callable[..., list[Outcome]]


def records(
    plan: Plan,
    done: Collection[str],
    measure: Measure,
    withheld: Mapping[str, str] | None = None,
    loudness: Loudness = "normal",
    jobs: int = 1,
) -> Generator[Record, None, None]:
    """Measure the cells that are not done, in order. Timings that belong together are made together, or again.

    With several jobs scores come last, as many at once, each on cores of its own as far as there are enough.
    """
    groups = [cells for cells in groups_of(plan.cells) if any(cell.key not in done for cell in cells)]
    left = {cell.key for cells in groups for cell in cells}
    kinds = {cell.meter: meters.find(cell.meter) for cell in plan.cells}
    beside_others = {name: not kind.alone or (jobs > 1 and kind.repeats == "seeds") for name, kind in kinds.items()}
    counts = [cells for cells in groups if not kinds[cells[0].meter].alone]
    scores = [cells for cells in groups if beside_others[cells[0].meter] and kinds[cells[0].meter].alone]
    measured = partial(measured_now, plan=plan, withheld=withheld or {})
    with Progress(plan.cells, set(done) - left, loudness, jobs if scores else 1) as progress:
        for label, reason in (withheld or {}).items():
            progress.say(f"{label} is withheld: {reason}")
        if counts:
            progress.start([cell for cells in counts for cell in cells])
            for found in beside(partial(measured, measure=measure), counts, usable_cores()):
                yield from map(progress.finished, found)
        for cells in groups:
            if not beside_others[cells[0].meter]:
                progress.start(cells)
                yield from map(progress.finished, measured(cells, measure=measure))
        if scores:
            progress.start([cell for cells in scores for cell in cells])
            places = _places(jobs, plan.experiment.protocol.threads or 1)

            def in_a_place(cells: list[Cell]) -> list[Record]:
                cores = places.get()
                try:
                    return measured(cells, measure=partial(measure, cores=cores))
                finally:
                    places.put(cores)

            for found in beside(in_a_place, scores, jobs):
                yield from map(progress.finished, found)


def _places(jobs: int, threads: int) -> SimpleQueue[tuple[int, ...]]:
    """Cores for each of several jobs; where there are too few, some are in more than one place."""
    cores, places = sorted(os.sched_getaffinity(0)), SimpleQueue[tuple[int, ...]]()
    for job in range(jobs):
        places.put(tuple(dict.fromkeys(cores[(job * threads + n) % len(cores)] for n in range(threads))))
    return places


def measured_now(cells: list[Cell], *, plan: Plan, measure: Measure, withheld: Mapping[str, str]) -> list[Record]:
    """Measure cells together, without those of withheld rows; a record each."""
    started, clock, state = datetime.now(UTC), time.monotonic(), machine_state()
    fit = [cell for cell in cells if cell.row.label not in withheld]
    outcomes = iter(measure(fit, plan.experiment.protocol.timeout) if fit else [])
    seconds = (time.monotonic() - clock) / max(1, len(fit))
    measured = []
    for cell in cells:
        reason = withheld.get(cell.row.label)
        outcome = next(outcomes) if reason is None else Outcome(status="withheld", reason=reason)
        measured.append(
            Record(
                key=cell.key,
                cell=cell,
                environment=plan.environment,
                started=started.isoformat(timespec="seconds"),
                seconds=seconds if reason is None else 0,
                state=state,
                status=outcome.status,
                reason=outcome.reason,
                values=outcome.values,
                output=outcome.output,
            )
        )
    return measured
