"""The convolution path: a light fully connected layer, then k^2 shifts and their sum.

Both steps are linear with nothing between them, so they can run as one grouped convolution with 3N maps in and
N out per group. That is used where it needs no more multiply-adds than the two apart.

Shape letters: B batch, C channels, N heads, d = C / N, k kernel, H W map, h w output grid, i = 3N, m = k^2.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def shift_kernel(heads: int, head_dim: int, kernel_size: int) -> Tensor:
    """The grouped convolution's weights that move map m of every group by tap (m // k, m % k).

    Returns:
        (C, k^2, k, k), one-hot, the same for all N outputs of a group.
    """
    taps = kernel_size**2
    one_hot = torch.eye(taps).reshape(taps, kernel_size, kernel_size)
    return one_hot.repeat(heads * head_dim, 1, 1, 1)


def convolution_path(
    qkv: Tensor, weight: Tensor, kernel: Tensor | None, *, heads: int, kernel_size: int, stride: int
) -> Tensor:
    """Run the convolution path. Source: ACmix, sections 3.2 and 4; the layer is 3N x k^2, as its author confirmed.

    Args:
        qkv: (B, H, W, 3C), q, k and v side by side, each head-major (n * d + e).
        weight: (k^2, 3N), the fully connected layer.
        kernel: (C, k^2, k, k), the grouped convolution's weights, or None to shift tensors instead.

    Returns:
        (B, C, h, w), channels e-major (e * N + n).
    """
    maps_BHWdi = qkv.unflatten(-1, (3 * heads, -1)).transpose(-1, -2)
    if kernel is None:
        return shift_and_sum(F.linear(maps_BHWdi, weight), heads=heads, kernel_size=kernel_size, stride=stride)
    if folding_pays(heads, kernel_size):
        return _grouped(maps_BHWdi, fold(weight, kernel), stride=stride)
    return _grouped(F.linear(maps_BHWdi, weight), kernel, stride=stride)


def folding_pays(heads: int, kernel_size: int) -> bool:
    """Whether one folded convolution (3N k^2 C multiply-adds a pixel) needs no more than the two (3 k^2 C + k^4 C)."""
    return 3 * heads <= 3 + kernel_size**2


def fold(weight: Tensor, kernel: Tensor) -> Tensor:
    """Fold the fully connected layer (k^2, 3N) into the grouped kernel (C, k^2, k, k): (C, 3N, k, k)."""
    return torch.einsum("omyx,mi->oiyx", kernel, weight)


def shift_and_sum(maps_BHWdm: Tensor, *, heads: int, kernel_size: int, stride: int) -> Tensor:
    """Move map m of every group by its tap and add them: (B, C, h, w), the same sum for every head of a group."""
    height, width = maps_BHWdm.shape[1:3]
    padded = F.pad(maps_BHWdm, [0, 0, 0, 0] + [kernel_size // 2] * 4)
    taps = [divmod(m, kernel_size) for m in range(kernel_size**2)]
    moved = [padded[:, dy : dy + height : stride, dx : dx + width : stride, :, m] for m, (dy, dx) in enumerate(taps)]
    total_BhwdN = sum(moved[1:], moved[0])[..., None].expand(*moved[0].shape, heads)
    return total_BhwdN.flatten(-2).permute(0, 3, 1, 2)


def _grouped(maps_BHWdc: Tensor, kernel: Tensor, *, stride: int) -> Tensor:
    """Convolve each of the d groups of maps, channels-last, with zero padding k // 2."""
    groups = maps_BHWdc.shape[3]
    x = maps_BHWdc.flatten(-2).permute(0, 3, 1, 2)
    return F.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2, groups=groups)
