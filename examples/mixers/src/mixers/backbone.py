"""A backbone: a builder, and its declaration."""

from typing import Any

from torch import nn

from acmix_bench.backbones import Backbone


def tiny(operator: Any, *, in_channels: int, num_classes: int, image_size: int) -> nn.Module:
    """A stem, two of the operator at stride 1 and 2, and a head."""
    return nn.Sequential(
        nn.Conv2d(in_channels, 16, 3, padding=1),
        nn.ReLU(),
        operator(16, 16, stride=1),
        nn.ReLU(),
        operator(16, 32, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, num_classes),
    )


TINY = Backbone(summary="two layers, for a quick look", build=tiny, image_size=16)
