"""Local attention in torch's flex_attention: one kernel, compiled for the window, without a gather or a mask in memory.

It takes the padded map of `ops.padded`. Which key is in whose window is arithmetic on their numbers, done in the
kernel; a block mask says which blocks of 128 keys a block of 128 queries looks at.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from acmix_bench.errors import ShapeError
from acmix_bench.ops import ran
from acmix_bench.ops.padded import attend_densely, padded_maps

BLOCK = 128  # queries, and keys
LEAST_DEPTH = 16  # channels of a head that a matrix product of the GPU's kernel takes
KERNELS = 64  # that a process may compile: one for each size of map, stride, type, and with gradients another


def why_not(device: str, dtype: torch.dtype, *, trains: bool) -> str | None:
    """Why flex_attention does not serve a case, in a few words; None where it does."""
    if device not in ("cpu", "cuda", "xpu"):
        return f"torch's flex_attention does not run on {device}"
    if dtype == torch.float64:
        return "torch's flex_attention has no float64"
    if device == "cpu" and trains:
        return "torch's flex_attention has no backward pass on the CPU"
    if device == "cpu" and not (shutil.which("g++") or shutil.which("clang++")):
        return "torch.compile found no C++ compiler (g++ or clang++)"
    return None


def local_attention(
    q: Tensor, k: Tensor, v: Tensor, position: Tensor, *, heads: int, window: int, stride: int
) -> Tensor:
    """As `acmix_bench.ops.attention.local_attention`.

    In float64, which no kernel of it takes, the same windows are computed densely: for checks alone.

    Raises:
        ShapeError: where flex_attention does not serve the case.
    """
    height, width = q.shape[1:3]
    query = q[:, ::stride, ::stride]
    key, value = padded_maps(k, v, position, heads=heads, window=window)
    if q.is_meta or q.dtype == torch.float64:
        return attend_densely(query, key, value, heads=heads, window=window, stride=stride)
    trains = torch.is_grad_enabled() and any(x.requires_grad for x in (query, key, value))
    if reason := why_not(q.device.type, q.dtype, trains=trains):
        raise ShapeError(f"implementation=flex does not serve this: {reason}")
    ran.note("flex_attention")
    q_BNLd, k_BNSd, v_BNSd = (x.flatten(1, 2).unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    out_BNLd = _run(q_BNLd, k_BNSd, v_BNSd, block_mask(height, width, window, stride, q.device))
    return out_BNLd.transpose(1, 2).flatten(2).unflatten(1, query.shape[1:3])


def _run(query: Tensor, key: Tensor, value: Tensor, blocks: Any) -> Tensor:
    """Call the compiled kernel; thin heads get channels of zeros, which add nothing to a score."""
    depth = query.shape[-1]
    spare = max(0, LEAST_DEPTH - depth) if query.device.type != "cpu" else 0
    if spare:
        query, key, value = (F.pad(x, (0, spare)) for x in (query, key, value))
    out: Tensor = _compiled()(query, key, value, block_mask=blocks, scale=depth**-0.5)
    return out[..., :depth]


@cache
def _compiled() -> Callable[..., Any]:
    from torch import _dynamo
    from torch.nn.attention.flex_attention import flex_attention

    # At its limit, 8, torch would go on without a kernel and hold all scores.
    _dynamo.config.recompile_limit = max(_dynamo.config.recompile_limit, KERNELS)
    return torch.compile(flex_attention, dynamic=False, fullgraph=True)


@cache
def block_mask(height: int, width: int, window: int, stride: int, device: torch.device) -> Any:
    """The windows of the queries of a map, as flex_attention takes them.

    Queries and keys are numbered row by row. A block of queries looks at all blocks of keys from the first key of its
    first window to the last one of its last.
    """
    from torch.nn.attention.flex_attention import BlockMask

    h, w = -(-height // stride), -(-width // stride)
    across = width + window - 1
    queries, keys = h * w, (height + window - 1) * across

    def is_inside(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        y = key // across - query // w * stride
        x = key % across - query % w * stride
        return (y >= 0) & (y < window) & (x >= 0) & (x < window)

    with torch.inference_mode(False):
        first = torch.arange(0, queries, BLOCK, device=device)
        last = (first + BLOCK - 1).clamp(max=queries - 1)
        one_row = first // w == last // w
        left = torch.where(one_row, first % w, 0) * stride
        right = torch.where(one_row, last % w, w - 1) * stride + window - 1
        begin = (first // w * stride * across + left) // BLOCK
        end = ((last // w * stride + window - 1) * across + right) // BLOCK + 1
        numbers = begin[:, None] + torch.arange(-(-keys // BLOCK), device=device)
        return BlockMask.from_kv_blocks(
            (end - begin).int()[None, None],
            numbers.clamp(max=-(-keys // BLOCK) - 1).int()[None, None],
            BLOCK_SIZE=BLOCK,
            mask_mod=is_inside,
            seq_lengths=(queries, keys),
        )
