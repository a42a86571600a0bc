"""The memory meter on operations whose memory is known."""

from __future__ import annotations

import torch

from acmix_bench.meters.memory import LiveMemory

MIB = 2**20


def test_what_is_released_is_not_counted() -> None:
    x = torch.zeros(MIB // 4)  # one MiB, there before
    with torch.no_grad(), LiveMemory() as memory:
        for _ in range(5):
            y = x + 1
            z = y * 2
            del y
            z.relu_()
            z.view(-1, 2).t()
            del z
    assert memory.peak == 2 * MIB


def test_what_is_kept_for_the_gradient_is_counted() -> None:
    x = torch.zeros(MIB // 4, requires_grad=True)
    with LiveMemory() as memory:
        out = x.exp().sin().cos().sum()
    kept = memory.peak
    with torch.no_grad(), LiveMemory() as memory:
        x.exp().sin().cos().sum()
    assert kept >= 3 * MIB
    assert memory.peak <= 2 * MIB + 1024
    out.backward()


def test_inference_mode_hides_nothing() -> None:
    x, weight = torch.randn(2, 64, 32, 32), torch.randn(64, 64)
    peaks = []
    for mode in (torch.no_grad, torch.inference_mode):
        with mode(), LiveMemory() as memory:
            torch.nn.functional.linear(x.permute(0, 2, 3, 1), weight)
        peaks.append(memory.peak)
    assert peaks == [2 * 2 * 64 * 32 * 32 * 4] * 2, "the result, and a copy of the input"


def test_in_place_updates_of_what_was_there_cost_nothing() -> None:
    x = torch.zeros(MIB // 4)
    with LiveMemory() as memory:
        x.add_(1)
    assert memory.peak == 0
