"""Objects with their boxes, and masks where the head gives them: its losses to learn, COCO's precision to score."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn

from acmix_bench.errors import UserError
from acmix_bench.tasks import Batch, Job, Scores
from acmix_bench.tasks.items import collate as collate
from acmix_bench.tasks.items import transform as transform

MASK = 0.5  # of a mask's values, from which on a pixel is the object's
# COCO's twelve, in its order: precision over ten overlaps, at two of them, by size; recall by number, by size.
PRECISIONS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
RECALLS = ("ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large")
TWELVE = (*PRECISIONS, *RECALLS)


def losses(job: Job) -> Callable[[nn.Module, Batch], Tensor]:
    """The sum of the head's losses on a batch."""

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        with job.autocast():
            found: dict[str, Tensor] = model(*batch)
        return torch.stack(list(found.values())).sum()

    return loss


def evaluate(
    model: nn.Module, batches: Iterable[Batch], job: Job, report: Callable[[int], None] = lambda _: None
) -> Scores:
    """COCO's twelve numbers of boxes, and of masks where the model gives them (Lin et al., Microsoft COCO, ECCV 2014).

    Boxes and masks are compared in the pixels of the picture. What has no answer, as for sizes that no object has, is
    None.

    Raises:
        UserError: where the evaluator is not installed.
    """
    model.eval()
    weight, found = next(model.parameters()), list[_Image]()
    with torch.inference_mode():
        for images, targets in batches:
            for image, target in zip(images, targets, strict=True):
                (said,) = model([image.to(weight, non_blocking=True)])  # in full: of half types boxes would be too
                said = in_picture(said, image.shape[-2:], target["original"])
                has_masks = "masks" in said and "masks" in target
                found.append(_Image(_annotations(target), _annotations(said), target["original"], has_masks))
            report(len(found))
    together = _of_all_processes(found)
    kinds = {"box": "bbox"} | ({"mask": "segm"} if all(image.has_masks for image in together) else {})
    return {
        f"{kind}_{name}": None if value < 0 else value  # COCO's word for nothing to be found is -1
        for kind, coco in kinds.items()
        for name, value in zip(TWELVE, _twelve(together, coco, job.classes), strict=True)
    }


def in_picture(said: Mapping[str, Tensor], size: Sequence[int], original: Sequence[int]) -> dict[str, Tensor]:
    """Predictions in the pixels of a picture (height, width), from those of its resized image (height, width)."""
    (height, width), (rows, columns) = size, original
    factors = torch.tensor([columns / width, rows / height] * 2, device=said["boxes"].device)
    moved = {**said, "boxes": said["boxes"].float() * factors, "scores": said["scores"].float()}
    if "masks" in said:
        masks = said["masks"].float()
        if len(masks) and (height, width) != (rows, columns):
            masks = F.interpolate(masks, (rows, columns), mode="bilinear", align_corners=False)
        moved["masks"] = masks.reshape(-1, rows, columns) >= MASK
    return moved


@dataclass(frozen=True)
class _Image:
    """The annotations of a picture as COCO writes them, what a model says of it, its height and width, and whether
    there are masks.
    """

    true: list[dict[str, Any]]
    said: list[dict[str, Any]]
    size: Sequence[int]
    has_masks: bool


def _annotations(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Objects, true ones or predicted, as COCO's: the box by its corner and sides, the mask run by run."""
    mask_api = _evaluator("core.mask")
    boxes = told["boxes"].double().cpu()
    sides = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1).tolist()
    objects = [{"bbox": side, "category_id": label} for side, label in zip(sides, told["labels"].tolist(), strict=True)]
    for ours, theirs in (("scores", "score"), ("area", "area"), ("iscrowd", "iscrowd")):
        for one, value in zip(objects, told[ours].tolist() if ours in told else (), strict=False):
            one[theirs] = value
    if "masks" in told:
        masks = told["masks"].cpu().numpy().astype("uint8")
        for one, mask in zip(objects, masks, strict=True):
            one["segmentation"] = mask_api.encode(np.asfortranarray(mask))
    return objects


def _twelve(images: Sequence[_Image], kind: str, classes: int) -> list[float]:
    coco, evaluation = _evaluator("").COCO, _evaluator("").COCOeval_faster
    true = [one | {"image_id": number} for number, image in enumerate(images) for one in image.true]
    truth = coco()
    truth.dataset = {
        "info": {},
        "images": [{"id": n, "height": image.size[0], "width": image.size[1]} for n, image in enumerate(images)],
        "categories": [{"id": number} for number in range(1, classes + 1)],
        "annotations": [one | {"id": number} for number, one in enumerate(true, 1)],
    }
    truth.createIndex()
    left_out = {"segmentation"} if kind == "bbox" else {"bbox"}
    said = [
        {key: value for key, value in one.items() if key not in left_out} | {"image_id": number}
        for number, image in enumerate(images)
        for one in image.said
    ]
    if not said:
        return [0.0] * len(TWELVE)
    evaluator = evaluation(truth, truth.loadRes(said), kind)
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    return [float(value) for value in evaluator.stats[: len(TWELVE)]]


def _of_all_processes(found: list[_Image]) -> list[_Image]:
    """The pictures of all processes that score together, in each."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return found
    each: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(each, found)
    return [image for some in each for image in some]


def _evaluator(module: str) -> Any:
    """A module of the library that scores as COCO's own does, several times as fast.

    Raises:
        UserError: where it is not installed.
    """
    try:
        return import_module(f"faster_coco_eval.{module}".rstrip("."))
    except ImportError as error:
        raise UserError(f"detection: {error}; pip install 'acmix-bench[dense]'") from error
