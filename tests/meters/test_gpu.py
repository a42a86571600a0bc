"""What a GPU is, what state it is in, and which cores are near it: from stubs of torch and of NVML."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_accelerator import UUID, nvml, properties
from fake_accelerator import fake as fake

from acmix_bench.meters import conditions, gpu

CUDA1 = torch.device("cuda", 1)
SETTINGS = {"EnforcedPowerLimit": 700_000, "MigMode": [0, 0], "ApplicationsClock": 1980}
LOOKED_UP = {"DeviceGetHandleByUUID": "handle", "SystemGetDriverVersion": "580.159.04"}
ANSWERS = LOOKED_UP | {f"DeviceGet{name}": value for name, value in SETTINGS.items()}


@pytest.fixture(autouse=True)
def h100(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties())
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    gpu.managed.cache_clear()
    yield
    gpu.managed.cache_clear()


def managed_by(monkeypatch: pytest.MonkeyPatch, **answers: Any) -> list[str]:
    asked: list[str] = []
    monkeypatch.setitem(sys.modules, "pynvml", nvml(asked, **answers))
    return asked


def test_what_a_gpu_is_comes_from_torch_and_its_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    managed_by(monkeypatch, **ANSWERS)
    told = gpu.identity(CUDA1)
    assert told["name"] == "NVIDIA H100 80GB HBM3"
    assert (told["capability"], told["memory_mib"], told["multiprocessors"]) == ("9.0", 81062, 132)
    assert (told["driver"], told["runtime"], told["uuid"]) == ("580.159.04", "CUDA 13.0", UUID)
    assert (told["power_limit_w"], told["mig"], told["application_mhz"]) == (700, "off", 1980)
    assert told["torch"] == torch.__version__
    assert type(told["torch"]) is str, "torch's own type would bring torch to whoever unpickles it"
    assert gpu.identity(torch.device("cpu")) == {}


def test_it_is_looked_up_by_its_uuid_and_never_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = managed_by(monkeypatch, **ANSWERS)
    gpu.identity(CUDA1)
    assert f"DeviceGetHandleByUUID GPU-{UUID}" in asked
    assert all("handle" in line for line in asked if "Power" in line or "Mig" in line)


def test_a_slice_is_looked_up_by_its_place_on_the_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    by_place = {key: value for key, value in ANSWERS.items() if "UUID" not in key}
    asked = managed_by(monkeypatch, **by_place | {"DeviceGetHandleByPciBusId": "whole", "DeviceGetMigMode": [1, 1]})
    assert gpu.identity(CUDA1)["mig"] == "on"
    assert "DeviceGetHandleByPciBusId 0000:65:00.0" in asked


def test_without_the_library_what_torch_tells_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)  # as where it is not installed
    told = gpu.identity(CUDA1)
    assert told["name"] == "NVIDIA H100 80GB HBM3"
    assert told["power_limit_w"] is told["mig"] is told["application_mhz"] is None
    assert gpu.state(CUDA1) == {}


def test_what_a_gpu_does_not_support_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    managed_by(monkeypatch, **LOOKED_UP)
    assert gpu.identity(CUDA1)["power_limit_w"] is None
    assert gpu.state(CUDA1) == {
        "clock_mhz": None,
        "max_clock_mhz": None,
        "temperature_c": None,
        "power_w": None,
        "throttled": [],
    }


@pytest.mark.parametrize(
    ("reasons", "words"),
    [(0, []), (0x1, []), (0x2, []), (0x4, ["power limit"]), (0x28, ["hardware slowdown", "heat"])],
)
def test_the_state_says_in_words_why_it_is_slow(
    monkeypatch: pytest.MonkeyPatch, reasons: int, words: list[str]
) -> None:
    now = {"ClockInfo": 1755, "MaxClockInfo": 1980, "Temperature": 61, "PowerUsage": 695_500}
    now["CurrentClocksEventReasons"] = reasons
    managed_by(monkeypatch, **LOOKED_UP | {f"DeviceGet{name}": value for name, value in now.items()})
    told = {"clock_mhz": 1755, "max_clock_mhz": 1980, "temperature_c": 61, "power_w": 695.5, "throttled": words}
    assert gpu.state(CUDA1) == told
    assert gpu.state(torch.device("cpu")) == gpu.state(torch.device("mps")) == {}


@pytest.mark.parametrize(("listed", "cores"), [("0-2,8\n", {0, 1, 2, 8}), ("5\n", {5}), ("", set())])
def test_the_cores_near_a_gpu_are_those_of_its_bus(tmp_path: Path, listed: str, cores: set[int]) -> None:
    (tmp_path / "0000:65:00.0").mkdir()
    (tmp_path / "0000:65:00.0" / "local_cpulist").write_text(listed)
    assert gpu.cores_near(CUDA1, tmp_path) == cores
    assert gpu.cores_near(torch.device("cpu"), tmp_path) == set()


def test_a_process_runs_on_cores_near_its_gpu(fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    one, held = fake("cuda", 2), list[set[int]]()
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {2, 3, 4})
    monkeypatch.setattr(os, "sched_setaffinity", lambda process, cores: held.append(cores))
    monkeypatch.setattr(gpu, "cores_near", lambda device: {0, 1, 2, 3})
    assert conditions.use_device("cuda:1")["gpu"]["uuid"] == UUID
    assert one.log[0] == "set 1"
    assert held == [{2, 3}]
    monkeypatch.setattr(gpu, "cores_near", lambda device: {9})  # none of those that it may run on
    conditions.use_device("cuda:1")
    assert held == [{2, 3}]
    assert conditions.use_device("cpu") == {}
