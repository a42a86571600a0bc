"""Reflection padding: what it needs of a map, and where a pixel outside of it comes from."""

from __future__ import annotations

from torch import Tensor

from acmix_bench.errors import ShapeError


class MapTooSmall(ShapeError):
    """A map that is not larger than its reflection padding."""


def check_window(height: int, width: int, window: int, *, is_axis: bool = True) -> None:
    """Reflection padding needs a map larger than the padding on each side.

    Args:
        is_axis: whether the window can be chosen; a backbone that sets its own has no smaller one.

    Raises:
        MapTooSmall: naming both numbers.
    """
    pad = window // 2
    if min(height, width) <= pad:
        smaller = f"window {2 * min(height, width) - 1} or less, or " if is_axis else ""
        raise MapTooSmall(
            f"a {height}x{width} map is too small for attention window {window}: reflection padding by "
            f"{pad} needs at least {pad + 1} pixels each way; use {smaller}a larger image"
        )


def reflect(coordinate: Tensor, size: int) -> Tensor:
    """Fold coordinates in [-(size - 1), 2 (size - 1)] back into the map, the edge pixel not repeated."""
    return (size - 1) - ((size - 1) - coordinate.abs()).abs()
