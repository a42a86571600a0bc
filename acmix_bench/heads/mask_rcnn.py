"""Mask R-CNN (He et al., ICCV 2017) on a feature pyramid, P2 to P6: torchvision's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool
from torchvision.ops.poolers import initLevelMapper

from acmix_bench.heads.detector import CHANNELS, RATIOS, Anchors, AsTheyAre, Pyramid, in_float32

STRIDES = (4, 8, 16, 32, 64)  # the last is for proposals alone
ANCHOR = 8  # the edge of a square one, in pixels of its map
BOX_PIXELS, MASK_PIXELS, WIDTH = 7, 14, 1024
# The regions that `network` computes for each image: mmdetection counts its operations on so many.
BOX_REGIONS, MASK_REGIONS = 1000, 100

Sizes = Sequence[tuple[int, int]]


def mask_rcnn(features: nn.Module, *, classes: int) -> TwoStage:
    """Mask R-CNN on a backbone's maps."""
    stage = region_stage(TwoMLPHead(CHANNELS * BOX_PIXELS**2, WIDTH), classes=classes)
    return TwoStage(features, stage, stages=[stage])


class TwoStage(GeneralizedRCNN):  # type: ignore[misc]
    """A network of proposals, and heads of their regions.

    Args:
        roi_heads: all stages of those heads, as torchvision calls them.
        stages: each by itself.
    """

    def __init__(self, features: nn.Module, roi_heads: nn.Module, *, stages: Sequence[RoIHeads]) -> None:
        pyramid = Pyramid(features, first=0, more=LastLevelMaxPool())
        super().__init__(pyramid, _proposals(), roi_heads, AsTheyAre())
        self._stages = tuple(stages)

    def network(self, images: Tensor) -> tuple[Tensor, ...]:
        batch, _ = self.transform(images)
        maps = self.backbone(batch.tensors)
        objectness, shifts = self.rpn.head(list(maps.values()))
        outputs = [*objectness, *shifts]
        regions = [fixed_regions(*images.shape[-2:]).to(images)] * len(images)
        for stage in self._stages:
            outputs += boxes_of(stage, maps, regions, batch.image_sizes)
            outputs.append(masks_of(stage, maps, [each[:MASK_REGIONS] for each in regions], batch.image_sizes))
        return tuple(outputs)


def region_stage(
    head: nn.Module, *, classes: int, iou: float = 0.5, deviations: tuple[float, float] = (0.1, 0.2)
) -> RoIHeads:
    """The heads of regions: a class and a shift for every class of each, and its mask.

    Args:
        head: of the pooled region, before class and shift.
        iou: of a region that is an object's with that object, at least.
        deviations: by which shifts of the centre, and of the size, are divided.
    """
    return RoIHeads(
        _pool(BOX_PIXELS),
        head,
        in_float32(FastRCNNPredictor(WIDTH, classes + 1)),
        fg_iou_thresh=iou,
        bg_iou_thresh=iou,
        batch_size_per_image=512,
        positive_fraction=0.25,
        bbox_reg_weights=tuple(1 / deviation for deviation in deviations for _ in "xy"),
        score_thresh=0.05,
        nms_thresh=0.5,
        detections_per_img=100,
        mask_roi_pool=_pool(MASK_PIXELS),
        mask_head=MaskRCNNHeads(CHANNELS, (CHANNELS,) * 4, dilation=1),
        mask_predictor=in_float32(MaskRCNNPredictor(CHANNELS, CHANNELS, classes + 1)),
    )


def boxes_of(stage: RoIHeads, maps: dict[str, Tensor], regions: list[Tensor], sizes: Sizes) -> tuple[Tensor, Tensor]:
    """Scores (N, classes + 1) and shifts (N, 4 (classes + 1)) of all images' regions."""
    return stage.box_predictor(stage.box_head(stage.box_roi_pool(maps, regions, sizes)))


def masks_of(stage: RoIHeads, maps: dict[str, Tensor], regions: list[Tensor], sizes: Sizes) -> Tensor:
    """Masks (N, classes + 1, 28, 28) of all images' regions, before the sigmoid."""
    return stage.mask_predictor(stage.mask_head(stage.mask_roi_pool(maps, regions, sizes)))


def fixed_regions(height: int, width: int) -> Tensor:
    """A thousand boxes on a grid over an image, of a half, a quarter, an 8th and a 16th of its edges in turn."""
    image = torch.tensor([width, height], dtype=torch.float32)
    x, y, part = torch.meshgrid(*(torch.linspace(0, 1, n) for n in (25, 10)), 0.5 ** torch.arange(1, 5), indexing="ij")
    corner, part = torch.stack([x, y], dim=-1).reshape(-1, 2), part.reshape(-1, 1)
    corner = corner * (1 - part)
    return torch.cat([corner * image, (corner + part) * image], dim=1)


def _proposals() -> RegionProposalNetwork:
    return RegionProposalNetwork(
        Anchors(tuple((ANCHOR * stride,) for stride in STRIDES), STRIDES),
        in_float32(RPNHead(CHANNELS, len(RATIOS))),
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=256,
        positive_fraction=0.5,
        pre_nms_top_n={"training": 2000, "testing": 1000},
        post_nms_top_n={"training": 1000, "testing": 1000},
        nms_thresh=0.7,
    )


def _pool(pixels: int) -> MultiScaleRoIAlign:
    """Pools regions from the map that suits their size.

    Its scales are said: torchvision infers them once, from the first images, wrongly where these were padded much.
    """
    strides = STRIDES[:-1]
    pool = MultiScaleRoIAlign([str(number) for number in range(len(strides))], pixels, sampling_ratio=2)
    pool.scales = [1 / stride for stride in strides]
    pool.map_levels = initLevelMapper(2, 5)  # the logarithms of the strides
    return pool
