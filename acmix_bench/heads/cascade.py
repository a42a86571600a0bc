"""Cascade Mask R-CNN (Cai and Vasconcelos, Cascade R-CNN, CVPR 2018), as Swin uses it.

Each of three stages shifts its regions, and the next one is trained on what comes out, with a higher IoU asked of an
object. Of Swin's are: heads of four convolutions with BatchNorm and one linear layer, GIoU as the loss of boxes (of
weight 10), shifts for every class, a head of masks in every stage; in testing the mean of the stages' scores, of the
last stage's boxes, and of the stages' masks. Written from the papers; torchvision has no cascade.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead
from torchvision.models.detection.roi_heads import RoIHeads, maskrcnn_inference, maskrcnn_loss
from torchvision.ops import clip_boxes_to_image, generalized_box_iou_loss

from acmix_bench.heads.detector import CHANNELS
from acmix_bench.heads.mask_rcnn import BOX_PIXELS, WIDTH, Sizes, TwoStage, boxes_of, masks_of, region_stage

IOUS = (0.5, 0.6, 0.7)
DEVIATIONS = ((0.1, 0.2), (0.05, 0.1), (0.033, 0.067))
STAGE_WEIGHTS = (1.0, 0.5, 0.25)
BOX_WEIGHT = 10.0

Targets = list[dict[str, Tensor]]


def cascade_mask_rcnn(features: nn.Module, *, classes: int) -> TwoStage:
    """Cascade Mask R-CNN on a backbone's maps."""
    stages = [
        region_stage(
            FastRCNNConvFCHead((CHANNELS, BOX_PIXELS, BOX_PIXELS), [CHANNELS] * 4, [WIDTH], norm_layer=nn.BatchNorm2d),
            classes=classes,
            iou=iou,
            deviations=deviations,
        )
        for iou, deviations in zip(IOUS, DEVIATIONS, strict=True)
    ]
    return TwoStage(features, Cascade(stages), stages=stages)


class Cascade(nn.Module):
    """The stages, called as torchvision calls its heads of regions: gives detections, and losses in training."""

    def __init__(self, stages: list[RoIHeads]) -> None:
        super().__init__()
        self.stages: Any = nn.ModuleList(stages)

    def forward(
        self, maps: dict[str, Tensor], regions: list[Tensor], sizes: Sizes, targets: Targets | None = None
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        if self.training:
            assert targets is not None
            return [], self._losses(maps, regions, sizes, targets)
        return self._detections(maps, regions, sizes), {}

    def _losses(
        self, maps: dict[str, Tensor], regions: list[Tensor], sizes: Sizes, targets: Targets
    ) -> dict[str, Tensor]:
        losses = {}
        for number, (stage, weight) in enumerate(zip(self.stages, STAGE_WEIGHTS, strict=True), 1):
            regions, matched, labels, _ = stage.select_training_samples(regions, targets)
            scores, shifts = boxes_of(stage, maps, regions, sizes)
            objects = [label > 0 for label in labels]
            whose = [match[found] for match, found in zip(matched, objects, strict=True)]
            label, found = torch.cat(labels), torch.cat(objects)
            boxes = stage.box_coder.decode(shifts, regions)  # (N, classes + 1, 4)
            goals = torch.cat([target["boxes"][which] for target, which in zip(targets, whose, strict=True)])
            losses[f"class_{number}"] = weight * F.cross_entropy(scores, label)
            losses[f"box_{number}"] = weight * box_loss(boxes[found, label[found]], goals, len(label))
            masked = [each[on] for each, on in zip(regions, objects, strict=True)]
            masks = masks_of(stage, maps, masked, sizes)
            given = [target["masks"] for target in targets], [target["labels"] for target in targets]
            losses[f"mask_{number}"] = weight * maskrcnn_loss(masks, masked, *given, whose)
            label = torch.where(found, label, likeliest(scores))
            shifted = self._shifted(boxes, label, regions, sizes)
            regions = [
                each[~is_among(before, target["boxes"])]  # what an object's own box became helps nobody
                for each, before, target in zip(shifted, regions, targets, strict=True)
            ]
        return losses

    def _detections(self, maps: dict[str, Tensor], regions: list[Tensor], sizes: Sizes) -> list[dict[str, Tensor]]:
        probabilities = []
        for number, stage in enumerate(self.stages):
            scores, shifts = boxes_of(stage, maps, regions, sizes)
            probabilities.append(scores.softmax(dim=1))
            if number < len(self.stages) - 1:
                boxes = stage.box_coder.decode(shifts, regions)
                regions = self._shifted(boxes, likeliest(scores), regions, sizes)
        mean = torch.stack(probabilities).mean(dim=0)
        # What takes the softmax of its scores gets the logarithms.
        found = self.stages[-1].postprocess_detections(mean.log(), shifts, regions, sizes)
        boxes, _, labels = found
        masks = [maskrcnn_inference(masks_of(stage, maps, boxes, sizes), labels) for stage in self.stages]
        means = (torch.stack(of_stages).mean(dim=0) for of_stages in zip(*masks, strict=True))
        keys = "boxes", "scores", "labels", "masks"
        return [dict(zip(keys, values, strict=True)) for values in zip(*found, means, strict=True)]

    @staticmethod
    def _shifted(boxes: Tensor, labels: Tensor, regions: list[Tensor], sizes: Sizes) -> list[Tensor]:
        """The boxes (N, classes + 1, 4) of one class each, by image, cut off at its edges; nothing flows back."""
        chosen = boxes.detach()[torch.arange(len(labels), device=labels.device), labels]
        each = chosen.split([len(region) for region in regions])
        return [clip_boxes_to_image(box, size) for box, size in zip(each, sizes, strict=True)]


def box_loss(boxes: Tensor, goals: Tensor, regions: int) -> Tensor:
    """GIoU of objects' boxes, over the number of all sampled regions."""
    return BOX_WEIGHT * generalized_box_iou_loss(boxes, goals, reduction="sum") / regions


def likeliest(scores: Tensor) -> Tensor:
    """The label of the highest score, without background's."""
    return scores[:, 1:].argmax(dim=1) + 1


def is_among(boxes: Tensor, others: Tensor) -> Tensor:
    """Which boxes are the same as one of the others, number by number."""
    return (boxes[:, None] == others[None]).all(dim=2).any(dim=1)
