"""How pictures with what lies on them, a label map or objects, become batches: the same to segment and to detect."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from acmix_bench.data import Splits, dense
from acmix_bench.spec.recipe import DenseRecipe
from acmix_bench.tasks import Batch, Job


def transform(job: Job, splits: Splits, *, trains: bool) -> Callable[[Any, Any], Batch]:
    """A picture and what lies on it to (3, height, width) and its target, augmented to train on.

    To score on, the target stays as it is in the file, whose size is `original`.
    """
    assert isinstance(job.recipe, DenseRecipe)
    return (dense.to_train if trains else dense.to_test)(job.recipe, job.size, splits)


def collate(items: Sequence[Batch]) -> Batch:
    """The images and targets in lists: their sizes may differ."""
    return [image for image, _ in items], [target for _, target in items]
