"""A small residual network of four stages, for dense tasks that finish in minutes on a CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from acmix_bench.backbones.nano import Block

if TYPE_CHECKING:
    from acmix_bench.backbones.build import Operator

WIDTHS = (32, 64, 128, 128)


def pyramid(operator: Operator, *, in_channels: int, num_classes: int, image_size: int) -> nn.Module:
    """Four stages of a block of nano each, 32, 64, 128 and 128 channels at stride 4, 8, 16 and 32.

    Shape:
        (B, in_channels, H, W) to (B, num_classes).
    """
    half = WIDTHS[0] // 2
    stem = nn.Sequential(
        nn.Conv2d(in_channels, half, 3, 2, padding=1, bias=False),
        nn.BatchNorm2d(half),
        nn.ReLU(),
        nn.Conv2d(half, WIDTHS[0], 3, 2, padding=1, bias=False),
        nn.BatchNorm2d(WIDTHS[0]),
        nn.ReLU(),
    )
    inputs = (WIDTHS[0], *WIDTHS[:-1])
    stages = [
        Block(operator, before, width, stride=2 if stage else 1)
        for stage, (before, width) in enumerate(zip(inputs, WIDTHS, strict=True))
    ]
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTHS[-1], num_classes))
    model = nn.Sequential(stem, *stages, head)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return model
