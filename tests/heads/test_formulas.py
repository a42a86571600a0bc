"""Heads and losses that were written here, against their formulas written out."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from pyramids import CLASSES, EDGE, Pyramid, scenes
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import roi_align

from acmix_bench import heads
from acmix_bench.heads.detector import Anchors
from acmix_bench.heads.mask_rcnn import TwoStage, boxes_of, fixed_regions, masks_of, region_stage

pytestmark = pytest.mark.usefixtures("_narrow")
DEVIATIONS = ((0.1, 0.1, 0.2, 0.2), (0.05, 0.05, 0.1, 0.1), (0.033, 0.033, 0.067, 0.067))


def test_semantic_fpn_sums_its_levels_at_stride_4() -> None:
    model = heads.find("semantic-fpn").build(Pyramid(), classes=CLASSES).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
    images = torch.randn(1, 3, EDGE, EDGE)
    weights = {key.removeprefix("decoder."): value for key, value in model.state_dict().items()}

    def convolved(x: Tensor, at: str, padding: int = 1) -> Tensor:
        return F.conv2d(x, weights[f"{at}.weight"], weights.get(f"{at}.bias"), padding=padding)

    def block(x: Tensor, at: str) -> Tensor:
        mean, variance, weight, bias = (
            weights[f"{at}.1.{name}"][:, None, None] for name in ("running_mean", "running_var", "weight", "bias")
        )
        return ((convolved(x, f"{at}.0") - mean) / torch.sqrt(variance + 1e-5) * weight + bias).relu()

    maps = model.features(images)
    lateral = [convolved(one, f"pyramid.inner_blocks.{n}.0", padding=0) for n, one in enumerate(maps)]
    for n in (2, 1, 0):
        lateral[n] = lateral[n] + lateral[n + 1].repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    total = torch.zeros(())
    for n, one in enumerate(lateral):
        x = convolved(one, f"pyramid.layer_blocks.{n}.0")
        if n == 0:
            x = block(x, "levels.0")
        for doubling in range(n):
            x = F.interpolate(block(x, f"levels.{n}.{2 * doubling}"), scale_factor=2, mode="bilinear")
        total = total + x
    linear = model.classifier[1]
    scores = F.interpolate(F.conv2d(total, linear.weight, linear.bias), (EDGE, EDGE), mode="bilinear")
    torch.testing.assert_close(model(images), scores)


def test_losses_of_pixels_are_cross_entropy_over_all_and_the_auxiliary_is_weighted() -> None:
    model, (images, pixels, _) = heads.find("upernet").build(Pyramid(), classes=CLASSES), scenes()
    for module in model.modules():
        if isinstance(module, nn.Dropout2d | nn.BatchNorm2d):
            module.eval()
    losses = model(images, pixels)
    coarse = F.interpolate(model.auxiliary(model.features(images)[2]), (EDGE, EDGE), mode="bilinear")
    for scores, weight, loss in (model(images), 1.0, losses["segment"]), (coarse, 0.4, losses["auxiliary"]):
        chances = scores.softmax(dim=1).gather(1, (pixels % 255)[:, None])[:, 0]
        each = torch.where(pixels == 255, 0, -chances.log())
        torch.testing.assert_close(loss, weight * each.sum() / pixels.numel())


def cascade_by_hand(model: TwoStage, images: Tensor, region: list[float]) -> list[dict[str, Tensor]]:
    """What each stage makes of one region of the one image."""
    maps, made = model.backbone(images), []
    for stage, deviations in zip(model.roi_heads.stages, DEVIATIONS, strict=True):
        regions = [torch.tensor([region])]
        scores, shifts = boxes_of(stage, maps, regions, [(EDGE, EDGE)])
        x1, y1, x2, y2 = region
        boxes = []
        for label in range(CLASSES + 1):
            dx, dy, dw, dh = (shifts[0, 4 * label + n] * deviations[n] for n in range(4))
            x, y = (x1 + x2) / 2 + dx * (x2 - x1), (y1 + y2) / 2 + dy * (y2 - y1)
            width, height = (x2 - x1) * dw.exp(), (y2 - y1) * dh.exp()
            boxes.append(torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2]))
        made.append({"scores": scores[0], "boxes": torch.stack(boxes)})
        region = boxes[1 + int(scores[0, 1:].argmax())].clamp(0, EDGE).tolist()
    return made


def iou_and_giou(one: Tensor, two: Tensor) -> tuple[Tensor, Tensor]:
    width, height = (torch.minimum(one[n + 2], two[n + 2]) - torch.maximum(one[n], two[n]) for n in (0, 1))
    inside = width.clamp(min=0) * height.clamp(min=0)
    union = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, two)) - inside
    around = math.prod(torch.maximum(one[n + 2], two[n + 2]) - torch.minimum(one[n], two[n]) for n in (0, 1))
    return inside / union, inside / union - (around - union) / around


@pytest.fixture
def cascade() -> TwoStage:
    model = heads.find("cascade-mask-rcnn").build(Pyramid(), classes=CLASSES).eval()
    for stage in model.roi_heads.stages:
        nn.init.normal_(stage.box_predictor.bbox_pred.bias, std=0.3)  # else the boxes stay where they are
        nn.init.normal_(stage.box_predictor.cls_score.bias)
    return model


def test_the_cascade_detects_by_the_mean_of_its_stages(cascade: TwoStage) -> None:
    images, _, _ = scenes(1)
    last = cascade.roi_heads.stages[-1]
    last.score_thresh, last.nms_thresh, region = 0.0, 1.0, [10.0, 12.0, 40.0, 44.0]
    found, _ = cascade.roi_heads(cascade.backbone(images), [torch.tensor([region])], [(EDGE, EDGE)])
    by_hand = cascade_by_hand(cascade, images, region)
    mean = sum(stage["scores"].softmax(dim=0) for stage in by_hand) / 3
    order = found[0]["labels"].argsort()
    torch.testing.assert_close(found[0]["scores"][order], mean[1:])
    torch.testing.assert_close(found[0]["boxes"][order], by_hand[-1]["boxes"][1:].clamp(0, EDGE))
    given = cascade.backbone(images), [found[0]["boxes"]], [(EDGE, EDGE)]
    masks = sum(masks_of(stage, *given).sigmoid() for stage in cascade.roi_heads.stages) / 3
    assert torch.allclose(found[0]["masks"][:, 0], masks[range(CLASSES), found[0]["labels"]])


@pytest.mark.parametrize("iou", [0.55, 0.65, 0.9])
def test_each_stage_of_the_cascade_asks_for_more_and_counts_less(cascade: TwoStage, iou: float) -> None:
    """Of two regions, an object's own box and one that shares the given IoU with it."""
    images, _, (target,) = scenes(1)
    for stage in cascade.roi_heads.stages:
        nn.init.zeros_(stage.box_predictor.bbox_pred.weight)
        nn.init.zeros_(stage.box_predictor.bbox_pred.bias)  # so that the IoU is the same in every stage
    target["masks"][:] = 1
    goal, label = target["boxes"][0], int(target["labels"])
    x1, y1, x2, y2 = goal.tolist()
    region = torch.tensor([x1, y1, x1 + iou * (x2 - x1), y2])
    maps, sizes = cascade.backbone(images), [(EDGE, EDGE)]
    losses = cascade.roi_heads._losses(maps, [region[None]], sizes, [target])
    weights, least = (1, 0.5, 0.25), (0.5, 0.6, 0.7)
    for n, stage in enumerate(cascade.roi_heads.stages):
        scores, _ = boxes_of(stage, maps, [torch.stack([region, goal])], sizes)
        share, gain = iou_and_giou(region, goal)
        is_object = share >= least[n]
        chances = scores.log_softmax(dim=1)
        wrong = -chances[0, label if is_object else 0] - chances[1, label]
        torch.testing.assert_close(losses[f"class_{n + 1}"], weights[n] * wrong / 2)
        torch.testing.assert_close(losses[f"box_{n + 1}"], weights[n] * 10 * is_object * (1 - gain) / 2)
        masks = masks_of(stage, maps, [torch.stack([region, goal])], sizes)[:, label]
        full = -F.logsigmoid(masks)
        expected = full.mean() if is_object else full[1].mean()
        torch.testing.assert_close(losses[f"mask_{n + 1}"], weights[n] * expected)


def test_anchors_stand_at_their_maps_stride_where_it_was_rounded_up() -> None:
    images = ImageList(torch.zeros(1, 3, 800, 96), [(800, 96)])
    anchors = Anchors(((32,), (512,)), (4, 64))(images, [torch.zeros(1, 1, 200, 24), torch.zeros(1, 1, 13, 2)])[0]
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    assert centres[200 * 24 * 3 - 1].tolist() == [23 * 4, 199 * 4]
    assert centres[-1].tolist() == [1 * 64, 12 * 64]


def test_regions_are_pooled_the_same_whatever_was_pooled_before() -> None:
    """torchvision infers maps' scales from the first images; of one of 33 pixels, padded to 64, it would take 1/2."""
    stage, maps = region_stage(nn.Identity(), classes=CLASSES), {str(n): torch.randn(1, 1, 16, 16) for n in range(4)}
    stage.box_roi_pool(maps, [torch.tensor([[0.0, 0, 20, 20]])], [(33, 33)])
    pooled = stage.box_roi_pool(maps, [torch.tensor([[12.0, 16, 40, 44]])], [(64, 64)])
    assert torch.equal(pooled, roi_align(maps["0"], [torch.tensor([[3.0, 4, 10, 11]])], 7, 1, 2))


def test_fixed_regions_lie_in_the_image_and_have_four_sizes() -> None:
    regions = fixed_regions(480, 640)
    assert regions.shape == (1000, 4)
    assert (regions >= 0).all()
    assert (regions <= torch.tensor([640, 480, 640, 480])).all()
    edges = {tuple(edge) for edge in (regions[:100, 2:] - regions[:100, :2]).round().tolist()}
    assert edges == {(320, 240), (160, 120), (80, 60), (40, 30)}
