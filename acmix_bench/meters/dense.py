"""What a model of a dense task has learned after training."""

from __future__ import annotations

from typing import Any

from acmix_bench.meters.accuracy import trained
from acmix_bench.meters.subject import Subject
from acmix_bench.tasks import detect, segment


def miou(subject: Subject) -> dict[str, Any]:
    """Mean intersection over union and pixel accuracy, as shares of 1, as `accuracy.trained` says.

    Raises:
        Diverged: where the loss is no longer finite.
    """
    scores, more = trained(subject, segment)
    return {**scores[-1], "miou_by_epoch": [each["miou"] for each in scores], **more}


def ap(subject: Subject) -> dict[str, Any]:
    """COCO's twelve numbers of boxes, and of masks where the head gives them, as shares of 1.

    Raises:
        Diverged: where the loss is no longer finite.
    """
    scores, more = trained(subject, detect)
    return {**scores[-1], "box_ap_by_epoch": [each["box_ap"] for each in scores], **more}
