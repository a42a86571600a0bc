"""What the machine could reach: one dense matrix product with as many multiply-adds as a network."""

from __future__ import annotations

import time

import torch

from acmix_bench.meters.clock import Step, seconds_of
from acmix_bench.meters.macs import total_macs
from acmix_bench.meters.subject import Subject


def matmul(subject: Subject, batch: int) -> tuple[Step, Step]:
    """A square `torch.mm` or, where torch runs that faster, a 1x1 convolution."""
    macs = batch * total_macs(subject)
    edge = round(macs ** (1 / 3))
    a = torch.randn(round(macs / edge**2), edge, device=subject.device, dtype=subject.dtype)
    b = torch.randn(edge, edge, device=subject.device, dtype=subject.dtype)
    pixels = a.t()[None, :, :, None].contiguous(memory_format=torch.channels_last)
    kernel = b[:, :, None, None].contiguous(memory_format=torch.channels_last)

    def multiply() -> None:
        with torch.inference_mode():
            torch.mm(a, b)

    def convolve() -> None:
        with torch.inference_mode():
            torch.conv2d(pixels, kernel)

    def fastest_of_five(step: Step) -> float:
        return min(seconds_of(step, 1, subject.device, time.perf_counter) for _ in range(5))

    return min((multiply, convolve), key=fastest_of_five), lambda: None
