"""The oracle: each path straight from its formula, slow and literal. Every fast path is tested against this.

It also stands for the formulation that was released with the paper: everything unfolded, the position unfolded
twice, products as multiply-and-sum. `implementation=reference` runs it.

Shape letters: B batch, C channels, N heads, d = C / N, a window, k kernel, H W map, h w query grid.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from acmix_bench.ops.reflection import check_window


def local_attention(
    q: Tensor, k: Tensor, v: Tensor, position: Tensor, *, heads: int, window: int, stride: int
) -> Tensor:
    """score(i, j) = q_i . (k_j + p_i - p_j) / sqrt(d), softmax over the window of i, weighted sum of v.

    Args and result as `acmix_bench.ops.attention.local_attention`.
    """
    batch, height, width, channels = q.shape
    head_dim = channels // heads
    check_window(height, width, window)
    q_BNdhw = _head_maps(q, heads)[..., ::stride, ::stride]
    k_BNdahw = _windows(_head_maps(k, heads), window, stride)
    v_BNdahw = _windows(_head_maps(v, heads), window, stride)
    p = position.permute(2, 0, 1)[None, None]
    p_dahw = _windows(p, window, stride)
    p_dhw = p[..., ::stride, ::stride]

    relative = k_BNdahw + p_dhw[:, :, :, None] - p_dahw
    score_BNahw = (q_BNdhw[:, :, :, None] * relative).sum(2) / head_dim**0.5
    weight_BNahw = score_BNahw.softmax(2)
    out_BNdhw = (weight_BNahw[:, :, None] * v_BNdahw).sum(3)
    return out_BNdhw.flatten(1, 2).permute(0, 2, 3, 1)


def convolution_path(
    maps: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    kernel: Tensor | None,
    *,
    outputs: int,
    kernel_size: int,
    stride: int,
) -> Tensor:
    """The fully connected layer, then the grouped convolution, or without a kernel the k^2 shifts and their sum.

    Args and result as `acmix_bench.ops.convolution.convolution_path`.
    """
    batch, height, width, channels = maps.shape
    inputs = weight.shape[1]
    groups = channels // inputs
    values = maps.permute(0, 3, 1, 2).reshape(batch, inputs, groups * height, width)
    f_Bmdhw = F.conv2d(values, weight[:, :, None, None], bias).reshape(batch, -1, groups, height, width)
    if kernel is not None:
        f = f_Bmdhw.transpose(1, 2).flatten(1, 2)
        return F.conv2d(f, kernel, stride=stride, padding=kernel_size // 2, groups=groups).permute(0, 2, 3, 1)
    total = f_Bmdhw.new_zeros(f_Bmdhw[:, 0].shape)
    for tap in range(kernel_size**2):
        dy, dx = tap // kernel_size - kernel_size // 2, tap % kernel_size - kernel_size // 2
        total = total + _moved(f_Bmdhw[:, tap], dy, dx)
    return total[..., ::stride, ::stride].repeat_interleave(outputs, dim=1).permute(0, 2, 3, 1)


def window_attention(
    qkv: Tensor, bias: Tensor, mask: Tensor | None, *, heads: int, window_size: tuple[int, int]
) -> Tensor:
    """Window by window: q . k / sqrt(d) plus the bias, plus the window's mask, softmax, weighted sum of v.

    Args and result as `acmix_bench.ops.window.window_attention`.
    """
    batch, height, width, channels3 = qkv.shape
    (rows, columns), head_dim = window_size, channels3 // 3 // heads
    out = qkv.new_empty(batch, height, width, channels3 // 3)
    corners = [(y, x) for y in range(0, height, rows) for x in range(0, width, columns)]
    for number, (y, x) in enumerate(corners):
        window = qkv[:, y : y + rows, x : x + columns].reshape(batch, rows * columns, 3, heads, head_dim)
        q, k, v = window.permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(-1, -2)) / head_dim**0.5 + bias
        if mask is not None:
            scores = scores + mask[number]
        attended = (scores.softmax(-1) @ v).transpose(1, 2)
        out[:, y : y + rows, x : x + columns] = attended.reshape(batch, rows, columns, -1)
    return out


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v over (B, N, tokens, d)."""
    return (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1) @ v


def convolution_by_taps(x: Tensor, weight: Tensor) -> Tensor:
    """The paper's first identity (section 3.1): a k x k convolution is k^2 1x1 convolutions, shifted and added.

    Args:
        x: (B, C_in, H, W).
        weight: (C_out, C_in, k, k), k odd.

    Returns:
        (B, C_out, H, W), equal to the convolution with zero padding k // 2 and stride 1.
    """
    k = weight.shape[-1]
    out = x.new_zeros(x.shape[0], weight.shape[0], *x.shape[-2:])
    for p in range(k):
        for q in range(k):
            stage_1 = torch.einsum("oc,bchw->bohw", weight[:, :, p, q], x)
            out = out + _moved(stage_1, p - k // 2, q - k // 2)
    return out


def attention_by_stages(x: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor, *, heads: int, window: int) -> Tensor:
    """The paper's second identity (section 3.2): self-attention is three 1x1 convolutions, then aggregation.

    Positions are left out here, as in the paper's equations 8 to 10; windows are reflection padded.

    Args:
        x: (B, C_in, H, W).
        w_q, w_k, w_v: (C, C_in).

    Returns:
        (B, C, H, W), equal to `attention_by_pixels`.
    """
    q, k, v = (torch.einsum("oc,bchw->bhwo", w, x) for w in (w_q, w_k, w_v))
    nowhere = q.new_zeros(*q.shape[1:3], q.shape[-1] // heads)
    return local_attention(q, k, v, nowhere, heads=heads, window=window, stride=1).permute(0, 3, 1, 2)


def attention_by_pixels(x: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor, *, heads: int, window: int) -> Tensor:
    """Self-attention before it is taken apart: for each pixel and head, project the window and attend (equation 4).

    Args and result as `attention_by_stages`.
    """
    batch, _, height, width = x.shape
    channels = w_q.shape[0]
    d, pad = channels // heads, window // 2
    padded = F.pad(x, [pad] * 4, mode="reflect")
    out = x.new_zeros(batch, channels, height, width)
    for y in range(height):
        for x_ in range(width):
            pixel = x[:, :, y, x_]
            around = padded[:, :, y : y + window, x_ : x_ + window].flatten(2)
            for n in range(heads):
                rows = slice(n * d, (n + 1) * d)
                query = pixel @ w_q[rows].T
                keys = w_k[rows] @ around
                values = w_v[rows] @ around
                weight = (torch.einsum("bd,bda->ba", query, keys) / d**0.5).softmax(-1)
                out[:, rows, y, x_] = torch.einsum("ba,bda->bd", weight, values)
    return out


def _head_maps(x: Tensor, heads: int) -> Tensor:
    """(B, H, W, C) to (B, N, d, H, W)."""
    return x.permute(0, 3, 1, 2).unflatten(1, (heads, -1))


def _windows(x: Tensor, window: int, stride: int) -> Tensor:
    """(B, N, d, H, W) to (B, N, d, window^2, h, w), reflection padded."""
    batch, heads, head_dim, height, width = x.shape
    padded = F.pad(x.flatten(1, 2), [window // 2] * 4, mode="reflect")
    unfolded = F.unfold(padded, window, stride=stride)
    h, w = -(-height // stride), -(-width // stride)
    return unfolded.reshape(batch, heads, head_dim, window**2, h, w)


def _moved(x: Tensor, dy: int, dx: int) -> Tensor:
    """The map whose pixel (y, x) is the old (y + dy, x + dx), zero outside."""
    height, width = x.shape[-2:]
    padded = F.pad(x, [abs(dx), abs(dx), abs(dy), abs(dy)])
    return padded[..., abs(dy) + dy : abs(dy) + dy + height, abs(dx) + dx : abs(dx) + dx + width]
