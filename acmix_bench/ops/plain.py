"""The plain convolution that ACmix replaces: what a user has today."""

from __future__ import annotations

from torch import Tensor, nn

from acmix_bench.ops.cost import STAGES


class Convolution(nn.Conv2d):
    """A k x k convolution without bias, zero padded by k // 2.

    Shape:
        (B, in_channels, H, W) to (B, channels, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(self, in_channels: int, channels: int, *, stride: int = 1, kernel_size: int = 3) -> None:
        super().__init__(in_channels, channels, kernel_size, stride, kernel_size // 2, bias=False)

    def macs(self, x: Tensor) -> dict[str, int]:
        """Multiply-adds of one image: all of them are stage I (ACmix, table 1)."""
        stride, (height, width) = self.stride[0], x.shape[-2:]
        outputs = -(-height // stride) * -(-width // stride)
        return dict.fromkeys(STAGES, 0) | {"stage_1": self.weight.numel() * outputs}
