"""One class an image: cross-entropy to learn; top-1, top-5, calibration, and each class to score."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timm.data import Mixup
from torch import Tensor, distributed, nn

from acmix_bench.data import Splits
from acmix_bench.data.transforms import to_test, to_train
from acmix_bench.errors import UserError
from acmix_bench.tasks import Batch, Job
from acmix_bench.tasks import Scores as Numbers

BINS = 15  # of the confidences, as Guo et al. take them
TOP = 5


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What a model says of test images it has not seen, all as shares of 1 but for the cross-entropy, in nats.

    Attributes:
        top5: share of the images whose class is among the five likeliest; None where there are five classes or fewer.
        calibration_error: expected calibration error: the images are put in 15 bins of equal width by their confidence,
            the probability of the class that is said; it is the mean over the images of how far their bin's share of
            right answers is from its mean confidence (Guo et al., On Calibration of Modern Neural Networks, ICML 2017,
            section 3). 0 is best.
        by_class: of each class how many images were classified right, and how many there were.
        not_finite: images of which the model said nothing finite; they count as wrong, and in no bin.
    """

    images: int
    top1: float
    top5: float | None
    cross_entropy: float
    calibration_error: float
    by_class: tuple[tuple[int, int], ...]
    not_finite: int


def transform(job: Job, splits: Splits, *, trains: bool) -> Callable[[Any, Any], Batch]:
    """A picture to (C, size, size), augmented to train on; a tensor is taken as it is."""
    return partial(_prepared, (to_train if trains else to_test)(job.recipe, job.image_size, splits))


def _prepared(from_picture: Callable[[Any], Tensor], image: Any, label: Any) -> Batch:
    return image if isinstance(image, Tensor) else from_picture(image), int(label)


def collate(items: Sequence[Batch]) -> Batch:
    """Images (B, C, size, size) and the numbers of their classes (B)."""
    return torch.stack([image for image, _ in items]), torch.tensor([label for _, label in items])


def losses(job: Job) -> Callable[[nn.Module, Batch], Tensor]:
    """Cross-entropy, of images that Mixup and CutMix mix where the recipe says so."""
    recipe, mix = job.recipe, None
    if recipe.mixup or recipe.cutmix:
        mix = Mixup(recipe.mixup, recipe.cutmix, label_smoothing=recipe.smoothing, num_classes=job.classes)
    smoothing = 0.0 if mix else recipe.smoothing  # with it, it is in the targets

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        x, target = mix(*batch) if mix else batch
        with job.autocast():
            output = model(x)
        return F.cross_entropy(output.to(x.dtype), target, label_smoothing=smoothing)  # of half types taken in full

    return loss


def evaluate(
    model: nn.Module, batches: Iterable[Batch], job: Job, report: Callable[[int], None] = lambda _: None
) -> Numbers:
    """Top-1 and the rest of `score` that are single numbers."""
    scores = score(model, batches, classes=job.classes, autocast=job.autocast, report=report)
    return {name: getattr(scores, name) for name in ("top1", "top5", "cross_entropy", "calibration_error")}


def score(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    classes: int,
    autocast: Callable[[], AbstractContextManager[Any]],
    report: Callable[[int], None] = lambda _: None,
) -> Scores:
    """Classify images, and count. The model is left in eval mode.

    Where torch.distributed runs, counts are summed over its processes, and all get the same scores: each gives the
    images that are its own, so that none counts twice, be they many, few or none. The model is then the module
    itself, not its wrapper, whose buffers are exchanged in every forward pass.

    Args:
        batches: images (batch, channels, height, width) with class numbers (batch).
        classes: how many there are.
        autocast: the context of forward passes.
        report: gets the number of images that this process has seen.

    Raises:
        UserError: where there are no images at all.
    """
    model.eval()
    weight = next(model.parameters())
    sums = torch.zeros(2 * classes + 3 * BINS + 3, dtype=torch.float64)
    seen = 0
    with torch.inference_mode():
        for images, labels in batches:
            with autocast():
                scores = model(images.to(weight, non_blocking=True))
            sums += _sums(scores.cpu().double(), labels.cpu(), classes)
            seen += len(labels)
            report(seen)
    right, each, counts, confident, accurate, rest = over_processes(sums, weight.device).split(
        [classes, classes, BINS, BINS, BINS, 3]
    )
    total = int(each.sum())
    if not total:
        raise UserError("there are no test images")
    among, loss, lost = rest.tolist()
    return Scores(
        images=total,
        top1=float(right.sum()) / total,
        top5=among / total if classes > TOP else None,
        cross_entropy=loss / total,
        calibration_error=float((accurate - confident).abs().sum()) / max(1, int(counts.sum())),
        by_class=tuple((int(r), int(n)) for r, n in zip(right.tolist(), each.tolist(), strict=True)),
        not_finite=int(lost),
    )


def _sums(scores: Tensor, labels: Tensor, classes: int) -> Tensor:
    """What a batch adds: right by class, seen by class; of each bin its images, their confidence, the right among them;
    right among the first five, cross-entropy, images without a finite answer.
    """
    log = F.log_softmax(scores, dim=1)
    losses = F.nll_loss(log, labels, reduction="none")
    finite = losses.isfinite()
    best, guess = log.max(1)
    confidence = torch.where(finite, best.exp(), 0)
    right = (guess == labels) & finite
    among = (log.topk(min(TOP, log.shape[1])).indices == labels[:, None]).any(1) & finite | right
    # A bin holds its upper edge, not its lower one.
    place = ((confidence * BINS).ceil().long() - 1).clamp(0, BINS - 1)
    parts = [labels.bincount(right.double(), classes), labels.bincount(minlength=classes).double()]
    parts += [place.bincount(of.double(), BINS) for of in (finite, confidence, right)]
    return torch.cat([*parts, torch.stack([among.sum(), losses.sum(), (~finite).sum()])])


def over_processes(sums: Tensor, device: torch.device) -> Tensor:
    """The sums of all processes that score together, in each."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return sums
    # nccl sums what lies on a GPU, gloo what lies in memory.
    shared = sums.to(device) if distributed.get_backend() == "nccl" else sums
    distributed.all_reduce(shared)
    return shared.cpu()
