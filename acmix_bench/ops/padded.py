"""Local attention on a map whose keys and values are reflection padded: what flex_attention and NATTEN take.

On the padded map a query's window never meets an edge, so a window is a plain square of keys, none of them twice.

Shape letters: B batch, C channels, N heads, d = C / N, H W map, P padding, h w query grid.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from acmix_bench.ops.reflection import check_window, reflect
from acmix_bench.ops.remember import constant


def padded_maps(k: Tensor, v: Tensor, position: Tensor, *, heads: int, window: int) -> tuple[Tensor, Tensor]:
    """Keys without their position, and values, each (B, H + 2P, W + 2P, C) where window = 2P + 1.

    Args:
        k, v: (B, H, W, C), channels head-major.
        position: (H, W, d).
    """
    height, width = k.shape[1:3]
    check_window(height, width, window)
    pixels = _padded_pixels(height, width, window // 2, k.device)
    sides = (height + window - 1, width + window - 1)
    key = (k.unflatten(-1, (heads, -1)) - position[:, :, None]).flatten(-2)
    padded_k, padded_v = (x.flatten(1, 2).index_select(1, pixels).unflatten(1, sides) for x in (key, v))
    return padded_k, padded_v


@constant
def _padded_pixels(height: int, width: int, pad: int, device: torch.device) -> Tensor:
    """((H + 2P) (W + 2P),): the pixel of the map that stands at each pixel of the padded one."""
    rows, columns = (reflect(torch.arange(-pad, size + pad, device=device), size) for size in (height, width))
    return (rows[:, None] * width + columns).flatten().int()


@constant
def window_mask(height: int, width: int, window: int, stride: int, device: torch.device) -> Tensor:
    """(h w, (H + 2P) (W + 2P)): whether a key stands in the window of a query."""
    inside = []
    for size in (height, width):
        start = torch.arange(0, size, stride, device=device)[:, None]
        key = torch.arange(size + window - 1, device=device)
        inside.append((key >= start) & (key < start + window))
    rows, columns = inside
    return (rows[:, None, :, None] & columns[None, :, None, :]).flatten(2).flatten(0, 1)


def attend_densely(query: Tensor, key: Tensor, value: Tensor, *, heads: int, window: int, stride: int) -> Tensor:
    """Every query against every key of the padded map, in float64: how padding and window are checked by themselves.

    Args:
        query: (B, h, w, C); `key` and `value` as `padded_maps` gives them.

    Returns:
        (B, h, w, C).
    """
    (height, width), (h, w) = (size - window + 1 for size in key.shape[1:3]), query.shape[1:3]
    mask = window_mask(height, width, window, stride, query.device)
    q, k, v = (x.flatten(1, 2).unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2).unflatten(1, (h, w))
