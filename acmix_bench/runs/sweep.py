"""The cells of a plan, measured in order: what is beside what, and a record of each."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from queue import SimpleQueue

from acmix_bench import meters
from acmix_bench.cores import usable_cores
from acmix_bench.runs.environment import machine_state
from acmix_bench.runs.load import look, taken_since
from acmix_bench.runs.local import Outcome
from acmix_bench.runs.process import beside
from acmix_bench.runs.progress import Loudness, Progress, Tell
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
    tell: Sequence[Tell] = (),
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
    with Progress(plan.cells, set(done) - left, loudness, jobs if scores else 1, tell) as progress:
        for label, reason in (withheld or {}).items():
            progress.say(f"{label} is withheld: {reason}")

        def measured(cells: list[Cell], cores: tuple[int, ...] = ()) -> list[Record]:
            progress.start(cells, f"core{'s' * (len(cores) > 1)} {', '.join(map(str, cores))}" if cores else "")
            how = partial(measure, cores=cores) if cores else measure
            found = measured_now(cells, plan=plan, measure=how, withheld=withheld or {})
            progress.stop(cells)
            return found

        def kept(found: list[Record]) -> Generator[Record, None, None]:
            for record in found:
                yield record  # it is on disk when this goes on
                progress.finished(record)

        if counts:
            for found in beside(measured, counts, usable_cores()):
                yield from kept(found)
        for cells in groups:
            if not beside_others[cells[0].meter]:
                yield from kept(measured(cells))
        if scores:
            places = _places(jobs, plan.experiment.protocol.threads or 1)

            def in_a_place(cells: list[Cell]) -> list[Record]:
                cores = places.get()
                try:
                    return measured(cells, cores)
                finally:
                    places.put(cores)

            for found in beside(in_a_place, scores, jobs):
                yield from kept(found)


def _places(jobs: int, threads: int) -> SimpleQueue[tuple[int, ...]]:
    """Cores for each of several jobs; where there are too few, some are in more than one place."""
    cores, places = sorted(os.sched_getaffinity(0)), SimpleQueue[tuple[int, ...]]()
    for job in range(jobs):
        places.put(tuple(dict.fromkeys(cores[(job * threads + n) % len(cores)] for n in range(threads))))
    return places


def measured_now(cells: list[Cell], *, plan: Plan, measure: Measure, withheld: Mapping[str, str]) -> list[Record]:
    """Measure cells together, without those of withheld rows; a record each."""
    started, clock, state, before = datetime.now(UTC), time.monotonic(), machine_state(), look()
    fit = [cell for cell in cells if cell.row.label not in withheld]
    outcomes = iter(measure(fit, plan.experiment.protocol.timeout) if fit else [])
    seconds = (time.monotonic() - clock) / max(1, len(fit))
    if taken := taken_since(before):
        state = state.model_copy(update={"others": taken.others, "stolen": taken.stolen})
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
