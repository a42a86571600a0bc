"""Every head on a small pyramid: it learns, takes what images there are, and keeps to what `heads` says of it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from full import full
from pyramids import CLASSES, EDGE, Pyramid, nothing, scenes
from torch import Tensor, nn

from acmix_bench import heads
from acmix_bench.errors import UserError
from acmix_bench.meters.shapes import ShapesOnly

pytestmark = pytest.mark.usefixtures("_narrow")
NAMES = list(heads.HEADS)
DETECTORS = [name for name in NAMES if heads.HEADS[name].task == "detect"]
SEGMENTERS = [name for name in NAMES if heads.HEADS[name].task == "segment"]


def made(name: str, features: nn.Module | None = None, classes: int = CLASSES) -> nn.Module:
    model = heads.find(name).build(Pyramid() if features is None else features, classes=classes)
    for module in model.modules():  # fewer regions than in earnest, for the tests' time
        if hasattr(module, "box_roi_pool"):
            module.fg_bg_sampler.batch_size_per_image = 8
        if hasattr(module, "_post_nms_top_n"):
            module._post_nms_top_n = {"training": 1000, "testing": 6}
    return model


def targets_for(name: str, pixels: Tensor, objects: list[dict[str, Tensor]]) -> Tensor | list[dict[str, Tensor]]:
    return pixels if name in SEGMENTERS else objects


@pytest.mark.parametrize("name", NAMES)
def test_a_few_steps_lower_the_loss_and_every_parameter_has_a_gradient(name: str) -> None:
    model, (images, pixels, objects) = made(name), scenes()
    targets, totals = targets_for(name, pixels, objects), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    for _ in range(4):
        torch.manual_seed(1)  # the same regions, and the same dropout
        losses = model(images, targets)
        assert all(loss.shape == () for loss in losses.values())
        total = sum(losses.values())
        optimizer.zero_grad()
        total.backward()
        if not totals:
            assert not [key for key, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
            assert not [key for key, p in model.named_parameters() if not p.grad.any()]
        nn.utils.clip_grad_norm_(model.parameters(), 5)
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < 0.95 * totals[0], totals


@pytest.mark.parametrize("name", NAMES)
def test_images_without_objects_are_trained_on(name: str) -> None:
    model, (images, pixels, objects) = made(name), scenes()
    for index in range(2):  # one of them without objects, and then both
        pixels[index], objects[index] = 255, nothing()
        model.zero_grad()
        total = sum(model(images, targets_for(name, pixels, objects)).values())
        total.backward()
        assert total.isfinite()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", SEGMENTERS)
@pytest.mark.parametrize("size", [(33, 70), (95, 41)])
def test_scores_are_of_the_images_size(name: str, size: tuple[int, int]) -> None:
    model = made(name).eval()
    with torch.inference_mode():
        images = torch.randn(2, 3, *size)
        scores = model(images)
        assert scores.shape == (2, CLASSES, *size)
        assert torch.equal(scores, model.network(images)[0])
        assert not torch.allclose(scores[..., :-1, :], scores[..., 1:, :])


@pytest.mark.parametrize("name", DETECTORS)
def test_detections_are_of_each_images_size(name: str) -> None:
    model, sizes = made(name).eval(), [(33, 70), (95, 41)]
    for module in model.modules():
        if hasattr(module, "score_thresh"):
            module.score_thresh = 0.0  # of a head that learned nothing
    with torch.inference_mode():
        found = model([torch.randn(3, *size) for size in sizes])
    for each, (height, width) in zip(found, sizes, strict=True):
        number = len(each["boxes"])
        assert 0 < number <= 100
        assert each["boxes"].shape == (number, 4)
        assert (each["boxes"] <= torch.tensor([width, height, width, height])).all()
        assert (each["boxes"] >= 0).all()
        assert each["scores"].shape == each["labels"].shape == (number,)
        assert set(each["labels"].tolist()) <= set(range(1, CLASSES + 1))
        assert ("masks" in each) == (name != "retinanet")
        if "masks" in each:
            assert each["masks"].shape == (number, 1, height, width)
            assert ((each["masks"] >= 0) & (each["masks"] <= 1)).all()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=full) if name == "cascade-mask-rcnn" else name for name in DETECTORS]
)
def test_under_autocast_boxes_are_of_float32(name: str) -> None:
    model, (images, _, objects) = made(name), scenes()
    with torch.autocast("cpu", torch.bfloat16):
        assert all(loss.dtype == torch.float32 for loss in model(images, objects).values())
        with torch.no_grad():
            assert all(value.dtype != torch.bfloat16 for found in model.eval()(images) for value in found.values())


REGIONS = [(2000, CLASSES + 1), (2000, 4 * (CLASSES + 1)), (200, CLASSES + 1, 28, 28)]
PIXELS = 9 * (8 * 8 + 4 * 4 + 2 * 2 + 1 + 1)  # anchors on P3 to P7


@pytest.mark.parametrize(
    ("name", "outputs"),
    [
        ("retinanet", [(2, PIXELS, CLASSES), (2, PIXELS, 4)]),
        ("mask-rcnn", REGIONS),
        ("cascade-mask-rcnn", 3 * REGIONS),
    ],
)
def test_the_network_is_computed_whatever_the_values_are(name: str, outputs: list[tuple[int, ...]]) -> None:
    model, images = made(name).eval(), torch.empty(2, 3, EDGE, EDGE)
    with torch.no_grad(), ShapesOnly([images, *model.parameters(), *model.buffers()]):
        shapes = [tuple(output.shape) for output in model.network(images)]
    assert shapes[-len(outputs) :] == outputs


def test_upernet_says_that_one_image_is_too_few() -> None:
    images, pixels, _ = scenes(1)
    with pytest.raises(UserError, match="upernet needs a batch of 2 images or more a process"):
        made("upernet")(images, pixels)


def test_a_head_says_what_it_needs_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "acmix_bench.heads.upernet", raising=False)
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch.base.initialization", None)
    with pytest.raises(UserError, match=r"pip install 'acmix-bench\[dense\]'"):
        made("upernet")


def test_heads_of_ones_own_are_found(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from acmix_bench.heads import Head\nMINE = Head(summary='mine', task='segment', build=lambda f, *, classes: f)"
    )
    assert heads.find(f"{path}:MINE").summary == "mine"
    with pytest.raises(UserError, match="unknown head 'retinanett'; did you mean 'retinanet'"):
        heads.find("retinanett")
