"""An accelerator that is not there: stubs of torch's calls that write down order and device, or raise."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from acmix_bench.train import devices

ASSERTED = torch.AcceleratorError("CUDA error: device-side assert triggered\nSearch for `cudaErrorAssert'")
UUID = "6a5b1c9e-0000-1111-2222-333344445555"


class Fake:
    """So many devices of a kind. `log` holds what was asked of which; `error` is what all but the listing raises."""

    def __init__(self, patch: pytest.MonkeyPatch, kind: str, count: int) -> None:
        self.kind, self.log, self.error = kind, list[str](), None
        self.empty = torch.empty
        devices.found.cache_clear()
        patch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: torch.device(kind))
        patch.setattr(torch.accelerator, "device_count", lambda: count)
        patch.setattr(torch.accelerator, "set_device_index", lambda index: self.ask(f"set {index}"))
        patch.setattr(torch.accelerator, "synchronize", lambda device=None: self.ask(f"synchronize {device}"))
        patch.setattr(torch, "get_device_module", lambda device: SimpleNamespace(empty_cache=self.emptied))
        patch.setattr(torch, "empty", self.allocate)

    def ask(self, what: str) -> None:
        self.log.append(what)
        if self.error:
            raise self.error

    def emptied(self) -> None:
        self.ask("empty cache")

    def allocate(self, *sizes: Any, device: Any = None, **how: Any) -> torch.Tensor:
        if getattr(device, "type", None) == self.kind:
            self.ask(f"allocate {device}")
            device = None
        return self.empty(*sizes, device=device, **how)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Any:
    yield lambda kind="cuda", count=2: Fake(monkeypatch, kind, count)
    devices.found.cache_clear()


class NVMLError(Exception):
    pass


def nvml(asked: list[str], **answers: Any) -> SimpleNamespace:
    """NVIDIA's library with these answers; what is not among them is not supported."""

    def ask(name: str) -> Callable[..., Any]:
        def answer(*arguments: Any) -> Any:
            asked.append(f"{name} {' '.join(str(one) for one in arguments)}".strip())
            if name not in answers:
                raise NVMLError("Not Supported")
            return answers[name]

        return answer

    names = ("Init", "SystemGetDriverVersion", "DeviceGetHandleByUUID", "DeviceGetHandleByPciBusId")
    names += tuple(f"DeviceGet{name}" for name in ("EnforcedPowerLimit", "MigMode", "ApplicationsClock", "PowerUsage"))
    names += tuple(f"DeviceGet{name}" for name in ("CurrentClocksEventReasons", "ClockInfo", "MaxClockInfo"))
    names += ("DeviceGetTemperature",)
    answers = {"Init": None} | answers
    made = {f"nvml{name}": ask(name) for name in names}
    return SimpleNamespace(**made, NVMLError=NVMLError, NVML_CLOCK_SM=1, NVML_TEMPERATURE_GPU=0)


def properties(**changes: Any) -> SimpleNamespace:
    """Of an H100, as torch tells them."""
    told = {"name": "NVIDIA H100 80GB HBM3", "major": 9, "minor": 0, "total_memory": 85_000_000_000, "uuid": UUID}
    told |= {"multi_processor_count": 132, "pci_domain_id": 0, "pci_bus_id": 0x65, "pci_device_id": 0}
    return SimpleNamespace(**told | changes)
