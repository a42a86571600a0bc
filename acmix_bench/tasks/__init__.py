"""What a model is trained to do. A task is a module that says four things, and training, scores and tables serve all:

transform(job, splits, *, trains)   a function of an image and what belongs to it, to the model's input and target
collate(items)                      inputs and targets of several images as a batch
losses(job)                         a function `(model, batch)` to the loss of a forward pass
evaluate(model, batches, job)       what the model gets right: numbers by name, the first of which is compared
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from acmix_bench.spec.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor, nn

    from acmix_bench.data import Splits

Name = Literal["classify", "segment", "detect"]
Batch = tuple[Any, Any]
Scores = dict[str, float | None]


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is trained, and how.

    Attributes:
        plan: all that the result depends on, in words and numbers: a checkpoint of another plan is refused.
        image_size: the edge of the input that the backbone is built for, in pixels.
        size: height and width of the input.
        autocast: the context of forward passes.
        half: whether that is float16, whose gradients need scaling.
        workers: processes that read images.
    """

    recipe: Recipe
    image_size: int
    size: tuple[int, int]
    classes: int
    seed: int
    plan: dict[str, Any]
    autocast: Callable[[], AbstractContextManager[Any]]
    half: bool = False
    workers: int = 0


class Task(Protocol):
    """See above."""

    def transform(self, job: Job, splits: Splits, *, trains: bool) -> Callable[[Any, Any], Batch]: ...

    def collate(self, items: Sequence[Batch]) -> Batch: ...

    def losses(self, job: Job) -> Callable[[nn.Module, Batch], Tensor]: ...

    def evaluate(
        self, model: nn.Module, batches: Iterable[Batch], job: Job, report: Callable[[int], None] = ...
    ) -> Scores: ...


def find(name: Name) -> Task:
    """A task by its name."""
    from acmix_bench.tasks import classify, detect, segment

    found: dict[str, Task] = {"classify": classify, "segment": segment, "detect": detect}
    return found[name]
