"""ACmix on vector self-attention: SAN's patchwise and pairwise attention, in plain torch.

Each weight is shared by 8 channels; windows are reflection padded. Source: Zhao et al., Exploring Self-attention for
Image Recognition (CVPR 2020), sections 3 and 4.

Shape letters: B batch, C channels of the block, r = C / 16 of queries and keys, c = C / 4 of values, g = c / 8 weights,
a window, t = a^2 taps, H W map.
"""

from __future__ import annotations

from typing import Literal, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from acmix_bench.errors import ShapeError
from acmix_bench.ops.attention import project_coordinates
from acmix_bench.ops.convolution import Axes, ConvolutionPath
from acmix_bench.ops.cost import STAGES
from acmix_bench.ops.mix import Kind, Mix, Paths
from acmix_bench.ops.reflection import check_window

SHARE = 8
Relation = Literal["patchwise", "pairwise"]


class PatchwiseACmix(nn.Module):
    """SAN's attention, and the convolution path on the same projections.

    The authors never released their SAN. SAN's queries and keys have C / 16 channels and its values C / 4, so the
    three do not split into heads of one width. This is the plainest reading that fits: the groups of the convolution
    path are those in which SAN shares its weights, g = C / 32 of them, each with 2 values of q, 2 of k and 8 of v. The
    fully connected layer is then 12 x k^2, as with 4 heads in the ResNet, and each group gives 8 channels.

    Alternatives are to project q and k of full width for the convolution path (more parameters than the paper prints),
    or to take the values alone (a layer of 8 x k^2, and no shared queries and keys). With `paths="attention"` this is
    SAN's own attention, which is written one way: `implementation` chooses that of the convolution path.

    Args:
        channels: C, divisible by 32.
        window: a, odd.
        relation: `patchwise` (weights from the whole patch, no softmax) or `pairwise` (weights from each difference
            and a projected position, softmax over the taps).
        axes: those of the convolution path, see `acmix_bench.ops.convolution.Axes`.

    Shape:
        (B, C, H, W) to (B, C / 4, H, W), channels n * g + e in the attention and e * 8 + n in the convolution path.
    """

    def __init__(
        self,
        channels: int,
        window: int,
        *,
        relation: Relation = "patchwise",
        paths: Paths = "both",
        mix: Kind = "alpha-beta",
        **axes: Unpack[Axes],
    ) -> None:
        super().__init__()
        if channels % (4 * SHARE):
            raise ShapeError(f"{channels} channels do not divide by {4 * SHARE}, which vector attention needs")
        self.channels, self.window, self.relation, self.paths = channels, window, relation, paths
        relations, values = channels // 16, channels // 4
        self.groups = values // SHARE
        self.q = nn.Conv2d(channels, relations, 1)
        self.k = nn.Conv2d(channels, relations, 1)
        self.v = nn.Conv2d(channels, values, 1)
        if paths != "conv" and relation == "patchwise":
            self.weigh = _weigh(relations * (window**2 + 1), self.groups, window**2 * self.groups)
        elif paths != "conv":
            self.position = nn.Linear(2, 2)
            self.weigh = _weigh(relations + 2, relations, self.groups)
        if paths != "attention":
            maps = (2 * relations + values) // self.groups
            self.convolution = ConvolutionPath(self.groups, maps, SHARE, **axes)
        if paths == "both":
            self.mix = Mix(mix)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.q(x), self.k(x), self.v(x)
        if self.paths == "attention":
            return self._attend(q, k, v)
        maps = torch.cat([q, k, v], dim=1).permute(0, 2, 3, 1)
        if self.paths == "conv":
            return self.convolution(maps).permute(0, 3, 1, 2)
        return self.mix(self._attend(q, k, v).permute(0, 2, 3, 1), self.convolution, maps).permute(0, 3, 1, 2)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        height, width = q.shape[-2:]
        check_window(height, width, self.window, is_axis=False)
        if self.relation == "patchwise":
            patch = torch.cat([q, _taps(k, self.window).flatten(1, 2)], dim=1)
            weights = self.weigh(patch).unflatten(1, (self.groups, -1))
        else:
            weights = self._pairwise_weights(q, k)
        values = _taps(v, self.window).unflatten(1, (SHARE, self.groups))
        return (weights[:, None] * values).sum(3).flatten(1, 2)

    def _pairwise_weights(self, q: Tensor, k: Tensor) -> Tensor:
        """(B, g, t, H, W) from each difference of query and key, and of their projected positions."""
        batch, _, height, width = q.shape
        projected = project_coordinates(self.position, height, width).to(q.dtype)
        position = projected.permute(2, 0, 1)[None]
        apart = q[:, :, None] - _taps(k, self.window)
        offset = (position[:, :, None] - _taps(position, self.window)).expand(batch, -1, -1, -1, -1)
        relation = torch.cat([apart, offset], dim=1).flatten(2, 3)
        weights = self.weigh(relation).unflatten(2, (-1, height))
        return weights.softmax(2)

    def macs(self, x: Tensor) -> dict[str, int]:
        """Multiply-adds of one image by stage. The weights and the weighted sum are the attention."""
        pixels = x.shape[-2] * x.shape[-1]
        relations, values, groups, taps = self.channels // 16, self.channels // 4, self.groups, self.window**2
        if self.relation == "patchwise":
            weighing = relations * (taps + 1) * groups + groups * taps * groups
        else:
            weighing = taps * ((relations + 2) * relations + relations * groups)
        attends = self.paths != "conv"
        macs = dict.fromkeys(STAGES, 0) | {
            "stage_1": self.channels * (2 * relations + values) * pixels,
            "attention": attends * (weighing + taps * values) * pixels,
            "rest": attends * (self.relation == "pairwise") * 4 * pixels,
        }
        return macs | (self.convolution.cost(*x.shape[-2:]) if self.paths != "attention" else {})


def _weigh(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """The two-layer network that turns relations into weights (SAN, section 3.3)."""
    return nn.Sequential(
        nn.BatchNorm2d(inputs),
        nn.ReLU(),
        nn.Conv2d(inputs, hidden, 1, bias=False),
        nn.BatchNorm2d(hidden),
        nn.ReLU(),
        nn.Conv2d(hidden, outputs, 1),
    )


def _taps(x: Tensor, window: int) -> Tensor:
    """(B, C, H, W) to (B, C, t, H, W): each pixel's window, reflection padded."""
    height, width = x.shape[-2:]
    unfolded = F.unfold(F.pad(x, [window // 2] * 4, mode="reflect"), window)
    return unfolded.unflatten(1, (x.shape[1], -1)).unflatten(3, (height, width))
