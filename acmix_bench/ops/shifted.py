"""Swin's windows on a map of any size: padded to whole windows, then rolled, so that other windows meet (section 3.2).

The order is that of Swin's code for dense tasks. A map that does not divide into windows gets zeros at its right and
bottom before it is rolled; then what the roll brings together from opposite edges lies in the windows that the mask
keeps apart. (timm rolls first: there the last windows of a padded map mix opposite edges.)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from acmix_bench.ops.remember import constant
from acmix_bench.ops.sdpa import row_length

Sides = tuple[int, int]  # rows, columns


def shift_of(height: int, width: int, window: Sides) -> Sides:
    """Half a window, but none along a side that is within one window."""
    rows, columns = (edge // 2 if size > edge else 0 for size, edge in zip((height, width), window, strict=True))
    return rows, columns


def rolled(x: Tensor, shift: Sides) -> Tensor:
    """(B, H, W, C), its first rows and columns brought behind its last ones."""
    return torch.roll(x, (-shift[0], -shift[1]), dims=(1, 2)) if any(shift) else x


def rolled_back(x: Tensor, shift: Sides) -> Tensor:
    """The inverse of `rolled`."""
    return rolled(x, (-shift[0], -shift[1]))


def whole_windows(x: Tensor, window: Sides, shift: Sides) -> Tensor:
    """(B, H, W, C) to the padded and rolled map (B, H', W', C)."""
    height, width = x.shape[1:3]
    return rolled(F.pad(x, (0, 0, 0, -width % window[1], 0, -height % window[0])), shift)


def of_the_map(x: Tensor, height: int, width: int, shift: Sides) -> Tensor:
    """The inverse of `whole_windows`."""
    return rolled_back(x, shift)[:, :height, :width]


def mask_of(x: Tensor, window: Sides, shift: Sides) -> Tensor | None:
    """What keeps apart the parts of each window of a padded and rolled map, or None where no roll was.

    Returns:
        (V, L, S), S being `row_length(L)`: what stands behind L in a row is spare.
    """
    return _mask(*x.shape[1:3], window, shift, x.dtype, x.device) if any(shift) else None


@constant
def _mask(height: int, width: int, window: Sides, shift: Sides, dtype: torch.dtype, device: torch.device) -> Tensor:
    """0 between pixels that were neighbours before the roll, -100 between others."""
    from_rows, from_columns = (
        (torch.arange(size, device=device) >= size - by).long() for size, by in zip((height, width), shift, strict=True)
    )
    part = from_rows[:, None] * 2 + from_columns
    part_VL = part.unflatten(0, (-1, window[0])).unflatten(2, (-1, window[1])).transpose(1, 2).flatten(2).flatten(0, 1)
    apart = part_VL[:, :, None] != part_VL[:, None, :]
    mask = torch.zeros(apart.shape, dtype=dtype, device=device).masked_fill(apart, -100.0)
    return F.pad(mask, (0, row_length(mask.shape[2]) - mask.shape[2]))
