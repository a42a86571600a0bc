"""The machine and the software that a number depends on, and what may drift while it is measured."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from acmix_bench.cores import cpu_quota, text_of
from acmix_bench.ops.native import build
from acmix_bench.spec.strict import Value


class Gpu(Value):
    """A GPU, or another accelerator: what a number on it depends on. What nobody could tell is None.

    Two GPUs of a kind, with one driver and one set of settings, are equal: which of them it was is in the record's
    values, as `uuid`.
    """

    name: str
    capability: str | None = None
    memory_mib: int | None = None
    multiprocessors: int | None = None
    driver: str | None = None
    runtime: str | None = Field(None, description="CUDA or HIP, as torch was built for it")
    cudnn: int | None = None
    torch: str | None = Field(None, description="torch's build")
    power_limit_w: int | None = None
    mig: str | None = Field(None, description="on where it is cut into slices, or off")
    application_mhz: int | None = Field(None, description="the clock that applications were set to")

    @classmethod
    def of(cls, identity: Mapping[str, Any]) -> Gpu | None:
        """As the measuring process has read it; None for nothing."""
        known = {key: value for key, value in identity.items() if key in cls.model_fields}
        return cls.model_validate(known) if identity else None

    def __str__(self) -> str:
        told = [f"driver {self.driver}"] if self.driver else []
        told += [self.runtime] if self.runtime else []
        told += [f"{self.power_limit_w} W"] if self.power_limit_w else []
        return f"{self.name} ({', '.join(told)})" if told else self.name


class Environment(Value):
    """The machine and the software that a number depends on."""

    cpu: str
    cores: int
    memory_gib: int
    system: str
    kernel: str
    python: str
    torch: str
    gpu: Gpu | None = Field(None, description="what the run computes on, where it is no CPU")
    quota: float | None = Field(None, description="cores' worth of time that its container grants, where limited")
    native: str = Field("", description="what the operator in C++ is built with and for, or why there is none")

    @field_validator("gpu", mode="before")
    @classmethod
    def _by_its_name_alone(cls, told: Any) -> Any:
        """As it was written down before there was more to tell."""
        return {"name": told} if isinstance(told, str) else told

    def on(self, identity: dict[str, Any] | None) -> Environment:
        """On the GPU that a measuring process says it was on; as it is where it says nothing."""
        return self.model_copy(update={"gpu": Gpu.of(identity)}) if identity else self

    def facts(self) -> dict[str, Any]:
        """All of it by name, in one level. What is not known of a GPU is left out: it tells nothing apart."""
        told = self.model_dump()
        of_gpu = told.pop("gpu") or {"name": None}
        known = {f"gpu {key}": value for key, value in of_gpu.items() if value is not None and key != "name"}
        return told | {"gpu": of_gpu["name"]} | known

    @property
    def software(self) -> tuple[str, str]:
        """The Python and the torch, without what they are built for: what machines of one run must have in common."""
        return self.python.rpartition(".")[0], self.torch.partition("+")[0]

    def __str__(self) -> str:
        gpu = f", {self.gpu}" if self.gpu else ""
        native = f", native operator: {self.native}" if self.native else ""
        cores = "1 core" if self.cores == 1 else f"{self.cores} cores"
        cores += f" (a container's {self.quota:g})" if self.quota else ""
        machine = f"{self.cpu}, {cores}, {self.memory_gib} GiB{gpu}, {self.system}"
        return f"{machine}, Python {self.python}, torch {self.torch}{native}"


def this_environment(gpu: Mapping[str, Any] | None = None) -> Environment:
    """Read this machine.

    Args:
        gpu: what the accelerator is that is computed on, as `meters.gpu.identity` gives it.
    """
    return Environment(
        cpu=(_cpu_info("model name") or [platform.processor() or platform.machine()])[0],
        cores=len(os.sched_getaffinity(0)),
        quota=cpu_quota(),
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        system=f"{platform.system()} {platform.machine()}",
        kernel=platform.release(),
        python=platform.python_version(),
        torch=version("torch"),
        gpu=Gpu.of(gpu or {}),
        native=build.told(),
    )


class State(Value):
    """What may change from one measurement to the next: hints for reading a number, not part of the environment."""

    load: float
    mhz: float | None
    commit: str | None
    others: float | None = Field(None, description="how many of our cores other programs took on average meanwhile")
    stolen: float | None = Field(None, description="how many the host of a virtual machine took")


def machine_state() -> State:
    """The load of the last minute, the cores' mean clock rate, and the git commit of this code, + if it was changed."""
    rates = _cpu_info("cpu MHz")
    mhz = sum(map(float, rates)) / len(rates) if rates else None
    return State(load=os.getloadavg()[0], mhz=mhz, commit=_commit())


def _cpu_info(key: str) -> list[str]:
    """What Linux says of each core."""
    lines = text_of(Path("/proc/cpuinfo")).splitlines()
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
