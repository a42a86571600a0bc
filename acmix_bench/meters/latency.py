"""Seconds a batch and peak memory. One call is one round: warm-up, then samples until the time is up.

On an accelerator the clock is read after a synchronisation. That branch has not yet run on a GPU.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from acmix_bench.meters.subject import Subject

Clock = Callable[[], float]


def inference(subject: Subject, *, clock: Clock = time.perf_counter) -> dict[str, Any]:
    """Time the forward pass in evaluation mode, without gradients."""
    model = subject.build().eval()
    images = subject.images(subject.protocol["batch"])

    def step() -> None:
        with torch.inference_mode(), subject.autocast():
            model(images)

    return _sample(step, subject, clock)


def training(subject: Subject, *, clock: Clock = time.perf_counter) -> dict[str, Any]:
    """Time one training step: forward, loss, backward, update (SGD)."""
    model = subject.build().train()
    images = subject.images(subject.protocol["batch"])
    labels = torch.zeros(len(images), dtype=torch.long, device=subject.device)
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-6)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        with subject.autocast():
            loss = subject.loss(model(images), labels)
        loss.backward()
        optimiser.step()

    return _sample(step, subject, clock)


def _sample(step: Callable[[], None], subject: Subject, clock: Clock) -> dict[str, Any]:
    """Warm up for a fifth of the time, at least twice, then sample until it is up, at least three times."""
    seconds = subject.protocol["seconds"]
    with _PeakMemory(subject.device) as memory:
        warm = clock() + seconds / 5
        runs = 0
        while runs < 2 or clock() < warm:
            step()
            runs += 1
        _synchronise(subject.device)
        samples: list[float] = []
        start = clock()
        while len(samples) < 3 or clock() - start < seconds:
            before = clock()
            step()
            _synchronise(subject.device)
            samples.append(clock() - before)
    return {"seconds": samples, "batch": subject.protocol["batch"], "peak_bytes": memory.peak_bytes}


def _synchronise(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


class _PeakMemory:
    """Most memory in use at one time above what was in use before, in bytes; None where the system does not tell."""

    peak_bytes: int | None = None

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __enter__(self) -> _PeakMemory:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self.before: int | None = torch.cuda.memory_allocated(self.device)
        else:
            self.before = _resident("VmRSS") if _reset_peak() else None
        return self

    def __exit__(self, *_: object) -> None:
        if self.before is None:
            return
        on_gpu = self.device.type == "cuda"
        after = torch.cuda.max_memory_allocated(self.device) if on_gpu else _resident("VmHWM")
        self.peak_bytes = after - self.before


def _reset_peak() -> bool:
    """Let Linux forget the peak of this process so far."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _resident(field: str) -> int:
    """A line of /proc/self/status, in bytes."""
    match = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(match[1]) * 1024 if match else 0
