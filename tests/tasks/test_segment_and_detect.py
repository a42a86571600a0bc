"""Scores of dense tasks against the literal formula and COCO's own evaluator."""

from __future__ import annotations

import contextlib
import io
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor, nn

from acmix_bench.spec.recipe import DenseRecipe
from acmix_bench.tasks import Job, detect, segment

COCOS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
COCOS += ("ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large")


def job_of(classes: int) -> Job:
    return Job(
        recipe=DenseRecipe(), image_size=32, size=(32, 32), classes=classes, seed=0, plan={}, autocast=nullcontext
    )


class Says(nn.Module):
    """A model that says what it is told to, image by image."""

    def __init__(self, answers: list[Any]) -> None:
        super().__init__()
        self.weight, self.answers = nn.Parameter(torch.zeros(1)), list(answers)

    def forward(self, images: Any, targets: Any = None) -> Any:
        return self.answers.pop(0)


def test_mean_intersection_over_union_is_that_of_all_pixels_together() -> None:
    """Class 3 is neither there nor said; some pixels are ignored; a label map is larger than its image."""
    draw = np.random.default_rng(0)
    said = [draw.choice([0, 1, 2, 4], (8, 6)), draw.choice([0, 1, 2, 4], (5, 5))]
    true = [draw.choice([0, 1, 2, 4, 255], (16, 12)), draw.choice([0, 1, 255], (5, 5))]
    scores = [nn.functional.one_hot(torch.tensor(one), 5).permute(2, 0, 1)[None].float() for one in said]
    images = [torch.zeros(3, *one.shape) for one in said]
    targets = [{"labels": torch.tensor(one), "original": one.shape} for one in true]
    found = segment.evaluate(Says(scores), [(images[:1], targets[:1]), (images[1:], targets[1:])], job_of(5))
    resized = [
        nn.functional.interpolate(one, of.shape, mode="bilinear")[0].argmax(0).numpy()
        for one, of in zip(scores, true, strict=True)
    ]
    ours, theirs = (np.concatenate([one.ravel() for one in maps]) for maps in (resized, true))
    ours, theirs = ours[theirs != 255], theirs[theirs != 255]
    unions = [(ours == c) | (theirs == c) for c in range(5)]
    each = [((ours == c) & (theirs == c)).sum() / union.sum() for c, union in enumerate(unions) if union.any()]
    assert len(each) == 4
    assert found == {"miou": pytest.approx(np.mean(each)), "pixel_accuracy": pytest.approx((ours == theirs).mean())}


def test_images_of_several_sizes_are_one_batch_and_what_is_beyond_one_is_no_class() -> None:
    class Heard(nn.Module):
        def forward(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
            self.images, self.labels = images, labels
            return {"a": images.sum(), "b": labels.float().sum()}

    model, labels = Heard(), [torch.ones(2, 3, dtype=torch.long), torch.ones(4, 1, dtype=torch.long)]
    loss = segment.losses(job_of(2))(model, ([torch.ones(3, 2, 3), torch.ones(3, 4, 1)], labels))
    assert model.images.shape == (2, 3, 4, 3)
    assert (model.labels == 255).sum() == 24 - 10
    assert loss == 30 + 10 + 255 * 14


def rectangle(box: np.ndarray, height: int, width: int) -> np.ndarray:
    mask = np.zeros((height, width), dtype=np.uint8)
    left, top, right, low = box.astype(int)
    mask[top:low, left:right] = 1
    return mask


def scene(draw: np.random.Generator, number: int, height: int, width: int) -> dict[str, Any]:
    corners = draw.integers(0, [width - 9, height - 9], (number, 2))
    sizes = draw.integers(8, 120, (number, 2))
    boxes = np.concatenate([corners, np.minimum(corners + sizes, [width, height])], 1).astype(np.float32)
    masks = np.stack([rectangle(box, height, width) for box in boxes]) if number else np.zeros((0, height, width))
    return {"boxes": boxes, "masks": masks.astype(np.uint8), "labels": draw.integers(1, 4, number)}


def test_average_precision_is_that_of_cocos_evaluator() -> None:
    """Crowds, an image without objects and one without answers, boxes of every size; images are resized by half."""
    draw = np.random.default_rng(1)
    height, width = 200, 260
    truth = [scene(draw, number, height, width) for number in (5, 0, 3, 8)]
    answers, targets = [], []
    for index, true in enumerate(truth):
        count = len(true["boxes"])
        true["iscrowd"] = (np.arange(count) == 4).astype(np.int64)
        true["area"] = true["masks"].sum((1, 2)).astype(np.float32)
        moved = true["boxes"] + draw.integers(-4, 5, (count, 4)).astype(np.float32)
        moved = np.clip(moved, 0, [width, height, width, height])
        extra = scene(draw, 3, height, width)
        boxes = np.concatenate([moved, extra["boxes"]]).astype(np.float32)
        if index == 2:
            boxes = boxes[:0]
        labels = np.concatenate([true["labels"], extra["labels"]])[: len(boxes)]
        answers.append({"boxes": boxes, "labels": labels, "scores": draw.random(len(boxes)).astype(np.float32)})
        answers[-1]["masks"] = np.stack([rectangle(b, height, width) for b in boxes]) if len(boxes) else boxes
        targets.append({name: torch.as_tensor(value) for name, value in true.items()} | {"original": (height, width)})
    told = [
        {
            "boxes": torch.tensor(one["boxes"]) / 2,
            "labels": torch.tensor(one["labels"]),
            "scores": torch.tensor(one["scores"]),
            "masks": torch.tensor(one["masks"].reshape(-1, 1, height, width)[..., ::2, ::2]).float(),
        }
        for one in answers
    ]
    images = [torch.zeros(3, height // 2, width // 2)] * 4
    found = detect.evaluate(Says([[one] for one in told]), [(images, targets)], job_of(3))
    for one, said in zip(answers, told, strict=True):  # the masks as they come out in the picture
        one["masks"] = detect.in_picture(said, (height // 2, width // 2), (height, width))["masks"].numpy()
    for kind, name in (("box", "bbox"), ("mask", "segm")):
        theirs = by_pycocotools(truth, answers, name, height, width)
        ours = [found[f"{kind}_{number}"] for number in COCOS]
        assert ours == [None if value == -1 else pytest.approx(value, abs=1e-6) for value in theirs]
        assert 0.2 < ours[0] < 0.9


def by_pycocotools(truth: list[Any], answers: list[Any], kind: str, height: int, width: int) -> list[float]:
    def packed(mask: np.ndarray) -> Any:
        return rle.encode(np.asfortranarray(mask.astype(np.uint8)))

    def as_coco(one: Any, index: int) -> list[dict[str, Any]]:
        sides = [[*box[:2], *(box[2:] - box[:2])] for box in one["boxes"].tolist() and one["boxes"]]
        return [
            {"image_id": index, "category_id": int(label), "bbox": list(map(float, side)), "segmentation": packed(mask)}
            for side, label, mask in zip(sides, one["labels"], one["masks"], strict=True)
        ]

    objects = []
    for index, one in enumerate(truth):
        for annotation, area, crowd in zip(as_coco(one, index), one["area"], one["iscrowd"], strict=True):
            objects.append(annotation | {"area": float(area), "iscrowd": int(crowd), "id": len(objects) + 1})
    said = [
        annotation | {"score": float(score)}
        for index, one in enumerate(answers)
        for annotation, score in zip(as_coco(one, index), one["scores"], strict=True)
    ]
    if kind == "bbox":
        said = [{key: value for key, value in one.items() if key != "segmentation"} for one in said]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "info": {},
            "images": [{"id": index, "height": height, "width": width} for index in range(len(truth))],
            "categories": [{"id": number} for number in (1, 2, 3)],
            "annotations": objects,
        }
        coco.createIndex()
        evaluator = COCOeval(coco, coco.loadRes(said), kind)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return list(evaluator.stats)
