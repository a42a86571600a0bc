"""ACmix: convolution and self-attention from the same three 1x1 projections (Pan et al., CVPR 2022)."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor, nn

from acmix_bench.errors import ShapeError
from acmix_bench.ops import attention, cost, flex, natten, ran, reference
from acmix_bench.ops.convolution import Axes, ConvolutionPath
from acmix_bench.ops.mix import Kind, Mix, Paths
from acmix_bench.ops.native import kernels
from acmix_bench.ops.native import operators as native

# Local attention by the implementation that an operator is made in. The others take C++ where it serves the case
# (auto, native), and else gather and attend.
BACK_ENDS = {
    "reference": reference.local_attention,
    "flex": flex.local_attention,
    "natten": natten.local_attention,
}


class ACmix(nn.Module):
    """Mix local self-attention and a k x k convolution that share their projections.

    The result is `alpha * attention + beta * convolution`. As in the released code, the attention path's channels
    are head-major (n * d + e) and the convolution path's are e-major (e * N + n); they are added as they are.
    The grouped convolution has no bias, by decision, and dilation is not offered.

    Args:
        in_channels: channels of the input.
        channels: channels of the output, C. Divisible by `heads`.
        heads: N; each head has d = C / N channels.
        window: the attention window's edge, odd.
        stride: both paths keep every stride-th pixel; the output is ceil(size / stride).
        paths: which paths exist. With one path there is nothing to mix.
        mix: add as they are (1, 1), as (alpha, 1 - alpha), or as (alpha, beta); learned scalars start at 0.5.
        axes: those of the convolution path, see `acmix_bench.ops.convolution.Axes`.

    Shape:
        (B, in_channels, H, W) to (B, channels, ceil(H / stride), ceil(W / stride)), channels-last in memory
        in the production implementation.

    Raises:
        ShapeError: for sizes that cannot be: channels and heads, an even window, a map smaller than its padding.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        heads: int = 4,
        window: int = 7,
        stride: int = 1,
        paths: Paths = "both",
        mix: Kind = "alpha-beta",
        **axes: Unpack[Axes],
    ) -> None:
        super().__init__()
        if channels % heads:
            raise ShapeError(f"{channels} channels do not divide into {heads} heads")
        if window < 1 or window % 2 == 0:
            raise ShapeError(f"the attention window is {window}, but must be odd: it is centred on a pixel")
        self.channels, self.heads, self.window, self.stride = channels, heads, window, stride
        self.paths, self.implementation = paths, axes.get("implementation", "auto")

        self.qkv = nn.Conv2d(in_channels, 3 * channels, 1)
        if paths != "conv":
            self.position = nn.Linear(2, channels // heads)
        if paths != "attention":
            self.convolution = ConvolutionPath(channels // heads, 3 * heads, heads, stride=stride, **axes)
        if paths == "both":
            self.mix = Mix(mix)

    def forward(self, x: Tensor) -> Tensor:
        if self.implementation != "reference":
            x = x.contiguous(memory_format=torch.channels_last)
        is_native = self._is_native(x)
        if is_native and self._goes_at_once(x):
            return self._at_once(x)
        qkv_BHWc = self.qkv(x).permute(0, 2, 3, 1)
        if self.paths == "conv":
            out = self.convolution(qkv_BHWc)
        else:
            attended = self._attend(qkv_BHWc, is_native=is_native)
            # What is left of whole tiles has gaps, which the mix reads as well.
            is_alone = self.paths == "attention"
            out = attended.contiguous() if is_alone else self.mix(attended, self.convolution, qkv_BHWc)
        return out.permute(0, 3, 1, 2)

    def _is_native(self, x: Tensor) -> bool:
        """Whether attention runs in C++ on this input.

        Raises:
            ShapeError: where it must and cannot.
        """
        if self.implementation not in ("auto", "native") or self.paths == "conv":
            return False
        reason = native.why_not(x, self.channels // self.heads, stride=self.stride, window=self.window)
        if reason and self.implementation == "native":
            raise ShapeError(f"implementation=native does not serve this: {reason}")
        return reason is None

    def _attend(self, qkv_BHWc: Tensor, *, is_native: bool) -> Tensor:
        sizes = {"heads": self.heads, "window": self.window, "stride": self.stride}
        height, width = qkv_BHWc.shape[1:3]
        position = attention.project_coordinates(self.position, height, width).to(qkv_BHWc.dtype)
        if is_native:
            ran.note("acmix_bench.local_attention")
            return native.local_attention(qkv_BHWc, position, **sizes)
        attend = BACK_ENDS.get(self.implementation, attention.local_attention)
        q, k, v = qkv_BHWc.chunk(3, dim=-1)
        return attend(q, k, v, position, **sizes)

    def _goes_at_once(self, x: Tensor) -> bool:
        """Whether what is native is so in one call: for inference, with a convolution path that folds."""
        if torch.is_grad_enabled():
            return False
        if self.paths == "attention":
            return True
        path = self.convolution
        return isinstance(path, ConvolutionPath) and path.folds and path.is_native(x)

    def _at_once(self, x: Tensor) -> Tensor:
        """The whole operator in one call of C++, for inference: q, k and v are never in memory."""
        ran.note("acmix_bench.operator")
        factor = path = None
        lanes = kernels.lanes_of(x.dtype, self.channels // self.heads)
        if self.paths == "both":
            alpha, beta = self.mix.weights()
            factor = alpha.to(x).expand(self.channels)
            kernel, layer = self.convolution.kernel, self.convolution.fully_connected.weight
            assert kernel is not None  # or it would not fold
            path = native.pack_path(kernel, self.channels // self.heads, lanes, layer, beta.to(x))
        projection = native.pack_projection(self.qkv.weight.flatten(1), lanes)
        assert self.qkv.bias is not None
        return native.operator(
            x,
            projection,
            self.qkv.bias,
            self.position.weight,
            factor=factor,
            path=path,
            heads=self.heads,
            window=self.window,
            stride=self.stride,
        )

    def macs(self, x: Tensor) -> dict[str, int]:
        """Multiply-adds of one image by stage: the closed form of `acmix_bench.ops.cost`."""
        return cost.operator_macs(
            self.qkv.in_channels,
            self.channels,
            *x.shape[-2:],
            heads=self.heads,
            window=self.window,
            kernel_size=self.convolution.kernel_size if self.paths != "attention" else 1,
            stride=self.stride,
            paths=self.paths,
            shift=self.convolution.shift if self.paths != "attention" else "tensor",
        )

    def extra_repr(self) -> str:
        return f"heads={self.heads}, window={self.window}, stride={self.stride}, paths={self.paths}"
