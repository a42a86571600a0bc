"""Four small maps in place of a backbone's, and scenes of squares, for tests of heads."""

from __future__ import annotations

import torch
from torch import Tensor, nn

STRIDES = (4, 8, 16, 32)
EDGE, CLASSES = 64, 3


class Pyramid(nn.Module):
    """Four convolutions, each on the last one's map."""

    def __init__(self, widths: tuple[int, ...] = (32, 64, 128, 128)) -> None:
        super().__init__()
        self.feature_info = [{"num_chs": c, "reduction": s} for c, s in zip(widths, STRIDES, strict=True)]
        steps = zip((3, *widths), widths, (4, 2, 2, 2), strict=False)
        self.stages = nn.ModuleList(nn.Conv2d(ins, outs, step, stride=step) for ins, outs, step in steps)

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = []
        for stage in self.stages:
            images = torch.relu(stage(images))
            maps.append(images)
        return maps


def scenes(number: int = 2) -> tuple[Tensor, Tensor, list[dict[str, Tensor]]]:
    """Images of noise with a bright square each; their label maps, whose first row is ignored, and their objects,
    of which the first is of the last class."""
    images = torch.randn(number, 3, EDGE, EDGE) * 0.1
    pixels = torch.zeros(number, EDGE, EDGE, dtype=torch.int64)
    objects = []
    for index in range(number):
        left, top, label = 8 + 6 * index, 12, CLASSES - index % CLASSES
        square = torch.tensor([[left, top, left + 28, top + 24]], dtype=torch.float32)
        masks = torch.zeros(1, EDGE, EDGE, dtype=torch.uint8)
        masks[0, top : top + 24, left : left + 28] = 1
        images[index] += 2 * masks[0]
        pixels[index] = masks[0] * (label - 1)
        objects.append({"boxes": square, "labels": torch.tensor([label]), "masks": masks})
    pixels[:, 0] = 255
    return images, pixels, objects


def nothing() -> dict[str, Tensor]:
    """The objects of an image without any."""
    return {
        "boxes": torch.zeros(0, 4),
        "labels": torch.zeros(0, dtype=torch.int64),
        "masks": torch.zeros(0, EDGE, EDGE, dtype=torch.uint8),
    }
