"""Times the operator at the shapes of ResNet-50's stages: `nox -s bench`. No pass or fail hangs on a time."""

from __future__ import annotations

import pytest
import torch

from acmix_bench.ops.acmix import ACmix
from acmix_bench.ops.plain import Convolution

SHAPES = [(64, 56), (128, 28), (256, 14), (512, 7)]
OPERATORS = {
    "convolution": Convolution,
    "production": ACmix,
    "reference": lambda i, o: ACmix(i, o, implementation="reference"),
}


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"C{shape[0]}@{shape[1]}")
@pytest.mark.parametrize("name", OPERATORS)
def test_forward(benchmark, name: str, shape: tuple[int, int]) -> None:
    channels, size = shape
    module, x = OPERATORS[name](channels, channels), torch.randn(4, channels, size, size)
    with torch.inference_mode():
        benchmark(module, x)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"C{shape[0]}@{shape[1]}")
@pytest.mark.parametrize("name", OPERATORS)
def test_forward_and_backward(benchmark, name: str, shape: tuple[int, int]) -> None:
    channels, size = shape
    module, x = OPERATORS[name](channels, channels), torch.randn(4, channels, size, size)
    benchmark(lambda: module(x).sum().backward())
