"""Seconds a batch and peak memory. One call is one round: warm-up, then samples until the time is up.

On an accelerator the clock is read after a synchronisation. That branch has not yet run on a GPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from acmix_bench.meters.memory import LiveMemory
from acmix_bench.meters.subject import Subject

Clock = Callable[[], float]


def inference(subject: Subject, *, clock: Clock = time.perf_counter) -> dict[str, Any]:
    """Time the forward pass in evaluation mode, without gradients."""
    model = subject.build().eval()
    images = subject.images(subject.protocol["batch"])

    def step() -> None:
        with torch.inference_mode(), subject.autocast():
            model(images)

    return _sample(step, lambda: None, subject, clock)


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

    return _sample(step, optimiser.zero_grad, subject, clock)


def _sample(step: Callable[[], None], release: Callable[[], None], subject: Subject, clock: Clock) -> dict[str, Any]:
    """Warm up for a fifth of the time, at least twice, then sample until it is up, at least three times."""
    seconds, device = subject.protocol["seconds"], subject.device
    warm = clock() + seconds / 5
    runs = 0
    while runs < 2 or clock() < warm:
        step()
        runs += 1
    _synchronise(device)
    samples: list[float] = []
    start = clock()
    while len(samples) < 3 or clock() - start < seconds:
        before = clock()
        step()
        _synchronise(device)
        samples.append(clock() - before)
    release()  # the gradients of the last step; those of the next belong to its peak
    return {"seconds": samples, "batch": subject.protocol["batch"], "peak_bytes": _peak_bytes(step, device)}


def _synchronise(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _peak_bytes(step: Callable[[], None], device: torch.device) -> int | None:
    """Most memory that torch holds at one time in a step, above what it held before; None where torch does not tell.

    On the CPU one more step is run, and its tensors are watched. What an operation takes for itself is not seen.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        return torch.cuda.max_memory_allocated(device) - before
    if device.type != "cpu":
        return None
    with LiveMemory() as memory:
        step()
    return memory.peak
