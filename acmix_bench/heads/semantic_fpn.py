"""Semantic FPN (Kirillov et al., Panoptic Feature Pyramid Networks, CVPR 2019, section 3.1), as PVT uses it.

BatchNorm stands where the paper has GroupNorm: so has mmsegmentation's head, which PVT's numbers are of.
"""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from acmix_bench.heads.segmenter import Segmenter, conv_bn_relu, widths_of

PYRAMID_CHANNELS, CHANNELS = 256, 128


def semantic_fpn(features: nn.Module, *, classes: int) -> Segmenter:
    """Semantic FPN on a backbone's maps."""
    return Segmenter(features, Decoder(widths_of(features)), channels=CHANNELS, classes=classes)


class Decoder(nn.Module):
    """A feature pyramid, whose levels are brought to stride 4 by convolutions and doublings, and summed."""

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        self.pyramid = FeaturePyramidNetwork(widths, PYRAMID_CHANNELS)
        self.levels = nn.ModuleList(_level(doublings) for doublings in range(len(widths)))

    def forward(self, maps: list[Tensor]) -> Tensor:
        pyramid = self.pyramid({str(number): one for number, one in enumerate(maps)}).values()
        first, *others = (level(one) for level, one in zip(self.levels, pyramid, strict=True))
        return sum(others, start=first)


def _level(doublings: int) -> nn.Module:
    if not doublings:
        return conv_bn_relu(PYRAMID_CHANNELS, CHANNELS)
    blocks = []
    for number in range(doublings):
        blocks.append(conv_bn_relu(CHANNELS if number else PYRAMID_CHANNELS, CHANNELS))
        blocks.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
    return nn.Sequential(*blocks)
