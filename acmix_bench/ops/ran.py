"""Which kernels an operator's attention ran in, for the record of a timing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_seen: list[set[str]] = []  # of those who watch


@contextmanager
def watched() -> Iterator[set[str]]:
    """Collect the names of the kernels that run meanwhile, those of compiled code when it is traced."""
    names: set[str] = set()
    _seen.append(names)
    try:
        yield names
    finally:
        _seen[:] = [others for others in _seen if others is not names]


def is_watched() -> bool:
    """Whether anyone wants to know."""
    return bool(_seen)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def note(kernel: str) -> bool:
    """Tell who watches that a kernel runs. In compiled code this is called once, while it is traced."""
    for names in _seen:
        names.add(kernel)
    return True
