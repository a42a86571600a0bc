"""ACmix: convolution and self-attention from the same three 1x1 projections (Pan et al., CVPR 2022)."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from acmix_bench.errors import ShapeError
from acmix_bench.ops import attention, convolution, cost, reference

Paths = Literal["both", "attention", "conv"]
Mix = Literal["fixed", "alpha", "alpha-beta"]
Shift = Literal["tensor", "group"]
Kernel = Literal["fixed", "learned"]
Init = Literal["shift", "random"]
Implementation = Literal["production", "reference"]


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
        kernel_size: the convolution's edge, odd.
        stride: both paths keep every stride-th pixel; the output is ceil(size / stride).
        paths: which paths exist. With one path there is nothing to mix.
        mix: add as they are (1, 1), as (alpha, 1 - alpha), or as (alpha, beta); learned scalars start at 0.5.
        shift: move the taps by a grouped convolution, or by slicing and adding.
        kernel: whether the grouped convolution's weights train. Fixed ones are a buffer, not a parameter.
        init: start the grouped convolution as the shift, or at random (Kaiming).
        implementation: `production`, or `reference` (the formulas as they stand).

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
        kernel_size: int = 3,
        stride: int = 1,
        paths: Paths = "both",
        mix: Mix = "alpha-beta",
        shift: Shift = "group",
        kernel: Kernel = "learned",
        init: Init = "shift",
        implementation: Implementation = "production",
    ) -> None:
        super().__init__()
        if channels % heads:
            raise ShapeError(f"{channels} channels do not divide into {heads} heads")
        for name, edge in (("attention window", window), ("kernel size", kernel_size)):
            if edge < 1 or edge % 2 == 0:
                raise ShapeError(f"the {name} is {edge}, but must be odd: it is centred on a pixel")
        self.channels, self.heads, self.stride = channels, heads, stride
        self.window, self.kernel_size = window, kernel_size
        self.paths, self.mix, self.shift, self.kernel_kind, self.init = paths, mix, shift, kernel, init
        self.implementation = implementation

        self.qkv = nn.Conv2d(in_channels, 3 * channels, 1)
        if paths != "conv":
            self.position = nn.Linear(2, channels // heads)
        if paths != "attention":
            self.fully_connected = nn.Linear(3 * heads, kernel_size**2, bias=False)
        if paths != "attention" and shift == "group":
            weights = torch.empty(channels, kernel_size**2, kernel_size, kernel_size)
            if kernel == "learned":
                self.kernel = nn.Parameter(weights)
            else:
                self.register_buffer("kernel", weights)
        if paths == "both" and mix != "fixed":
            self.alpha = nn.Parameter(torch.empty(()))
        if paths == "both" and mix == "alpha-beta":
            self.beta = nn.Parameter(torch.empty(()))
        self.reset_mixing()

    def reset_mixing(self) -> None:
        """Set alpha, beta and the grouped kernel to their chosen start.

        A backbone calls `restore_initialisation` last, so that no model-wide initialisation overwrites them.
        """
        for scalar in ("alpha", "beta"):
            if hasattr(self, scalar):
                nn.init.constant_(getattr(self, scalar), 0.5)
        if hasattr(self, "kernel"):
            with torch.no_grad():
                if self.init == "shift":
                    head_dim = self.channels // self.heads
                    self.kernel.copy_(convolution.shift_kernel(self.heads, head_dim, self.kernel_size))
                else:
                    nn.init.kaiming_uniform_(self.kernel, a=5**0.5)

    def forward(self, x: Tensor) -> Tensor:
        if self.implementation == "production":
            x = x.contiguous(memory_format=torch.channels_last)
        qkv = self.qkv(x)
        qkv_BHWc = qkv.permute(0, 2, 3, 1)
        if self.paths == "attention":
            return self._attend(qkv_BHWc)
        if self.paths == "conv":
            return self._convolve(qkv_BHWc)
        attended, convolved = self._attend(qkv_BHWc), self._convolve(qkv_BHWc)
        if self.mix == "fixed":
            return attended + convolved
        alpha, beta = self.mixing_weights()
        return alpha * attended + beta * convolved

    def mixing_weights(self) -> tuple[Tensor | float, Tensor | float]:
        """The factors of the attention and of the convolution path."""
        if self.paths != "both" or self.mix == "fixed":
            return float(self.paths != "conv"), float(self.paths != "attention")
        return self.alpha, self.beta if self.mix == "alpha-beta" else 1 - self.alpha

    def _attend(self, qkv: Tensor) -> Tensor:
        attend = reference.local_attention if self.implementation == "reference" else attention.local_attention
        q, k, v = qkv.chunk(3, dim=-1)
        position = self._positions(*qkv.shape[1:3]).to(qkv.dtype)
        out = attend(q, k, v, position, heads=self.heads, window=self.window, stride=self.stride)
        return out.permute(0, 3, 1, 2)

    def _convolve(self, qkv: Tensor) -> Tensor:
        convolve = reference.convolution_path if self.implementation == "reference" else convolution.convolution_path
        weight, kernel = self.fully_connected.weight, getattr(self, "kernel", None)
        return convolve(
            qkv,
            weight.to(qkv.dtype),
            None if kernel is None else kernel.to(qkv.dtype),
            heads=self.heads,
            kernel_size=self.kernel_size,
            stride=self.stride,
        )

    def _positions(self, height: int, width: int) -> Tensor:
        """(H, W, d): the projected coordinates, in float32 at least whatever the model's dtype."""
        weight, bias = self.position.weight, self.position.bias
        exact = torch.promote_types(weight.dtype, torch.float32)
        x = torch.linspace(-1, 1, width, dtype=exact, device=weight.device)
        y = torch.linspace(-1, 1, height, dtype=exact, device=weight.device)
        grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
        # Autocast would lower the coordinates' precision; the meta device knows no autocast.
        on_meta = weight.device.type == "meta"
        with nullcontext() if on_meta else torch.autocast(weight.device.type, enabled=False):
            return F.linear(grid, weight.to(exact), bias.to(exact))

    def macs(self, height: int, width: int) -> dict[str, int]:
        """Multiply-adds of one image by stage, from the closed form (`acmix_bench.ops.cost`)."""
        return cost.operator_macs(
            self.qkv.in_channels,
            self.channels,
            height,
            width,
            heads=self.heads,
            window=self.window,
            kernel_size=self.kernel_size,
            stride=self.stride,
            paths=self.paths,
            shift=self.shift,
        )

    def extra_repr(self) -> str:
        return (
            f"{self.qkv.in_channels}, {self.channels}, heads={self.heads}, window={self.window}, "
            f"kernel_size={self.kernel_size}, stride={self.stride}, paths={self.paths}, mix={self.mix}, "
            f"shift={self.shift}, kernel={self.kernel_kind}, init={self.init}"
        )


def restore_initialisation(model: nn.Module) -> None:
    """Give every ACmix in the model its chosen start back, after the backbone has initialised everything."""
    for module in model.modules():
        if isinstance(module, ACmix):
            module.reset_mixing()
