"""The machine and the software that a number depends on, and what may drift while it is measured."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path

from pydantic import Field

from acmix_bench.ops.native import build
from acmix_bench.spec.strict import Value


class Environment(Value):
    """The machine and the software that a number depends on."""

    cpu: str
    cores: int
    memory_gib: int
    system: str
    kernel: str
    python: str
    torch: str
    gpu: str | None
    quota: float | None = Field(None, description="cores' worth of time that its container grants, where limited")
    native: str = Field("", description="what the operator in C++ is built with and for, or why there is none")

    def __str__(self) -> str:
        gpu = f", {self.gpu}" if self.gpu else ""
        native = f", native operator: {self.native}" if self.native else ""
        cores = "1 core" if self.cores == 1 else f"{self.cores} cores"
        cores += f" (a container's {self.quota:g})" if self.quota else ""
        machine = f"{self.cpu}, {cores}, {self.memory_gib} GiB{gpu}, {self.system}"
        return f"{machine}, Python {self.python}, torch {self.torch}{native}"


def this_environment() -> Environment:
    """Read this machine; the GPU is the first NVIDIA one as its driver reports it, without loading torch."""
    told = [path.read_text() for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))]
    gpus = [line.partition(":")[2].strip() for text in told for line in text.splitlines() if line.startswith("Model:")]
    return Environment(
        cpu=(_cpu_info("model name") or [platform.processor() or platform.machine()])[0],
        cores=len(os.sched_getaffinity(0)),
        quota=cpu_quota(),
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        system=f"{platform.system()} {platform.machine()}",
        kernel=platform.release(),
        python=platform.python_version(),
        torch=version("torch"),
        gpu=gpus[0] if gpus else None,
        native=build.told(),
    )


def usable_cores() -> int:
    """How many threads this process can run at once: its cores, or as many of them as its container may use."""
    cores, quota = len(os.sched_getaffinity(0)), cpu_quota()
    return cores if quota is None else max(1, min(cores, int(quota)))


def cpu_quota(groups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Cores' worth of time that the control groups of this process grant it, of version 1 and 2; None for no limit.

    Every group above one's own limits it too.
    """
    found = []
    for line in _text(groups).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        tops = [root / controllers, root / "cpu"] if controllers else [root, root / "unified"]
        below = Path(path.lstrip("/"))
        for folder in (top / part for top in tops for part in (below, *below.parents)):
            quota, _, period = _text(folder / "cpu.max").partition(" ")
            if controllers:
                quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
            if quota.strip().isdecimal() and period.strip().isdecimal() and int(period):
                found.append(int(quota) / int(period))
    return min(found, default=None)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


class State(Value):
    """What may change from one measurement to the next: hints for reading a number, not part of the environment."""

    load: float
    mhz: float | None
    commit: str | None


def machine_state() -> State:
    """The load of the last minute, the cores' mean clock rate, and the git commit of this code, + if it was changed."""
    rates = _cpu_info("cpu MHz")
    mhz = sum(map(float, rates)) / len(rates) if rates else None
    return State(load=os.getloadavg()[0], mhz=mhz, commit=_commit())


def _cpu_info(key: str) -> list[str]:
    """What Linux says of each core."""
    lines = _text(Path("/proc/cpuinfo")).splitlines()
    return [line.partition(":")[2].strip() for line in lines if line.startswith(key)]


@cache
def _commit() -> str | None:
    """The commit of the checkout that this package lies in, where it lies in one."""
    here = Path(__file__).parent
    try:
        head = _git("rev-parse", "--short=12", "HEAD", folder=here)
        changed = _git("status", "--porcelain", "--untracked-files=no", folder=here)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + "+" * bool(changed)


def _git(*arguments: str, folder: Path) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
