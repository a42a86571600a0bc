"""What a GPU says of itself while it is measured."""

from __future__ import annotations

from typing import Any

import torch


def state(device: torch.device) -> dict[str, Any]:
    """Clock in MHz, temperature in degrees, power in watts, and why it is slowed down; empty where it is not known."""
    try:
        import pynvml  # type: ignore[import-not-found]
    except ImportError:
        return {}
    if device.type != "cuda":
        return {}
    try:
        pynvml.nvmlInit()
        uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        reasons = pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle)
        return {
            "clock_mhz": pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM),
            "temperature_c": pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU),
            "power_w": pynvml.nvmlDeviceGetPowerUsage(handle) / 1000,
            "throttled": [name for bit, name in _REASONS.items() if reasons & bit],
        }
    except (pynvml.NVMLError, RuntimeError):
        return {}


# NVML's nvmlClocksEventReasons, those by which a GPU runs below the clock that it was given.
_REASONS = {
    0x8: "hardware slowdown",
    0x20: "hot",
    0x40: "hardware: hot",
    0x80: "hardware: power brake",
}
