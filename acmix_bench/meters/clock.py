"""How seconds are taken on a device.

On CUDA by events that are recorded on the current stream of the measured device, which is waited for once, after the
last. On any other accelerator by this machine's clock, the device waited for before and after. A cold cache is one that
was overwritten before every step, outside of its events.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch

Clock = Callable[[], float]
Step = Callable[[], None]


class Sample(NamedTuple):
    """Seconds that some calls took, and of them those in which this machine handed them to the device.

    Where the two are about equal, the device waited for this machine. On the CPU nothing is handed on.
    """

    seconds: float
    host_seconds: float | None = None


def sample_of(step: Step, calls: int, device: torch.device, clock: Clock, *, cold: bool = False) -> Sample:
    """Time some calls in a row; with a cold cache each by itself, added up."""
    if device.type == "cuda":
        return _by_events(step, calls, device, clock, cold=cold)
    if device.type != "cpu":
        torch.accelerator.synchronize(device)  # what was handed on before is not ours
    before = clock()
    for _ in range(calls):
        step()
    handed = clock()
    if device.type == "cpu":
        return Sample(handed - before)
    torch.accelerator.synchronize(device)
    return Sample(clock() - before, handed - before)


def seconds_of(step: Step, calls: int, device: torch.device, clock: Clock) -> float:
    """Time some calls in a row, in a warm cache."""
    return sample_of(step, calls, device, clock).seconds


def _by_events(step: Step, calls: int, device: torch.device, clock: Clock, *, cold: bool) -> Sample:
    """Between events on the device's current stream: one pair for all calls, or one for each where it is cold."""
    stream, pairs, host = torch.cuda.current_stream(device), [], 0.0
    with torch.cuda.device(device):
        for inner in [1] * calls if cold else [calls]:
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            if cold:
                larger_than_cache(device).zero_()
            begin.record(stream)
            before = clock()
            for _ in range(inner):
                step()
            host += clock() - before
            end.record(stream)
            pairs.append((begin, end))
        torch.cuda.synchronize(device)
    return Sample(sum(begin.elapsed_time(end) for begin, end in pairs) / 1000, host)


@cache
def larger_than_cache(device: torch.device) -> torch.Tensor:
    """Bytes on a GPU, twice as many as its L2 cache holds: once they are written, nothing else is in it. They stay."""
    size = torch.cuda.get_device_properties(device).L2_cache_size
    return torch.empty(2 * size, dtype=torch.uint8, device=device)
