"""Times the operator at the shapes of ResNet-50's and Swin-T's stages: `nox -s bench`.

No pass or fail hangs on a time.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from acmix_bench.ops.acmix import ACmix
from acmix_bench.ops.plain import Convolution
from acmix_bench.ops.window import WindowACmix

RESNET = [(64, 56), (128, 28), (256, 14), (512, 7)]
SWIN = [(96, 56), (192, 28), (384, 14), (768, 7)]


def in_resnet(name: str, channels: int, size: int) -> tuple[nn.Module, torch.Tensor]:
    """A layer of ResNet-50 and its input, batch 4, channels-last."""
    x = torch.randn(4, channels, size, size).contiguous(memory_format=torch.channels_last)
    if name == "convolution":
        return Convolution(channels, channels).to(memory_format=torch.channels_last), x
    return ACmix(channels, channels, implementation=name), x


def in_swin(name: str, channels: int, size: int) -> tuple[nn.Module, torch.Tensor]:
    """A layer of Swin-T and its input, batch 4; its own attention is ACmix without the convolution path."""
    paths, implementation = ("attention", "production") if name == "attention" else ("both", name)
    layer = WindowACmix(channels, channels // 32, (7, 7), paths=paths, implementation=implementation)
    return layer, torch.randn(4, size, size, channels)


CASES = [(in_resnet, name, *shape) for shape in RESNET for name in ("convolution", "production", "reference")]
CASES += [(in_swin, name, *shape) for shape in SWIN for name in ("attention", "production", "reference")]
IDS = [f"{make.__name__}-{name}-C{channels}@{size}" for make, name, channels, size in CASES]


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_forward(benchmark, case) -> None:
    make, *arguments = case
    module, x = make(*arguments)
    with torch.inference_mode():
        benchmark(module, x)


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_forward_and_backward(benchmark, case) -> None:
    make, *arguments = case
    module, x = make(*arguments)
    benchmark(lambda: module(x).sum().backward())
