"""The images of each update. What is drawn for an image depends on seed, epoch and image alone, and the order of an
epoch on seed and epoch: so training goes on anywhere, with any number of workers, as if it had never stopped.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map
from torch.utils.data import DataLoader, Dataset, TensorDataset

from acmix_bench.errors import UserError
from acmix_bench.tasks import Batch

# Epoch, image, and which of its draws where augmentation is repeated.
Key = tuple[int, int, int]


def draw_from(*numbers: int) -> None:
    """Let all random numbers of this process follow from some numbers."""
    first, second = np.random.SeedSequence(numbers).generate_state(2)
    random.seed(int(first))
    np.random.seed(first)
    torch.manual_seed(int(first) << 32 | int(second))


def order_of(count: int, seed: int, epoch: int, repeats: int = 1) -> list[Key]:
    """The images of an epoch, as many as there are: each once, or a share of them `repeats` times."""
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0]))
    shuffled = torch.randperm(count, generator=generator).tolist()
    return [(epoch, image, draw) for image in shuffled for draw in range(repeats)][:count]


class Drawn(Dataset[Any]):
    """Images and targets as a model takes them, a batch at a time.

    A picture that cannot be read is given as its error, which a worker could not raise in one line.
    """

    def __init__(
        self,
        images: Dataset[Any],
        transform: Callable[[Any, Any], Batch],
        collate: Callable[[Sequence[Batch]], Batch],
        seed: int | None = None,
    ) -> None:
        self._images, self._transform, self._collate, self._seed = images, transform, collate, seed

    def __getitems__(self, keys: Sequence[Key]) -> Batch | UserError:
        if isinstance(self._images, TensorDataset):
            images, labels = self._images[[image for _, image, _ in keys]]
            return images, labels
        try:
            return self._collate([self._one(key) for key in keys])
        except UserError as error:
            return error

    def _one(self, key: Key) -> Batch:
        image, target = self._images[key[1]]
        if self._seed is not None:
            draw_from(self._seed, *key)
        return self._transform(image, target)


def loaded(drawn: Drawn, batches: Iterator[list[Key]] | list[list[Key]], workers: int, pinned: bool) -> Iterator[Batch]:
    """The batches, read by worker processes.

    Raises:
        UserError: for a picture that cannot be read.
    """
    loader: DataLoader[Any] = DataLoader(
        drawn,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_as_it_is,
        pin_memory=pinned,
        worker_init_fn=_until_told,
    )
    for batch in loader:
        if isinstance(batch, UserError):
            raise batch
        yield batch[0], batch[1]


def moved(batch: Any, weight: Tensor, layout: torch.memory_format = torch.contiguous_format) -> Any:
    """A batch where the weights are: images in their number type and a layout, all else as it is."""
    images, targets = batch

    def image(one: Tensor) -> Tensor:
        if one.ndim == 4:
            return one.to(weight.device, weight.dtype, non_blocking=True, memory_format=layout)
        return one.to(weight.device, weight.dtype, non_blocking=True)

    def target(one: Any) -> Any:
        return one.to(weight.device, non_blocking=True) if isinstance(one, Tensor) else one

    return tree_map(image, images), tree_map(target, targets)


def _until_told(_: int) -> None:
    """A SIGTERM to all processes is for the one that trains, which ends its workers when its checkpoint is written."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _as_it_is(batch: Any) -> Any:
    return batch


def in_turns(count: int, batch: int, rank: int = 0, world: int = 1) -> list[list[Key]]:
    """Images in their order, for one of several processes: each is seen by one of them."""
    mine = range(rank, count, world)
    return [[(0, image, 0) for image in mine[first : first + batch]] for first in range(0, len(mine), batch)]


def parts_of(order: Sequence[Key], update: int, batch: int, parts: int, rank: int, world: int) -> list[list[Key]]:
    """An update's images for one of several processes, in as many parts as it has passes."""
    size = batch // (parts * world)
    first = update * batch
    return [list(order[start : start + size]) for start in range(first + rank * size, first + batch, world * size)]
