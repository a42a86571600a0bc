"""Cells in processes of this machine: counts beside each other, timings alone, as many scores at once as jobs.

Of several GPUs each gets a training at a time; timings run alone, on the first.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from functools import partial
from queue import SimpleQueue

from acmix_bench.cores import usable_cores
from acmix_bench.runs.accelerators import Device
from acmix_bench.runs.launch.launcher import Group, Launcher, Started
from acmix_bench.runs.process import beside
from acmix_bench.runs.record import Record
from acmix_bench.runs.work import Work

Place = tuple[tuple[int, ...], str]  # cores, and the name of a device


def here(jobs: int = 1, devices: Sequence[Device] = ()) -> Launcher:
    """The launcher of this machine, with a job a device at least."""
    jobs = max(jobs, len(devices))
    return Launcher(launch=partial(launch, jobs=jobs, devices=devices), jobs=jobs)


def launch(
    groups: Sequence[Group], work: Work, started: Started, *, jobs: int, devices: Sequence[Device] = ()
) -> Generator[list[Record], None, None]:
    """Measure groups here. With several jobs scores come last, each on cores of its own as far as there are enough."""
    counts = [group for group in groups if not (group.alone or group.is_score)]
    scores = [group for group in groups if group.is_score and jobs > 1]
    one_by_one = [group for group in groups if group.alone or (group.is_score and jobs == 1)]

    def measured(group: Group) -> list[Record]:
        started(group.cells, "")
        return work(group.cells)

    def on_the_first(group: Group) -> list[Record]:
        if not devices:
            return measured(group)
        started(group.cells, devices[0].name)
        return work(group.cells, device=devices[0].name)

    if counts:
        yield from beside(measured, counts, usable_cores())
    yield from map(on_the_first, one_by_one)
    if scores:
        places = _places(jobs, scores[0].cpus, devices)

        def in_a_place(group: Group) -> list[Record]:
            cores, device = places.get()
            try:
                started(group.cells, device or f"core{'s' * (len(cores) > 1)} {', '.join(map(str, cores))}")
                return work(group.cells, cores=cores, **({"device": device} if device else {}))
            finally:
                places.put((cores, device))

        yield from beside(in_a_place, scores, jobs)


def _places(jobs: int, threads: int, devices: Sequence[Device]) -> SimpleQueue[Place]:
    """Cores for each of several jobs; where there are too few, some are in more than one place.

    With devices, jobs take them in turn, and share the cores that are near theirs.
    """
    cores, places = sorted(os.sched_getaffinity(0)), SimpleQueue[Place]()
    if not devices:
        for job in range(jobs):
            places.put((tuple(dict.fromkeys(cores[(job * threads + n) % len(cores)] for n in range(threads))), ""))
        return places
    placed = [devices[job % len(devices)] for job in range(jobs)]
    near = [tuple(sorted(set(device.cores) & set(cores))) or tuple(cores) for device in placed]
    for job, (device, pool) in enumerate(zip(placed, near, strict=True)):
        sharing, mine = near.count(pool), near[:job].count(pool)
        places.put((pool[mine::sharing] or pool, device.name))
    return places
