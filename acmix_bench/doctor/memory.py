"""Does the memory that a table shows hold what a step takes, and is it free again?"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from acmix_bench.meters.memory import peaks_of
from acmix_bench.runs.contract import Broken, NotPromised, Promise, tried
from acmix_bench.train import devices

KNOWN = 32 << 20  # bytes


def promises(device: torch.device) -> Iterator[Promise]:
    """The peak of a known step, twice, and what is left of it."""
    yield tried("known peak", lambda: _known_peak(device))
    yield tried("freed", lambda: _freed(device))


def _step(device: torch.device) -> None:
    """Two blocks at a time, of three."""
    first = torch.ones(KNOWN, dtype=torch.uint8, device=device)
    second = first + 1
    del first
    _ = second + 1


def _known_peak(device: torch.device) -> str:
    peaks = [peaks_of(lambda: _step(device), lambda: None, device, compiles=False)["peak_bytes"] for _ in range(2)]
    if None in peaks:
        raise NotPromised(f"torch tells no peak on {device.type}")
    if peaks != [2 * KNOWN] * 2:
        raise Broken(f"a step of {2 * KNOWN >> 20} MiB is told as {peaks[0]:,} and {peaks[1]:,} bytes")
    return f"{2 * KNOWN >> 20} MiB, to the byte, twice"


def _freed(device: torch.device) -> str:
    if device.type != "cuda":
        raise NotPromised("torch counts what is held on CUDA alone")
    before = torch.cuda.memory_allocated(device)
    _step(device)
    devices.free_memory()
    left = torch.cuda.memory_allocated(device) - before
    if left:
        raise Broken(f"{left:,} bytes are left of a step")
    free, total = torch.cuda.mem_get_info(device)
    return f"nothing is left of a step; {free / 2**30:.1f} of {total / 2**30:.1f} GiB are free"
