"""Local attention in NATTEN (natten.org, MIT license), an optional package of CUDA kernels for neighbourhoods.

Its `na2d` moves a window that would cross an edge back into the map. So it gets the padded map of `ops.padded`, on
which the windows of the map's own pixels cross none, and what it gives for the padding is cropped. A stride computes
every pixel, and keeps some. Written after NATTEN's documentation (0.21); not run yet.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor

from acmix_bench.errors import ShapeError
from acmix_bench.ops import ran
from acmix_bench.ops.padded import attend_densely, padded_maps

STEP = 8  # that the channels of a head are a multiple of, in every kernel of NATTEN's


def why_not(device: str, dtype: torch.dtype, *, trains: bool = False) -> str | None:
    """Why NATTEN does not serve a case, in a few words; None where it does."""
    if find_spec("natten") is None:
        return "NATTEN is not installed: natten.org has a wheel for each version of torch and CUDA"
    if device != "cuda":
        return f"NATTEN's kernels run on CUDA, not on {device}"
    if dtype == torch.float64:
        return "NATTEN's kernels have no float64"
    return None


def local_attention(
    q: Tensor, k: Tensor, v: Tensor, position: Tensor, *, heads: int, window: int, stride: int
) -> Tensor:
    """As `acmix_bench.ops.attention.local_attention`.

    In float64, which no kernel of it takes, the same windows are computed densely: for checks alone.

    Raises:
        ShapeError: where NATTEN does not serve the case.
    """
    key, value = padded_maps(k, v, position, heads=heads, window=window)
    if q.is_meta or q.dtype == torch.float64:
        return attend_densely(q[:, ::stride, ::stride], key, value, heads=heads, window=window, stride=stride)
    reason = why_not(q.device.type, q.dtype) or ("its windows begin at 3" if window == 1 else None)
    if reason:
        raise ShapeError(f"implementation=natten does not serve this: {reason}")
    from natten import na2d

    ran.note("natten.na2d")
    pad = window // 2
    query = F.pad(q, (0, 0, pad, pad, pad, pad))  # what the padding asks for is cropped, so zeros do
    spare = -(q.shape[-1] // heads) % STEP
    query, key, value = (F.pad(x.unflatten(-1, (heads, -1)), (0, spare)) for x in (query, key, value))
    depth = q.shape[-1] // heads
    out = na2d(query, key, value, kernel_size=window, scale=depth**-0.5)  # (B, H + 2P, W + 2P, N, d)
    inner = out[:, pad : pad + q.shape[1] : stride, pad : pad + q.shape[2] : stride, :, :depth]
    return inner.flatten(-2)
