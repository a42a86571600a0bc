"""Heads' parameters against those of the papers, whose backbones' and heads' code is not ours."""

from __future__ import annotations

import pytest
import torch
from pyramids import Pyramid
from torch import nn

from acmix_bench import heads
from acmix_bench.backbones.build import build
from acmix_bench.spec.library import load_variant

PUBLISHED = [
    # Parameters of the head, and millions with the backbone. Swin's are printed (results/published/dense.csv). Of PVT's
    # nothing is printed there: they hold what this project counts.
    ("semantic-fpn", "pvt-t", 4_266_646, 17.0),
    ("semantic-fpn", "pvt-s", 4_266_646, 28.2),
    ("retinanet", "pvt-t", 10_249_972, 23.0),
    ("retinanet", "pvt-s", 10_249_972, 34.2),
    ("mask-rcnn", "pvt-t", 20_171_765, 32.9),
    ("mask-rcnn", "pvt-s", 20_171_765, 44.1),
    ("upernet", "swin-t", 32_421_164, 60),
    ("upernet", "swin-s", 32_421_164, 81),
    ("mask-rcnn", "swin-t", 20_278_261, 48),
    ("mask-rcnn", "swin-s", 20_278_261, 69),
    ("cascade-mask-rcnn", "swin-t", 58_122_177, 86),
    ("cascade-mask-rcnn", "swin-s", 58_122_177, 107),
]


@pytest.mark.parametrize(("name", "backbone", "parameters", "published"), PUBLISHED)
def test_heads_have_the_published_number_of_parameters(
    name: str, backbone: str, parameters: int, published: float
) -> None:
    widths = (64, 128, 320, 512) if backbone.startswith("pvt") else (96, 192, 384, 768)
    head, features = heads.find(name), Pyramid(widths)
    with torch.device("meta"):
        model = head.build(features, classes=150 if head.task == "segment" else 80)
        whole = build(backbone, load_variant("plain"), in_channels=3, num_classes=1, image_size=224)
    norms = sum(widths) if backbone.startswith("swin") else 0  # a LayerNorm a map
    assert count(model) - count(features) == parameters
    total = count(whole) - (widths[-1] + 1) - 2 * widths[-1] + 2 * norms + parameters  # without its classifier
    assert round(total / 1e6, 1 if isinstance(published, float) else None) == published


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
