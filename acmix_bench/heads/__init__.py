"""Heads that make any backbone a model for a dense task. A table of contents: nothing is imported until one is built.

To add one, write a builder `(features, *, classes) -> nn.Module`, where `features` gives a backbone's four maps, and
declare it: here, or in a module of your own, as `Head(...)`. What it gives is the whole model, `features` inside:

- `forward(images, targets)` in training: a dict of losses, scalars whose sum is minimised;
- `forward(images)` in evaluation: predictions;
- `network(images)`: a tuple of all tensors that are computed before anything depends on values (a threshold, the
  suppression of overlapping boxes): what cost is counted on, and what is timed alone.

Images are normalised and sized already, and a model at most pads them. By task:

- segment: images (B, 3, H, W) of any height and width; targets (B, H, W) of class numbers, of which 255 is ignored;
  predictions (B, classes, H, W), scores before the softmax.
- detect: images as a batch, or a list of (3, H, W); targets a list of dicts as torchvision's detectors take them:
  `boxes` (N, 4) as x1 y1 x2 y2, `labels` (N) from 1 to `classes`, and `masks` (N, H, W) for a head of masks, where N
  may be 0; predictions a list of dicts of `boxes`, `scores`, `labels`, and `masks` (N, 1, H, W) with values of 0 to 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from pydantic.dataclasses import dataclass

from acmix_bench.spec import plugins

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class Head:
    """A head of this package or of your own.

    Attributes:
        task: what it predicts: a class a pixel, or boxes.
        build: `(features, *, classes) -> nn.Module`; background is no class.
    """

    summary: str
    task: Literal["segment", "detect"]
    build: Callable[..., Any]


def _semantic_fpn(features: nn.Module, *, classes: int) -> nn.Module:
    from acmix_bench.heads.semantic_fpn import semantic_fpn

    return semantic_fpn(features, classes=classes)


def _upernet(features: nn.Module, *, classes: int) -> nn.Module:
    from acmix_bench.heads.upernet import upernet

    return upernet(features, classes=classes)


def _retinanet(features: nn.Module, *, classes: int) -> nn.Module:
    from acmix_bench.heads.retinanet import Retina

    return Retina(features, classes=classes)


def _mask_rcnn(features: nn.Module, *, classes: int) -> nn.Module:
    from acmix_bench.heads.mask_rcnn import mask_rcnn

    return mask_rcnn(features, classes=classes)


def _cascade(features: nn.Module, *, classes: int) -> nn.Module:
    from acmix_bench.heads.cascade import cascade_mask_rcnn

    return cascade_mask_rcnn(features, classes=classes)


HEADS: dict[str, Head] = {
    "semantic-fpn": Head(summary="Semantic FPN, as PVT uses it", task="segment", build=_semantic_fpn),
    "upernet": Head(summary="UPerNet with an auxiliary head, as Swin uses it", task="segment", build=_upernet),
    "retinanet": Head(summary="RetinaNet on P3 to P7, as PVT uses it", task="detect", build=_retinanet),
    "mask-rcnn": Head(summary="Mask R-CNN on P2 to P6", task="detect", build=_mask_rcnn),
    "cascade-mask-rcnn": Head(
        summary="Cascade Mask R-CNN of three stages, as Swin uses it", task="detect", build=_cascade
    ),
}


def find(name: str) -> Head:
    """A head by name or by reference.

    Raises:
        UserError: naming the known ones.
    """
    return plugins.find("head", name, HEADS, Head)


def task_of(name: str) -> Literal["classify", "segment", "detect"]:
    """What a model with a head is made to do; without one, to classify.

    Raises:
        UserError: as `find`.
    """
    return find(name).task if name else "classify"


def built(name: str, model: nn.Module, backbone: str, *, classes: int) -> nn.Module:
    """The whole dense model: a head on a built backbone.

    Raises:
        UserError: for an unknown head, or a backbone without four stages.
    """
    from acmix_bench.backbones.features import Features

    whole: nn.Module = find(name).build(Features(model, backbone), classes=classes)
    return whole


def as_network(model: nn.Module) -> nn.Module:
    """A dense model as it is counted and timed."""
    from acmix_bench.heads.network import Network

    return Network(model)
