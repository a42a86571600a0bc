"""A class a pixel: the head's losses to learn; mean intersection over union and pixel accuracy to score."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from acmix_bench.data.labelmaps import IGNORED
from acmix_bench.errors import UserError
from acmix_bench.tasks import Batch, Job, Scores
from acmix_bench.tasks.classify import over_processes
from acmix_bench.tasks.items import collate as collate
from acmix_bench.tasks.items import transform as transform


def losses(job: Job) -> Callable[[nn.Module, Batch], Tensor]:
    """The sum of the head's losses on a batch, in which smaller images are padded with pixels of no class."""

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        images, labels = batch
        with job.autocast():
            found: dict[str, Tensor] = model(padded(images, 0), padded(labels, IGNORED))
        return torch.stack(list(found.values())).sum()

    return loss


def padded(maps: Sequence[Tensor], value: float) -> Tensor:
    """Maps (..., H, W) of several sizes as one batch of the largest height and width, filled up below and right."""
    height, width = (max(one.shape[side] for one in maps) for side in (-2, -1))
    return torch.stack([F.pad(one, (0, width - one.shape[-1], 0, height - one.shape[-2]), value=value) for one in maps])


def evaluate(
    model: nn.Module, batches: Iterable[Batch], job: Job, report: Callable[[int], None] = lambda _: None
) -> Scores:
    """Over the pixels of all test images together: the mean over the classes of intersection over union (Everingham et
    al., The Pascal Visual Object Classes Challenge, IJCV 2015), and the share of right pixels.

    Predictions are resized to the label map's own size, as the field does. A class that is neither there nor predicted
    counts in no mean.

    Raises:
        UserError: where no pixel has a class.
    """
    model.eval()
    weight = next(model.parameters())
    pixels, seen = torch.zeros(job.classes, job.classes, dtype=torch.float64), 0  # true by predicted
    with torch.inference_mode():
        for images, targets in batches:
            for image, target in zip(images, targets, strict=True):
                labels = target["labels"]
                with job.autocast():
                    scores = model(image[None].to(weight, non_blocking=True))
                scores = F.interpolate(scores.float(), labels.shape[-2:], mode="bilinear", align_corners=False)
                pixels += _confusion(labels, scores[0].argmax(0).cpu(), job.classes)
            seen += len(images)
            report(seen)
    counts = over_processes(pixels, weight.device)
    right, either = counts.diag(), counts.sum(0) + counts.sum(1) - counts.diag()
    if not counts.sum():
        raise UserError("no pixel of the test images has a class")
    return {
        "miou": float((right / either)[either > 0].mean()),
        "pixel_accuracy": float(right.sum() / counts.sum()),
    }


def _confusion(true: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """How many pixels of each class (rows) were predicted as each (columns)."""
    pairs = (true * classes + predicted)[true != IGNORED]
    return pairs.bincount(minlength=classes**2).view(classes, classes)
