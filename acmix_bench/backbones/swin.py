"""timm's Swin at any image size, its window attention replaced by ACmix's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import timm
from timm.models.swin_transformer import window_partition, window_reverse
from torch import Tensor, nn

from acmix_bench.ops.shifted import Sides, mask_of, of_the_map, shift_of, whole_windows

Attention = Callable[[int, int, Sides], nn.Module]


class Block(nn.Module):
    """A timm block that takes a map of any size: (B, H, W, C) to the same shape.

    It keeps timm's attention, which sees windows one by one, or has an operator, which sees the map.
    """

    def __init__(self, block: Any, operator: Attention | None) -> None:
        super().__init__()
        self.window_size, self.is_shifted = block.window_size, any(block.target_shift_size)
        self.has_operator = operator is not None
        self.norm1, self.norm2, self.mlp = block.norm1, block.norm2, block.mlp
        self.drop_path1, self.drop_path2 = block.drop_path1, block.drop_path2
        self.attn = operator(block.dim, block.attn.num_heads, block.window_size) if operator else block.attn

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path1(self._attn(self.norm1(x)))
        return x + self.drop_path2(self.mlp(self.norm2(x)))

    def _attn(self, x: Tensor) -> Tensor:
        height, width, channels = x.shape[1:]
        shift = shift_of(height, width, self.window_size) if self.is_shifted else (0, 0)
        if self.has_operator:
            return self.attn(x, shift)
        padded = whole_windows(x, self.window_size, shift)
        windows = window_partition(padded, self.window_size).flatten(1, 2)
        mask = mask_of(padded, self.window_size, shift)
        attended = self.attn(windows, mask=None if mask is None else mask[..., : windows.shape[1]])
        windows = attended.unflatten(1, self.window_size)
        return of_the_map(window_reverse(windows, self.window_size, *padded.shape[1:3]), height, width, shift)


def swin(
    name: str,
    operator: Attention | None,
    *,
    in_channels: int,
    num_classes: int,
    image_size: int,
    drop_path: float = 0.0,
) -> nn.Module:
    """timm's model; without an operator it keeps timm's attention.

    Windows are those of `image_size`: 7, or the whole map where that is smaller. An image of any other size is padded
    to whole patches, and each stage's map to whole windows.

    `drop_path` is the stochastic depth of the last block, rising from 0 in the first.

    Shape:
        (B, in_channels, H, W) to (B, num_classes).
    """
    model: Any = timm.create_model(
        name, img_size=image_size, in_chans=in_channels, num_classes=num_classes, drop_path_rate=drop_path
    )
    model.patch_embed.strict_img_size, model.patch_embed.dynamic_img_pad = False, True
    for stage in model.layers:
        for number, block in enumerate(stage.blocks):
            stage.blocks[number] = Block(block, operator)
    if operator is not None:
        model.init_weights()
    return model
