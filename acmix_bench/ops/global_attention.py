"""ACmix on global attention with spatial reduction, as in the Pyramid Vision Transformer (PVT, section 3.3).

Shape letters: B batch, C channels, N heads, d = C / N, H W map, R reduction, L tokens: H W pixels, after a class token
where there is one.
"""

from __future__ import annotations

from typing import Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from acmix_bench.ops import reference
from acmix_bench.ops.convolution import Axes, ConvolutionPath
from acmix_bench.ops.cost import STAGES
from acmix_bench.ops.mix import Kind, Mix, Paths
from acmix_bench.ops.sdpa import attend


class GlobalACmix(nn.Module):
    """PVT's attention over a reduced map, and the convolution path on the same projections.

    The authors never released their PVT. This is the plainest reading of "both paths share the projections": nothing
    is projected twice. PVT projects keys and values on the map reduced by R, so the convolution path sees these brought
    back to H x W by their nearest neighbours; where R does not divide a side, the last ones serve what is left over. As
    in the released Swin, the fully connected layer has a bias, the output projection belongs to the attention path, and
    the class token takes part in the attention alone.

    The alternative is to project keys and values a second time at full size for the convolution path, with the same
    weights: the same parameters, and 2 C^2 H W more multiply-adds a block, which puts PVT-T-ACmix at 2.20 G where the
    paper prints 2.0 and this reading has 2.02. With `paths="attention"` this is PVT's own attention.

    Shape:
        (B, L, C), H, W to (B, L, C).
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        reduction: int,
        *,
        paths: Paths = "both",
        mix: Kind = "alpha-beta",
        **axes: Unpack[Axes],
    ) -> None:
        super().__init__()
        self.heads, self.reduction = heads, reduction
        self.paths, self.implementation = paths, axes.get("implementation", "auto")
        self.q = nn.Linear(channels, channels)
        self.kv = nn.Linear(channels, 2 * channels)
        if reduction > 1:
            self.sr = nn.Conv2d(channels, channels, reduction, reduction)
            self.norm = nn.LayerNorm(channels)
        if paths != "conv":
            self.proj = nn.Linear(channels, channels)
        if paths != "attention":
            self.convolution = ConvolutionPath(channels // heads, 3 * heads, heads, bias=True, **axes)
        if paths == "both":
            self.mix = Mix(mix)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        q, kv = self.q(x), self.kv(self._reduced(x, height, width))
        if self.paths == "conv":
            return self._with_class_token(self.convolution(self._maps(q, kv, height, width)), q)
        attended = self.proj(self._attend(q, *kv.chunk(2, dim=-1)))
        if self.paths == "attention":
            return attended
        pixels = attended[:, -height * width :].unflatten(1, (height, width))
        mixed = self.mix(pixels, self.convolution, self._maps(q, kv, height, width))
        return self._with_class_token(mixed, attended)

    def _reduced(self, x: Tensor, height: int, width: int) -> Tensor:
        """(B, L, C) to the tokens that make keys and values."""
        if self.reduction == 1:
            return x
        image = x.transpose(1, 2).unflatten(2, (height, width))
        return self.norm(self.sr(image).flatten(2).transpose(1, 2))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        run = reference.attention if self.implementation == "reference" else attend
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))
        return run(q, k, v).transpose(1, 2).flatten(2)

    def _maps(self, q: Tensor, kv: Tensor, height: int, width: int) -> Tensor:
        """What the convolution path sees: q, k and v of every pixel, (B, H, W, 3C)."""
        rows, columns = height // self.reduction, width // self.reduction
        maps = [q[:, -height * width :].unflatten(1, (height, width))]
        for tokens in kv.chunk(2, dim=-1):
            small = tokens[:, -rows * columns :].unflatten(1, (rows, columns))
            maps.append(_enlarged(small, self.reduction, height, width) if self.reduction > 1 else small)
        return torch.cat(maps, dim=-1)

    @staticmethod
    def _with_class_token(map_BHWC: Tensor, tokens: Tensor) -> Tensor:
        """The map's pixels behind the class token of `tokens`, where there is one."""
        pixels = map_BHWC.flatten(1, 2)
        extra = tokens.shape[1] - pixels.shape[1]
        return torch.cat([tokens[:, :extra], pixels], dim=1) if extra else pixels

    def macs(self, x: Tensor, height: int, width: int) -> dict[str, int]:
        """Multiply-adds of one image by stage. The spatial reduction and the output projection are the rest."""
        tokens, channels = x.shape[1:]
        keys = (height // self.reduction) * (width // self.reduction) if self.reduction > 1 else tokens
        attends = self.paths != "conv"
        reducing = channels**2 * self.reduction**2 * keys if self.reduction > 1 else 0
        macs = dict.fromkeys(STAGES, 0) | {
            "stage_1": channels**2 * (tokens + 2 * keys),
            "attention": attends * 2 * channels * tokens * keys,
            "rest": reducing + attends * channels**2 * tokens,
        }
        return macs | (self.convolution.cost(height, width) if self.paths != "attention" else {})


def _enlarged(x: Tensor, times: int, height: int, width: int) -> Tensor:
    """(B, h, w, C) to (B, H, W, C), where h = H // times: each pixel the one whose patch it is in, or is next to."""
    x = F.interpolate(x.permute(0, 3, 1, 2), scale_factor=times)
    if x.shape[-2:] != (height, width):
        x = F.pad(x, (0, width - x.shape[3], 0, height - x.shape[2]), mode="replicate")
    return x.permute(0, 2, 3, 1)
