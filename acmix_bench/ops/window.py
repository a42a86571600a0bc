"""ACmix on window attention: Swin's windows with their relative position bias, on shared projections.

Shape letters: B batch, C channels, N heads, d = C / N, H W map, L pixels of a window, V windows of a map.
"""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor, nn

from acmix_bench.ops import reference
from acmix_bench.ops.convolution import Axes, ConvolutionPath
from acmix_bench.ops.cost import STAGES
from acmix_bench.ops.mix import Kind, Mix, Paths
from acmix_bench.ops.remember import constant
from acmix_bench.ops.sdpa import attend, row_length
from acmix_bench.ops.shifted import Sides, mask_of, of_the_map, rolled, rolled_back, whole_windows


class WindowACmix(nn.Module):
    """Swin's window attention and the convolution path from one projection. Source: ACmix's released Swin.

    As released: the fully connected layer has a bias; the convolution runs over the whole map (rolled, in shifted
    blocks, so that it wraps round); the output projection belongs to the attention path alone, before the mix.
    A map that does not divide into windows is padded for the attention, after Swin. The convolution has a zero padding
    of its own in the paper's formula, so it runs over the map without what was added for the windows. With
    `paths="attention"` this is Swin's own window attention.

    Args:
        channels: C, divisible by `heads`.
        window_size: height and width of a window.
        axes: those of the convolution path, see `acmix_bench.ops.convolution.Axes`.

    Shape:
        (B, H, W, C), and by how many rows and columns its windows are shifted, to (B, H, W, C).
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        window_size: tuple[int, int],
        *,
        paths: Paths = "both",
        mix: Kind = "alpha-beta",
        **axes: Unpack[Axes],
    ) -> None:
        super().__init__()
        self.channels, self.heads, self.window_size = channels, heads, window_size
        self.paths, self.implementation = paths, axes.get("implementation", "auto")
        self.qkv = nn.Linear(channels, 3 * channels)
        if paths != "conv":
            rows, columns = window_size
            offsets = (2 * rows - 1) * (2 * columns - 1)
            self.relative_position_bias_table = nn.Parameter(torch.empty(offsets, heads))
            nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
            self.proj = nn.Linear(channels, channels)
        if paths != "attention":
            self.convolution = ConvolutionPath(channels // heads, 3 * heads, heads, bias=True, **axes)
        if paths == "both":
            self.mix = Mix(mix)

    def forward(self, x: Tensor, shift: Sides = (0, 0)) -> Tensor:
        height, width = x.shape[1:3]
        if self.paths == "conv":
            return rolled_back(self.convolution(self.qkv(rolled(x, shift))), shift)
        qkv = self.qkv(whole_windows(x, self.window_size, shift))
        attended = self.proj(self._attend(qkv, mask_of(qkv, self.window_size, shift)))
        if self.paths == "attention":
            return of_the_map(attended, height, width, shift)
        if qkv.shape[1:3] != x.shape[1:3]:
            attended, qkv = (rolled(of_the_map(t, height, width, shift), shift) for t in (attended, qkv))
        return rolled_back(self.mix(attended, self.convolution, qkv), shift)

    def _attend(self, qkv: Tensor, mask: Tensor | None) -> Tensor:
        bias_LSN = self.relative_position_bias_table[relative_positions(self.window_size, qkv.device)]
        bias = bias_LSN.permute(2, 0, 1).to(qkv.dtype).contiguous()
        if self.implementation != "reference":
            return window_attention(qkv, bias, mask, heads=self.heads, window_size=self.window_size)
        bias = bias[..., : bias.shape[1]]
        mask = None if mask is None else mask[..., : mask.shape[1]]
        return reference.window_attention(qkv, bias, mask, heads=self.heads, window_size=self.window_size)

    def macs(self, x: Tensor, shift: Sides = (0, 0)) -> dict[str, int]:
        """Multiply-adds of one image by stage. The output projection is the rest."""
        height, width, channels = x.shape[1:]
        pixels = height * width
        rows, columns = self.window_size
        padded = -(-height // rows) * rows * -(-width // columns) * columns
        attends = self.paths != "conv"
        macs = dict.fromkeys(STAGES, 0) | {
            "stage_1": 3 * channels**2 * (padded if attends else pixels),
            "attention": attends * 2 * rows * columns * channels * padded,
            "rest": attends * channels**2 * padded,
        }
        return macs | (self.convolution.cost(height, width) if self.paths != "attention" else {})


def window_attention(
    qkv: Tensor, bias: Tensor, mask: Tensor | None, *, heads: int, window_size: tuple[int, int]
) -> Tensor:
    """Attend within each window.

    Args:
        qkv: (B, H, W, 3C), whole windows, each of q, k and v head-major.
        bias: (N, L, S), added to the scores of every window, S being `row_length(L)`: what stands behind L is spare.
        mask: (V, L, S), added to those of window v of every map, or None.

    Returns:
        (B, H, W, C).
    """
    batch, height, width, channels3 = qkv.shape
    rows, columns = window_size
    y, x, pixels = height // rows, width // columns, rows * columns
    windows = qkv.reshape(batch, y, rows, x, columns, 3, heads, -1)
    # Windows and heads share one dimension where there is a mask, so that one mask serves the whole batch.
    q, k, v = windows.permute(5, 0, 1, 3, 6, 2, 4, 7).reshape(3, batch, y * x, heads, pixels, -1)
    if mask is None:
        every = bias[None, ..., :pixels].expand(batch * y * x, -1, -1, -1)
        out = attend(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), every)
    else:
        both = (mask[:, None] + bias).flatten(0, 1)
        every = both[None, ..., :pixels].expand(batch, -1, -1, -1)
        out = attend(q.flatten(1, 2), k.flatten(1, 2), v.flatten(1, 2), every)
    out = out.reshape(batch, y, x, heads, rows, columns, -1).permute(0, 1, 4, 2, 5, 3, 6)
    return out.reshape(batch, height, width, channels3 // 3)


@constant
def relative_positions(window_size: tuple[int, int], device: torch.device) -> Tensor:
    """(L, S): the row of the bias table for each query and key of a window (Swin, section 3.2), spare ones behind L."""
    rows, columns = window_size
    pixels = torch.arange(row_length(rows * columns), device=device).clamp(max=rows * columns - 1)
    y, x = pixels // columns, pixels % columns
    dy = y[: rows * columns, None] - y[None, :] + rows - 1
    dx = x[: rows * columns, None] - x[None, :] + columns - 1
    return dy * (2 * columns - 1) + dx
