"""When a step, and the GPU that it runs on, are warm enough to be timed."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from acmix_bench.meters import gpu
from acmix_bench.meters.clock import Clock, Step, seconds_of

ALIKE = 0.1  # three steps in a row that differ by less than this share end a warm-up
LEAST, MOST, BETWEEN = 1.0, 5.0, 0.2  # seconds that a GPU is warmed up, and between two looks at its clock
SETTLED = 0.02  # three looks that differ by no more than this share see a clock that has settled


def until_alike(step: Step, device: torch.device, clock: Clock, seconds: float) -> list[float]:
    """Run a step until three in a row take alike, or the time is up: what each took."""
    limit = clock() + seconds
    taken = [seconds_of(step, 1, device, clock)]
    while clock() < limit and not are_alike(taken):
        taken.append(seconds_of(step, 1, device, clock))
    return taken


def are_alike(seconds: list[float]) -> bool:
    """Whether the last three steps took alike."""
    return len(seconds) > 2 and max(seconds[-3:]) < (1 + ALIKE) * min(seconds[-3:])


def until_clock_settles(steps: Sequence[Step], device: torch.device, clock: Clock) -> bool | None:
    """Run steps in turns until an accelerator's clock has come up and stays: a second at least, five at most.

    Returns:
        Whether it stays; None where it cannot be seen.
    """
    begun, seen = clock(), []
    while True:
        look = clock() + BETWEEN
        while clock() < look:
            for step in steps:
                seconds_of(step, 1, device, clock)
        seen.append(gpu.state(device).get("clock_mhz"))
        spent = clock() - begun
        last = [mhz for mhz in seen[-3:] if mhz]
        settled = len(last) == 3 and max(last) <= (1 + SETTLED) * min(last)
        if spent >= LEAST and (settled or not last):
            return settled or None
        if spent >= MOST:
            return False
