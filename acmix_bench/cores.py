"""How many cores there are to use: those that the system lets this process run on, and what its container grants."""

from __future__ import annotations

import os
from pathlib import Path


def usable_cores() -> int:
    """How many threads this process can run at once: its cores, or as many of them as its container may use."""
    cores, quota = len(os.sched_getaffinity(0)), cpu_quota()
    return cores if quota is None else max(1, min(cores, int(quota)))


def cpu_quota(groups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Cores' worth of time that the control groups of this process grant it, of version 1 and 2; None for no limit.

    Every group above one's own limits it too.
    """
    found = []
    for line in text_of(groups).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        tops = [root / controllers, root / "cpu"] if controllers else [root, root / "unified"]
        below = Path(path.lstrip("/"))
        for folder in (top / part for top in tops for part in (below, *below.parents)):
            quota, _, period = text_of(folder / "cpu.max").partition(" ")
            if controllers:
                quota, period = text_of(folder / "cpu.cfs_quota_us"), text_of(folder / "cpu.cfs_period_us")
            if quota.strip().isdecimal() and period.strip().isdecimal() and int(period):
                found.append(int(quota) / int(period))
    return min(found, default=None)


def text_of(path: Path) -> str:
    """What a file of the system says; nothing where there is none."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
