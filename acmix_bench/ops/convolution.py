"""The convolution path: a light fully connected layer, then k^2 shifts and their sum.

Both steps are linear with nothing between them, so they can run as one grouped convolution with i maps in and N out
per group. That is used where it needs no more multiply-adds than the two apart.

Shape letters: B batch, C channels, d groups, N = C / d outputs a group, i input maps a group (3N where q, k and v have
C channels each), k kernel, m = k^2, H W map, h w output grid.
"""

from __future__ import annotations

import math
from typing import Literal, TypedDict, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from acmix_bench.errors import ShapeError
from acmix_bench.ops import reference
from acmix_bench.ops.native import operators as native


class Axes(TypedDict, total=False):
    """The axes of the convolution path, which every formulation of ACmix takes as keyword arguments.

    `shift`: move the taps by a grouped convolution, or by slicing and adding. `kernel`: whether the grouped convolution
    trains; a fixed one is a buffer, not a parameter. `init`: start it as the shift, or at random (Kaiming).
    `kernel_size`: k, odd. `implementation`: C++ (native), torch's operations (production), C++ where it serves the case
    and else torch's (auto), or the formulas as they stand (reference). `flex` and `natten` are ways of local attention;
    this path runs in torch's operations then.
    """

    kernel_size: int
    shift: Literal["tensor", "group"]
    kernel: Literal["fixed", "learned"]
    init: Literal["shift", "random"]
    implementation: Literal["auto", "native", "production", "reference", "flex", "natten"]


class ConvolutionPath(nn.Module):
    """The path as a layer. Source: ACmix, sections 3.2 and 4; the author has confirmed i x k^2 for the layer's size.

    Value j of group e is channel j * d + e of the input: what q, k and v are side by side, each head-major.

    Args:
        groups: d.
        maps: i, the values of one group and pixel that the fully connected layer mixes.
        outputs: N, channels that each group gives.
        bias: whether the fully connected layer has one. The grouped convolution has none, by decision.
        axes: see `Axes`.

    Shape:
        (B, H, W, i * d) to (B, h, w, C), channels e-major (e * N + n).

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
        self.implementation = axes.get("implementation", "auto")
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise ShapeError(f"the kernel size is {self.kernel_size}, but must be odd: it is centred on a pixel")
        self.fully_connected = nn.Linear(maps, self.kernel_size**2, bias=bias)
        self.kernel: Tensor | None
        weights = torch.empty(groups * outputs, self.kernel_size**2, self.kernel_size, self.kernel_size)
        if self.shift == "tensor":
            self.kernel = None
        elif axes.get("kernel", "learned") == "learned":
            self.register_parameter("kernel", nn.Parameter(weights))
        else:
            self.register_buffer("kernel", weights)
        self.restore_initialisation()

    def restore_initialisation(self) -> None:
        """Set the grouped kernel to its chosen start."""
        if self.kernel is None:
            return
        with torch.no_grad():
            if self.init == "shift":
                self.kernel.copy_(shift_kernel(self.groups * self.outputs, self.kernel_size))
            else:
                nn.init.kaiming_uniform_(self.kernel, a=5**0.5)

    def forward(self, maps: Tensor, *, factor: Tensor | None = None) -> Tensor:
        """Run the path; a `factor` of its output goes into the fully connected layer."""
        is_native = self.is_native(maps)
        if is_native and self.folds:
            return native.convolution_path(maps, self.folded(factor), stride=self.stride)
        weight: Tensor = self.fully_connected.weight
        bias: Tensor | None = self.fully_connected.bias
        if factor is not None:
            weight, bias = weight * factor, None if bias is None else bias * factor
        if is_native and self.kernel is not None:
            return native.connected_path(maps, weight, bias, self.kernel, stride=self.stride)
        run = reference.convolution_path if self.implementation == "reference" else convolution_path
        return run(
            maps,
            weight.to(maps.dtype),
            None if bias is None else bias.to(maps.dtype),
            None if self.kernel is None else self.kernel.to(maps.dtype),
            outputs=self.outputs,
            kernel_size=self.kernel_size,
            stride=self.stride,
        )

    def is_native(self, maps: Tensor) -> bool:
        """Whether it runs in C++. The two steps apart have no gradient there, where torch is as fast."""
        if self.implementation not in ("auto", "native") or self.kernel is None:
            return False
        if not self.folds and torch.is_grad_enabled():
            return False
        return native.why_not(maps, self.groups, stride=self.stride, kernel=self.kernel_size) is None

    @property
    def folds(self) -> bool:
        """Whether it is one grouped convolution."""
        layer = self.fully_connected
        return folds(layer.weight, layer.bias, self.kernel, outputs=self.outputs, stride=self.stride)

    def folded(self, factor: Tensor | None = None) -> Tensor:
        """The one convolution's kernel, (C, i, k, k), times a factor."""
        assert self.kernel is not None
        weight = self.fully_connected.weight
        return fold(weight if factor is None else weight * factor, self.kernel)

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


def shift_kernel(channels: int, kernel_size: int) -> Tensor:
    """The grouped convolution's weights that move map m of every group by tap (m // k, m % k).

    Returns:
        (C, k^2, k, k), one-hot, the same for all N outputs of a group.
    """
    taps = kernel_size**2
    one_hot = torch.eye(taps).reshape(taps, kernel_size, kernel_size)
    return one_hot.repeat(channels, 1, 1, 1)


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
    """Run the path, folded into one convolution where that is cheaper.

    Args:
        maps: (B, H, W, i * d), value j of group e at j * d + e.
        weight: (k^2, i), the fully connected layer; `bias` is its (k^2,) or None.
        kernel: (C, k^2, k, k), the grouped convolution's weights, or None to shift tensors instead.

    Returns:
        (B, h, w, C), channels e-major (e * N + n).
    """
    inputs = weight.shape[1]
    maps_BHWc = gather_groups(maps, inputs)
    if kernel is not None and folds(weight, bias, kernel, outputs=outputs, stride=stride):
        return convolve_groups(maps_BHWc, fold(weight, kernel), stride=stride)
    connected_BHWdm = F.linear(maps_BHWc.unflatten(-1, (-1, inputs)), weight, bias)
    if kernel is None:
        return shift_and_sum(connected_BHWdm, outputs=outputs, kernel_size=kernel_size, stride=stride)
    return convolve_groups(connected_BHWdm.flatten(-2), kernel, stride=stride)


def folds(weight: Tensor, bias: Tensor | None, kernel: Tensor | None, *, outputs: int, stride: int) -> bool:
    """Whether the layer (k^2, i) goes into the grouped kernel.

    A layer with a bias never does: at the edge the zero padding would have to leave its bias out.
    """
    taps, maps = weight.shape
    return kernel is not None and bias is None and folding_pays(maps, outputs, math.isqrt(taps), stride)


def folding_pays(maps: int, outputs: int, kernel_size: int, stride: int) -> bool:
    """Whether the folded convolution needs no more multiply-adds than the two steps apart.

    A group and pixel of the output grid costs i k^2 N folded, and i k^2 s^2 + k^4 N apart: the layer runs at full size.
    """
    return maps * outputs <= maps * stride**2 + kernel_size**2 * outputs


def fold(weight: Tensor, kernel: Tensor) -> Tensor:
    """Fold the fully connected layer (k^2, i) into the grouped kernel (C, k^2, k, k): (C, i, k, k)."""
    return torch.einsum("omyx,mi->oiyx", kernel, weight)


def gather_groups(maps: Tensor, inputs: int) -> Tensor:
    """Bring the `inputs` values of each group together: channel j * d + e of (B, H, W, i * d) becomes e * i + j.

    torch's shuffle is the faster one on a CPU; elsewhere, and compiled, it gives up channels-last.
    """
    if maps.device.type == "cpu" and not torch.compiler.is_compiling():
        return F.channel_shuffle(maps.permute(0, 3, 1, 2), inputs).permute(0, 2, 3, 1)
    return maps.unflatten(-1, (inputs, -1)).transpose(-1, -2).flatten(-2)


def shift_and_sum(maps_BHWdm: Tensor, *, outputs: int, kernel_size: int, stride: int) -> Tensor:
    """Move map m of every group by its tap and add them: (B, h, w, C), the same sum for every output of a group."""
    height, width = maps_BHWdm.shape[1:3]
    padded = F.pad(maps_BHWdm, [0, 0, 0, 0] + [kernel_size // 2] * 4)
    taps = [divmod(m, kernel_size) for m in range(kernel_size**2)]
    moved = [padded[:, dy : dy + height : stride, dx : dx + width : stride, :, m] for m, (dy, dx) in enumerate(taps)]
    total_BhwdN = sum(moved[1:], moved[0])[..., None].expand(*moved[0].shape, outputs)
    return total_BhwdN.flatten(-2)


def convolve_groups(maps_BHWc: Tensor, kernel: Tensor, bias: Tensor | None = None, *, stride: int) -> Tensor:
    """Convolve each group of maps with zero padding k // 2: (B, h, w, C), contiguous.

    In float64, and where a group has one map, CUDA's kernels leave channels-last.
    """
    groups = maps_BHWc.shape[-1] // kernel.shape[1]
    x, pad = maps_BHWc.permute(0, 3, 1, 2), kernel.shape[-1] // 2
    out = F.conv2d(x, kernel, bias, stride=stride, padding=pad, groups=groups)
    return out.permute(0, 2, 3, 1).contiguous()
