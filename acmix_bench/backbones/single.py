"""The operator alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from acmix_bench.backbones.build import Operator


def single(operator: Operator, *, channels: int) -> nn.Module:
    """One operator with stride 1: (B, channels, H, W) to the same shape."""
    return operator(channels, channels, stride=1)
