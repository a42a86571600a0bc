"""What a GPU is, what state it is in, and which cores are near it.

Most is told by torch. Clocks, power, temperature and MIG are told by NVIDIA's management library (NVML), which the
extra `gpu` brings for Python; what cannot be known is None. NVML numbers all GPUs of the machine, and torch those that
CUDA_VISIBLE_DEVICES leaves, so a GPU is looked up by its UUID or its place on the bus, never by its number.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from acmix_bench.cores import text_of

PCI = Path("/sys/bus/pci/devices")
# Of nvmlClocksEventReasons (https://docs.nvidia.com/deploy/nvml-api/group__nvmlClocksEventReasons.html), what slows a
# GPU below the clocks that it is set to. Being idle (bit 0) does not, nor a clock that somebody has set (bit 1).
SLOWED_BY = {
    0x4: "power limit",
    0x8: "hardware slowdown",
    0x10: "synchronised boost of a group",
    0x20: "heat",
    0x40: "heat (hardware)",
    0x80: "power brake (hardware)",
}


def identity(device: torch.device) -> dict[str, Any]:
    """What a device is, and what a number on it depends on; nothing of the CPU.

    `uuid` tells this GPU from others of its kind, whose numbers may be compared. Memory is in MiB, power in watts,
    clocks in MHz; `application_mhz` is the clock that applications were set to.
    """
    if device.type == "cpu":
        return {}
    if device.type == "cuda":
        return _of_cuda(device)
    if device.type == "xpu":
        told = torch.xpu.get_device_properties(device)
        found = {"name": told.name, "memory_mib": told.total_memory // 2**20, "driver": str(told.driver_version)}
        return found | {"multiprocessors": getattr(told, "max_compute_units", None), "torch": str(torch.__version__)}
    memory = torch.mps.recommended_max_memory() // 2**20  # of what the CPU uses too
    return {"name": "Apple GPU", "memory_mib": memory, "torch": str(torch.__version__)}


def _of_cuda(device: torch.device) -> dict[str, Any]:
    """An NVIDIA GPU, or one of AMD's, which torch calls cuda too."""
    told = torch.cuda.get_device_properties(device)
    is_amd = torch.version.hip is not None
    found = {
        "name": told.name,
        "capability": told.gcnArchName if is_amd else f"{told.major}.{told.minor}",
        "memory_mib": told.total_memory // 2**20,
        "multiprocessors": told.multi_processor_count,
        "runtime": f"HIP {torch.version.hip}" if is_amd else f"CUDA {torch.version.cuda}",
        "cudnn": torch.backends.cudnn.version(),
        "torch": str(torch.__version__),
        "uuid": _uuid(device),
    }
    if is_amd:
        return found | {"driver": text_of(Path("/sys/module/amdgpu/version")).strip() or None}
    nvml, handle = managed(device)
    driver = text_of(Path("/sys/module/nvidia/version")).strip() or None
    limit = _asked(nvml, lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle))
    mig = _asked(nvml, lambda: nvml.nvmlDeviceGetMigMode(handle)[0])
    return found | {
        "driver": _asked(nvml, lambda: str(nvml.nvmlSystemGetDriverVersion())) or driver,
        "power_limit_w": None if limit is None else round(limit / 1000),
        "mig": None if mig is None else ("off", "on")[mig],
        "application_mhz": _asked(nvml, lambda: nvml.nvmlDeviceGetApplicationsClock(handle, nvml.NVML_CLOCK_SM)),
    }


def state(device: torch.device) -> dict[str, Any]:
    """How a GPU runs just now: `clock_mhz` of its multiprocessors and the most that they can, `temperature_c`,
    `power_w`, and in `throttled` why it is slower than it is set to. Nothing where it cannot be known: not of NVIDIA,
    or without NVML. It takes some tenths of a millisecond.
    """
    nvml, handle = managed(device)
    if handle is None:
        return {}
    power = _asked(nvml, lambda: nvml.nvmlDeviceGetPowerUsage(handle))
    reasons = _asked(nvml, lambda: nvml.nvmlDeviceGetCurrentClocksEventReasons(handle)) or 0
    return {
        "clock_mhz": _asked(nvml, lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)),
        "max_clock_mhz": _asked(nvml, lambda: nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM)),
        "temperature_c": _asked(nvml, lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)),
        "power_w": None if power is None else power / 1000,
        "throttled": [word for bit, word in SLOWED_BY.items() if reasons & bit],
    }


def cores_near(device: torch.device, root: Path = PCI) -> set[int]:
    """The cores that a GPU's bus is at, where Linux tells them; none where it does not, or for other devices."""
    if device.type != "cuda":
        return set()
    return _numbers(text_of(root / _bus_id(device) / "local_cpulist"))


def _numbers(listed: str) -> set[int]:
    """The numbers of a list as Linux writes it: 0-3,8."""
    ranges = [part.partition("-") for part in listed.strip().split(",") if part]
    return {core for first, _, last in ranges for core in range(int(first), int(last or first) + 1)}


@cache
def managed(device: torch.device) -> tuple[Any, Any]:
    """NVML and its handle of a device; None for both where there is none."""
    if device.type != "cuda" or torch.version.hip is not None:
        return None, None
    try:
        nvml: Any = import_module("pynvml")
        nvml.nvmlInit()
    except Exception:  # noqa: BLE001 - not installed, or no driver: pynvml's own errors are made as it is imported
        return None, None
    uuid = _uuid(device)
    ways: list[Callable[[], Any]] = [
        lambda: nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}"),
        lambda: nvml.nvmlDeviceGetHandleByPciBusId(_bus_id(device)),  # of a slice by MIG it is the whole GPU's
    ]
    found = next((handle for way in ways if (handle := _asked(nvml, way)) is not None), None)
    return (nvml, found) if found is not None else (None, None)


def _asked(nvml: Any, ask: Callable[[], Any]) -> Any:
    """What NVML answers; None where there is none, or it does not tell this of this GPU."""
    if nvml is None:
        return None
    try:
        return ask()
    except (nvml.NVMLError, AttributeError):  # an older pynvml has not all of its functions
        return None


def _uuid(device: torch.device) -> str | None:
    uuid = getattr(torch.cuda.get_device_properties(device), "uuid", None)
    return None if uuid is None else str(uuid)


def _bus_id(device: torch.device) -> str:
    """Where a GPU is on the PCI bus, as Linux writes it: 0000:65:00.0; nothing where torch does not tell."""
    told: Any = torch.cuda.get_device_properties(device)
    if not hasattr(told, "pci_bus_id"):
        return ""
    return f"{told.pci_domain_id:04x}:{told.pci_bus_id:02x}:{told.pci_device_id:02x}.0"
