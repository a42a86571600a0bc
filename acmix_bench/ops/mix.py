"""How the outputs of the two paths are added."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from acmix_bench.ops.convolution import ConvolutionPath

Paths = Literal["both", "attention", "conv"]
Kind = Literal["fixed", "alpha", "alpha-beta"]


class Mix(nn.Module):
    """`a * attention + b * convolution`, with (a, b) = (1, 1), (alpha, 1 - alpha) or (alpha, beta).

    The scalars are learned and start at 0.5.
    """

    def __init__(self, kind: Kind) -> None:
        super().__init__()
        self.kind = kind
        if kind != "fixed":
            self.alpha = nn.Parameter(torch.empty(()))
        if kind == "alpha-beta":
            self.beta = nn.Parameter(torch.empty(()))
        self.restore_initialisation()

    def restore_initialisation(self) -> None:
        """Set the scalars to their start."""
        for scalar in self.parameters():
            nn.init.constant_(scalar, 0.5)

    def weights(self) -> tuple[Tensor, Tensor]:
        """The factors of the attention and of the convolution path."""
        if self.kind == "fixed":
            return torch.ones(()), torch.ones(())
        return self.alpha, self.beta if self.kind == "alpha-beta" else 1 - self.alpha

    def forward(self, attended: Tensor, convolution: ConvolutionPath, maps: Tensor) -> Tensor:
        """Run the convolution path over its maps and add it to the attention path's (B, h, w, C)."""
        if self.kind == "fixed":
            return attended + convolution(maps)
        alpha, beta = self.weights()
        if convolution.implementation == "reference":
            return alpha * attended + beta * convolution(maps)
        # The path is linear in its smallest weights: b on them is b on its output.
        return torch.addcmul(convolution(maps, factor=beta), attended, alpha.to(attended.dtype))

    def extra_repr(self) -> str:
        return self.kind
