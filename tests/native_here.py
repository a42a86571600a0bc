"""Whether the operator in C++ can be built here, and how close it must come."""

from __future__ import annotations

import pytest
import torch
from full import FULL
from torch import Tensor

from acmix_bench.ops.native import build

try:
    build.instructions()
    MISSING = ""
except build.CannotBuild as error:
    MISSING = str(error)
needs_compiler = pytest.mark.skipif(bool(MISSING), reason=MISSING)

CLOSE = {torch.float32: 1e-5, torch.float64: 1e-11}
# Each takes its time to build; the others are tested by `nox -s full`.
WIDTHS = [(torch.float32, 16), (torch.float32, 8), (torch.float64, 8)]
WIDTHS += [(torch.float32, 4), (torch.float64, 4), (torch.float64, 2)] if FULL else []
EXAMPLES = 50 if FULL else 6


def served(dtype: torch.dtype, lanes: int) -> bool:
    """Whether this CPU has vectors of so many."""
    return not MISSING and lanes * dtype.itemsize <= build.WIDTHS[build.instructions()]


SERVED = [pytest.param(*width, id=f"{width[0]}-{width[1]}"[6:]) for width in WIDTHS if served(*width)]


def apart(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, relative to the largest value."""
    return ((ours.double() - theirs.double()).abs().max() / theirs.abs().max().clamp(min=1e-30)).item()
