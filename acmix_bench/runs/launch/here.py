"""Cells in processes of this machine: counts beside each other, timings alone, as many scores at once as jobs."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from functools import partial
from queue import SimpleQueue

from acmix_bench.cores import usable_cores
from acmix_bench.runs.launch.launcher import Group, Launcher, Started
from acmix_bench.runs.process import beside
from acmix_bench.runs.record import Record
from acmix_bench.runs.work import Work


def here(jobs: int = 1) -> Launcher:
    """The launcher of this machine."""
    return Launcher(launch=partial(launch, jobs=jobs), jobs=jobs)


def launch(groups: Sequence[Group], work: Work, started: Started, *, jobs: int) -> Generator[list[Record], None, None]:
    """Measure groups here. With several jobs scores come last, each on cores of its own as far as there are enough."""
    counts = [group for group in groups if not (group.alone or group.is_score)]
    scores = [group for group in groups if group.is_score and jobs > 1]
    one_by_one = [group for group in groups if group.alone or (group.is_score and jobs == 1)]

    def measured(group: Group) -> list[Record]:
        started(group.cells, "")
        return work(group.cells)

    if counts:
        yield from beside(measured, counts, usable_cores())
    yield from map(measured, one_by_one)
    if scores:
        places = _places(jobs, scores[0].cpus)

        def in_a_place(group: Group) -> list[Record]:
            cores = places.get()
            try:
                started(group.cells, f"core{'s' * (len(cores) > 1)} {', '.join(map(str, cores))}")
                return work(group.cells, cores=cores)
            finally:
                places.put(cores)

        yield from beside(in_a_place, scores, jobs)


def _places(jobs: int, threads: int) -> SimpleQueue[tuple[int, ...]]:
    """Cores for each of several jobs; where there are too few, some are in more than one place."""
    cores, places = sorted(os.sched_getaffinity(0)), SimpleQueue[tuple[int, ...]]()
    for job in range(jobs):
        places.put(tuple(dict.fromkeys(cores[(job * threads + n) % len(cores)] for n in range(threads))))
    return places
