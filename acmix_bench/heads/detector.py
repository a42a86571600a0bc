"""What the detectors share: a pyramid of maps, anchors on it, and batches of images as they are.

They are torchvision's, and differ from mmdetection's, whose numbers are published, in what torchvision does otherwise:
a class of its own for background in the weights that predict boxes and masks (4,100 and 257 parameters more); regions
pooled at two samples a bin, not shifted by half a pixel; a smooth L1 loss of regions and boxes; RetinaNet's losses
averaged over each image's own anchors, and P7 from P6 after a ReLU, as in the paper.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FeaturePyramidNetwork

CHANNELS = 256
RATIOS = (0.5, 1.0, 2.0)


class Pyramid(nn.Module):
    """A backbone's maps from the one of number `first` on, all of 256 channels, and coarser ones that `more` adds."""

    out_channels = CHANNELS

    def __init__(self, features: nn.Module, *, first: int, more: nn.Module) -> None:
        super().__init__()
        widths = [info["num_chs"] for info in features.feature_info]  # type: ignore[union-attr]
        self.features, self.first = features, first
        leave_out: Any = getattr(features, "leave_out", None)
        if leave_out:  # several processes wait for the gradient of every parameter
            leave_out(first)
        self.pyramid = FeaturePyramidNetwork(widths[first:], CHANNELS, extra_blocks=more)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = self.features(images)[self.first :]
        return self.pyramid({str(number): one for number, one in enumerate(maps)})


class Anchors(AnchorGenerator):  # type: ignore[misc]
    """torchvision's anchors, on maps whose strides are given.

    Without them it divides the sizes of image and map. That is less than the stride where a map was rounded up, as P6
    is of an image of 800 pixels: its last anchors lay 36 pixels off.

    Args:
        sizes: of the square anchors of each map, in pixels.
    """

    def __init__(self, sizes: tuple[tuple[float, ...], ...], strides: tuple[int, ...]) -> None:
        super().__init__(sizes, (RATIOS,) * len(sizes))
        self.strides = strides

    def grid_anchors(self, grid_sizes: Any, strides: Any) -> list[Tensor]:
        return super().grid_anchors(grid_sizes, [[stride, stride] for stride in self.strides])


class AsTheyAre(GeneralizedRCNNTransform):  # type: ignore[misc]
    """torchvision's way from images to a batch, without normalising or resizing: pads to multiples of 32."""

    def __init__(self) -> None:
        super().__init__(min_size=0, max_size=0, image_mean=[], image_std=[])

    def normalize(self, image: Tensor) -> Tensor:
        return image

    def resize(self, image: Tensor, target: Any = None) -> tuple[Tensor, Any]:
        return image, target


def in_float32(module: nn.Module) -> nn.Module:
    """Have a module give float32 where autocast computed in less: a box at 1000 in bfloat16 is 4 pixels off."""
    module.register_forward_hook(_in_float32)
    return module


def _in_float32(module: nn.Module, inputs: Any, outputs: Any) -> Any:
    return tree_map_only(Tensor, lambda x: x.float() if x.dtype in (torch.float16, torch.bfloat16) else x, outputs)
