"""The Pyramid Vision Transformer, version 1 (Wang et al., ICCV 2021), which timm does not have."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn

WIDTHS = (64, 128, 320, 512)
HEADS = (1, 2, 5, 8)
MLP_RATIOS = (8, 8, 4, 4)
REDUCTIONS = (8, 4, 2, 1)
PATCHES = (4, 2, 2, 2)

Attention = Callable[[int, int, int], nn.Module]


class Block(nn.Module):
    """Attention, then an MLP, each normalised first and added, or dropped: (B, L, C), H, W to (B, L, C)."""

    def __init__(self, attention: nn.Module, channels: int, mlp_ratio: int, drop_path: float = 0.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.attn = attention
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        hidden = mlp_ratio * channels
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, channels))
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x), height, width))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class Stage(nn.Module):
    """Patches, positions, blocks: (B, C_in, H, W) to (B, C, H / p, W / p), whatever is left over at an edge dropped.

    The positions are those of a map of `size`, and interpolated for any other, after PVT's code for detection. Where a
    class token (1, 1, C) comes along, what becomes of it (B, C) is given in place of the map.
    """

    def __init__(
        self,
        attention: Attention,
        stage: int,
        drops: Sequence[float],
        in_channels: int,
        size: int,
        *,
        class_token: bool,
    ) -> None:
        super().__init__()
        width = WIDTHS[stage]
        self.size = size
        self.patches = nn.Conv2d(in_channels, width, PATCHES[stage], PATCHES[stage])
        self.norm = nn.LayerNorm(width)
        self.pos_embed = nn.Parameter(torch.zeros(1, size**2 + class_token, width))
        self.blocks = nn.ModuleList(
            Block(attention(width, HEADS[stage], REDUCTIONS[stage]), width, MLP_RATIOS[stage], drop) for drop in drops
        )

    def forward(self, x: Tensor, class_token: Tensor | None = None) -> Tensor:
        x = self.patches(x)
        height, width = x.shape[-2:]
        tokens = self.norm(x.flatten(2).transpose(1, 2)) + self._positions(height, width)
        if class_token is not None:
            first = (class_token + self.pos_embed[:, :1]).expand(len(tokens), -1, -1)
            tokens = torch.cat([first, tokens], dim=1)
        for block in self.blocks:
            tokens = block(tokens, height, width)
        return tokens[:, 0] if class_token is not None else tokens.transpose(1, 2).unflatten(2, (height, width))

    def _positions(self, height: int, width: int) -> Tensor:
        """(1, H W, C), without the class token's."""
        positions = self.pos_embed[:, -(self.size**2) :]
        if (height, width) == (self.size, self.size):
            return positions
        grid = positions.transpose(1, 2).unflatten(2, (self.size, self.size))
        return F.interpolate(grid, (height, width), mode="bilinear").flatten(2).transpose(1, 2)


class PVT(nn.Module):
    """Four stages at stride 4, 8, 16 and 32; the class token of the last one is classified.

    `drop_path` is the stochastic depth of the last block, rising from 0 in the first.

    Shape:
        (B, in_channels, H, W) to (B, num_classes), H and W at least 32.
    """

    def __init__(
        self,
        depths: tuple[int, ...],
        attention: Attention,
        *,
        in_channels: int,
        num_classes: int,
        image_size: int,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        size = image_size
        drops = torch.linspace(0, drop_path, sum(depths), device="cpu").split(depths)
        self.stages = nn.ModuleList()
        for stage, rates in enumerate(drops):
            size //= PATCHES[stage]
            last = stage == len(depths) - 1
            self.stages.append(Stage(attention, stage, rates.tolist(), in_channels, size, class_token=last))
            in_channels = WIDTHS[stage]
        self.cls_token = nn.Parameter(torch.zeros(1, 1, WIDTHS[-1]))
        self.norm = nn.LayerNorm(WIDTHS[-1], eps=1e-6)
        self.head = nn.Linear(WIDTHS[-1], num_classes)
        for name, parameter in self.named_parameters():
            if name.endswith(("pos_embed", "cls_token")):
                nn.init.trunc_normal_(parameter, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        *before, last = self.stages
        for stage in before:
            x = stage(x)
        return self.head(self.norm(last(x, self.cls_token)))
