"""Peak memory of a step: on a GPU by torch's counters, on the CPU the bytes of the tensors that are alive at once."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveMemory(TorchDispatchMode):
    """Adds up the storages that operations make, until they are released; `peak` is the most at one time, in bytes.

    Storages that are there before are not counted, and views and in-place results are none of their own. It is exact,
    the same every time, and blind to the scratch memory inside an operation.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = self._now = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with self:  # inference mode hands over whole composites; their parts are what takes memory
            decomposed = func.decompose(*args, **(kwargs or {}))
        if decomposed is not NotImplemented:
            return decomposed
        for storage in _storages((args, kwargs)):
            self._watch(storage, count=False)
        out = func(*args, **(kwargs or {}))
        for storage in _storages(out):
            self._watch(storage, count=True)
        self.peak = max(self.peak, self._now)
        return out

    def _watch(self, storage: torch.UntypedStorage, *, count: bool) -> None:
        key = storage._cdata
        if key not in self._known:
            size = storage.nbytes() if count else 0
            self._known.add(key)
            self._now += size
            weakref.finalize(storage, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._now -= size


def peaks_of(
    step: Callable[[], None], release: Callable[[], None], device: torch.device, *, compiles: bool
) -> dict[str, int | None]:
    """Most memory that one more step takes, above what was held before: `peak_bytes`, None where torch does not tell.

    On a GPU that is what tensors hold, with the workspaces of cuDNN's algorithms; beside it stands `reserved_bytes`,
    which torch takes from the driver for them, in whole blocks. On the CPU what an operation takes for itself is not
    seen, and nothing at all of compiled code.

    Args:
        release: frees what a step leaves behind.
    """
    release()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()  # else what is reserved already is taken from, and nothing is added to it
        torch.cuda.reset_peak_memory_stats(device)
        allocated, reserved = torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device)
        step()
        return {
            "peak_bytes": torch.cuda.max_memory_allocated(device) - allocated,
            "reserved_bytes": torch.cuda.max_memory_reserved(device) - reserved,
        }
    if device.type != "cpu" or compiles:
        return {"peak_bytes": None}
    with LiveMemory() as memory:
        step()
    release()
    return {"peak_bytes": memory.peak}


def _storages(tree: Any) -> list[torch.UntypedStorage]:
    return [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
