"""A dense model as it is counted and timed."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torchvision.ops import MultiScaleRoIAlign


class Network(nn.Module):
    """All that a model computes before anything depends on values: images (B, C, H, W) to a tuple of tensors."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.can_be_traced = not any(isinstance(module, MultiScaleRoIAlign) for module in model.modules())

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        found: tuple[Tensor, ...] = self.model.network(images)
        return found
