"""torch's scaled_dot_product_attention, given what its CUDA kernels take without a copy.

- The memory-efficient kernel copies a mask whose strides are no multiples of 8 numbers (`pad_bias` in torch's
  transformers/attention.cpp), and does so after the mask is expanded over the batch. So masks are made with rows of a
  multiple of 8, of which the last few are spare: `row_length` says how long, `aligned` makes such a mask.
- cuDNN's kernel, which torch prefers for half types, gives NaN for the queries' gradients under a mask at some lengths
  (64, 192, 320 ... keys, torch 2.11: https://github.com/pytorch/pytorch/issues/196678). It is left out under a mask.
- Batch and heads are dimensions of the grid of its blocks, of which CUDA has 65,535 at most; beyond, another kernel
  runs. So `attend` makes several calls.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from acmix_bench.ops import ran

ROW = 8  # numbers
UNDER_A_MASK = [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
MOST_BLOCKS = 65_535  # of sequences times heads in a call


def row_length(keys: int) -> int:
    """Numbers in a row of a mask for so many keys, the spare ones at its end included."""
    return -(-keys // ROW) * ROW


def aligned(mask: Tensor) -> Tensor:
    """(..., S): the same mask, in rows of `row_length`."""
    keys = mask.shape[-1]
    return F.pad(mask, (0, row_length(keys) - keys))[..., :keys]


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(d) + mask) v.

    Args:
        query: (B, N, L, d); `key` and `value` (B, N, S, d).
        mask: (L, S), or (B, N, L, S), aligned.

    Returns:
        (B, N, L, d).
    """
    with _without_cudnn(query, mask):
        _note(query, key, value, mask)
        most = max(1, MOST_BLOCKS // query.shape[1])
        if len(query) <= most:
            return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        parts = zip(query.split(most), key.split(most), value.split(most), strict=True)
        masks = [mask] * -(-len(query) // most) if mask is None or mask.ndim == 2 else mask.split(most)
        return torch.cat(
            [F.scaled_dot_product_attention(*part, attn_mask=one) for part, one in zip(parts, masks, strict=True)]
        )


def _without_cudnn(query: Tensor, mask: Tensor | None) -> AbstractContextManager[Any]:
    return nullcontext() if mask is None or query.device.type != "cuda" else sdpa_kernel(UNDER_A_MASK)


def _note(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> None:
    """Tell who watches which of its kernels torch takes; compiled code chooses when it runs."""
    if torch.compiler.is_compiling():
        ran.note("scaled_dot_product_attention")
    elif ran.is_watched():
        chosen = SDPBackend(torch._fused_sdp_choice(query, key, value, attn_mask=mask)).name.lower()
        ran.note(f"scaled_dot_product_attention: {chosen}")
