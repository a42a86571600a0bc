"""What this machine is, and what is missing on it that numbers could do with."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import torch

from acmix_bench.meters import gpu
from acmix_bench.ops.native import build
from acmix_bench.runs.contract import Broken, NotPromised, Promise, tried
from acmix_bench.runs.environment import machine_state, this_environment

# What an extra brings: what one of its modules is called, and what it is for.
EXTRAS = {
    "dense": ("segmentation_models_pytorch", "training and scores of dense tasks"),
    "gpu": ("pynvml", "a GPU's clocks, power and throttling"),
    "parquet": ("pyarrow", "tables as parquet"),
    "ray": ("ray", "sweeps on a cluster"),
    "tensorboard": ("tensorboard", "curves of trainings"),
}


def promises(device: torch.device) -> Iterator[Promise]:
    """The machine, the device, the load, the native operator, the extras."""
    yield tried("machine", lambda: str(this_environment()))
    yield tried("device", lambda: _device(device))
    yield tried("clocks", lambda: _clocks(device))
    yield tried("load", _load)
    yield tried("native operator", _native)
    for extra in EXTRAS:
        yield tried(f"extra {extra}", lambda extra=extra: _extra(extra))  # type: ignore[misc]


def _device(device: torch.device) -> str:
    told = gpu.identity(device)
    if not told:
        return f"{device}"
    return f"{device}: " + ", ".join(f"{name} {value}" for name, value in told.items() if value is not None)


def _clocks(device: torch.device) -> str:
    state = gpu.state(device)
    if not state:
        raise NotPromised("of a GPU alone" if device.type == "cpu" else "not known: pip install 'acmix-bench[gpu]'")
    if state.get("throttled"):
        raise Broken(f"held down by {', '.join(state['throttled'])}: let it cool, or raise its power limit")
    return ", ".join(f"{name} {value}" for name, value in state.items() if value not in (None, []))


def _load() -> str:
    load = machine_state().load
    return f"{load:.1f} of the last minute" + "; what runs beside a timing goes into it" * (load > 0.5)


def _native() -> str:
    told = build.told()
    if told.startswith("none"):
        raise NotPromised(f"{told}; with g++ the operator runs in C++ on a CPU")
    return told


def _extra(extra: str) -> str:
    module, what = EXTRAS[extra]
    if find_spec(module) is None:
        raise NotPromised(f"{what}: pip install 'acmix-bench[{extra}]'")
    return f"{what}: here"
