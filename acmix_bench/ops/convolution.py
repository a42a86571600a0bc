"""The convolution path: a light fully connected layer, then k^2 shifts and their sum.

Both steps are linear with nothing between them, so they can run as one grouped convolution with i maps in and N out
per group. That is used where it needs no more multiply-adds than the two apart.

Shape letters: B batch, C channels, d groups, N = C / d outputs a group, i input maps a group (3N where q, k and v have
C channels each), k kernel, m = k^2, H W map, h w output grid.
"""

from __future__ import annotations

from typing import Literal, TypedDict, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from acmix_bench.errors import ShapeError
from acmix_bench.ops import reference


class Axes(TypedDict, total=False):
    """The axes of the convolution path, which every formulation of ACmix takes as keyword arguments.

    `shift`: move the taps by a grouped convolution, or by slicing and adding. `kernel`: whether the grouped convolution
    trains; a fixed one is a buffer, not a parameter. `init`: start it as the shift, or at random (Kaiming).
    `kernel_size`: k, odd. `implementation`: production, or the formulas as they stand.
    """

    kernel_size: int
    shift: Literal["tensor", "group"]
    kernel: Literal["fixed", "learned"]
    init: Literal["shift", "random"]
    implementation: Literal["production", "reference"]


class ConvolutionPath(nn.Module):
    """The path as a layer. Source: ACmix, sections 3.2 and 4; the author has confirmed i x k^2 for the layer's size.

    Args:
        groups: d.
        maps: i, the values of one group and pixel that the fully connected layer mixes.
        outputs: N, channels that each group gives.
        bias: whether the fully connected layer has one. The grouped convolution has none, by decision.
        axes: see `Axes`.

    Shape:
        (B, H, W, d, i) to (B, C, h, w), channels e-major (e * N + n), channels-last in memory in production.

    Raises:
        ShapeError: for an even kernel.
    """

    def __init__(
        self, groups: int, maps: int, outputs: int, *, stride: int = 1, bias: bool = False, **axes: Unpack[Axes]
    ) -> None:
        super().__init__()
        self.groups, self.maps, self.outputs, self.stride = groups, maps, outputs, stride
        self.kernel_size = axes.get("kernel_size", 3)
        self.shift, self.init = axes.get("shift", "group"), axes.get("init", "shift")
        self.implementation = axes.get("implementation", "production")
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise ShapeError(f"the kernel size is {self.kernel_size}, but must be odd: it is centred on a pixel")
        self.fully_connected = nn.Linear(maps, self.kernel_size**2, bias=bias)
        if self.shift == "group":
            weights = torch.empty(groups * outputs, self.kernel_size**2, self.kernel_size, self.kernel_size)
            if axes.get("kernel", "learned") == "learned":
                self.kernel = nn.Parameter(weights)
            else:
                self.register_buffer("kernel", weights)
        self.reset()

    def reset(self) -> None:
        """Set the grouped kernel to its chosen start."""
        if self.shift == "tensor":
            return
        with torch.no_grad():
            if self.init == "shift":
                self.kernel.copy_(shift_kernel(self.groups * self.outputs, self.kernel_size))
            else:
                nn.init.kaiming_uniform_(self.kernel, a=5**0.5)

    def forward(self, maps_BHWdi: Tensor) -> Tensor:
        run = reference.convolution_path if self.implementation == "reference" else convolution_path
        dtype, bias = maps_BHWdi.dtype, self.fully_connected.bias
        return run(
            maps_BHWdi,
            self.fully_connected.weight.to(dtype),
            None if bias is None else bias.to(dtype),
            self.kernel.to(dtype) if self.shift == "group" else None,
            outputs=self.outputs,
            kernel_size=self.kernel_size,
            stride=self.stride,
        )

    def cost(self, height: int, width: int) -> dict[str, int]:
        """Multiply-adds of the path's two stages for one H x W map."""
        grid = -(-height // self.stride) * -(-width // self.stride)
        taps = self.kernel_size**2
        return {
            "fully_connected": self.maps * taps * self.groups * height * width,
            "grouped_convolution": taps**2 * self.groups * self.outputs * grid if self.shift == "group" else 0,
        }

    def extra_repr(self) -> str:
        return f"groups={self.groups}, outputs={self.outputs}, stride={self.stride}, shift={self.shift}"


def grouped_maps(qkv: Tensor, heads: int) -> Tensor:
    """(B, H, W, 3C), q, k and v side by side, each head-major (n * d + e), to (B, H, W, d, 3N), a view."""
    return qkv.unflatten(-1, (3 * heads, -1)).transpose(-1, -2)


def shift_kernel(channels: int, kernel_size: int) -> Tensor:
    """The grouped convolution's weights that move map m of every group by tap (m // k, m % k).

    Returns:
        (C, k^2, k, k), one-hot, the same for all N outputs of a group.
    """
    taps = kernel_size**2
    one_hot = torch.eye(taps).reshape(taps, kernel_size, kernel_size)
    return one_hot.repeat(channels, 1, 1, 1)


def convolution_path(
    maps_BHWdi: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    kernel: Tensor | None,
    *,
    outputs: int,
    kernel_size: int,
    stride: int,
) -> Tensor:
    """Run the path, folded into one convolution where that is cheaper.

    Args:
        weight: (k^2, i), the fully connected layer; `bias` is its (k^2,) or None.
        kernel: (C, k^2, k, k), the grouped convolution's weights, or None to shift tensors instead.

    Returns:
        (B, C, h, w), channels e-major (e * N + n).
    """
    if kernel is None:
        maps = F.linear(maps_BHWdi, weight, bias)
        return shift_and_sum(maps, outputs=outputs, kernel_size=kernel_size, stride=stride)
    if bias is None and folding_pays(weight.shape[1], outputs, kernel_size, stride):
        return _grouped(maps_BHWdi, fold(weight, kernel), stride=stride)
    return _grouped(F.linear(maps_BHWdi, weight, bias), kernel, stride=stride)


def folding_pays(maps: int, outputs: int, kernel_size: int, stride: int) -> bool:
    """Whether the folded convolution needs no more multiply-adds than the two steps apart.

    A group and pixel of the output grid costs i k^2 N folded, and i k^2 s^2 + k^4 N apart: the layer runs at full size.
    A layer with a bias is never folded: at the edge the zero padding would have to leave its bias out.
    """
    return maps * outputs <= maps * stride**2 + kernel_size**2 * outputs


def fold(weight: Tensor, kernel: Tensor) -> Tensor:
    """Fold the fully connected layer (k^2, i) into the grouped kernel (C, k^2, k, k): (C, i, k, k)."""
    return torch.einsum("omyx,mi->oiyx", kernel, weight)


def shift_and_sum(maps_BHWdm: Tensor, *, outputs: int, kernel_size: int, stride: int) -> Tensor:
    """Move map m of every group by its tap and add them: (B, C, h, w), the same sum for every output of a group."""
    height, width = maps_BHWdm.shape[1:3]
    padded = F.pad(maps_BHWdm, [0, 0, 0, 0] + [kernel_size // 2] * 4)
    taps = [divmod(m, kernel_size) for m in range(kernel_size**2)]
    moved = [padded[:, dy : dy + height : stride, dx : dx + width : stride, :, m] for m, (dy, dx) in enumerate(taps)]
    total_BhwdN = sum(moved[1:], moved[0])[..., None].expand(*moved[0].shape, outputs)
    return total_BhwdN.flatten(-2).permute(0, 3, 1, 2)


def _grouped(maps_BHWdc: Tensor, kernel: Tensor, *, stride: int) -> Tensor:
    """Convolve each of the d groups of maps, channels-last, with zero padding k // 2."""
    groups = maps_BHWdc.shape[3]
    x = maps_BHWdc.flatten(-2).permute(0, 3, 1, 2)
    return F.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2, groups=groups)
