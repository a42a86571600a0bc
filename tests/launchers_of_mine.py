"""A launcher as a user writes one, copied beside a sweep as launchers.py."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

from acmix_bench.runs.environment import this_environment
from acmix_bench.runs.launch.launcher import Launcher


def launch(groups, work, started):
    """In a process that has nothing of this one."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        for group in groups:
            started(group.cells, "a process")
            yield pool.submit(work, group.cells).result()


SPAWNED = Launcher(launch=launch, kinds=lambda: [this_environment()])
