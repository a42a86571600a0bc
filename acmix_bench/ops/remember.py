"""Tensors that follow from sizes alone (masks, indices, positions), made once and kept within a bound of bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

# Training at many sizes asks for hundreds of sets; the largest, the index of the tiles of a map of 200x334, takes 4 MB.
KEPT_BYTES = 256 << 20


class Tensors:
    """Tensors by key. Beyond `limit` bytes, the one that has not been asked for the longest is dropped."""

    def __init__(self, limit: int = KEPT_BYTES) -> None:
        self.limit = limit
        self._kept: OrderedDict[Hashable, Tensor] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Tensor]) -> Tensor:
        """The tensor of a key, made where it is not kept; one that is larger than the limit is not kept."""
        kept = self._kept.pop(key, None)
        tensor = make() if kept is None else kept
        self._kept[key] = tensor  # as the last one
        while kept is None and self.bytes > self.limit:
            self._kept.popitem(last=False)
        return tensor

    @property
    def bytes(self) -> int:
        return sum(tensor.untyped_storage().nbytes() for tensor in self._kept.values())


KEPT = Tensors()


def constant(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Remember tensors that follow from sizes alone. They serve training even when inference asked first."""

    def made(*sizes: Any) -> Tensor:
        with torch.inference_mode(False):
            return make(*sizes)

    @wraps(make)
    def either(*sizes: Any) -> Tensor:
        if torch.compiler.is_compiling():
            return make(*sizes)
        return KEPT.get((make, *sizes), lambda: made(*sizes))

    return either
