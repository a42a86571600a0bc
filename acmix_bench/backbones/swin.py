"""timm's Swin, its window attention replaced by ACmix's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import timm
import torch
from timm.models.swin_transformer import SwinTransformerBlock
from torch import Tensor, nn

Attention = Callable[[int, int, tuple[int, int]], nn.Module]


class Block(SwinTransformerBlock):  # type: ignore[misc]
    """A timm block whose attention sees the map (rolled in shifted blocks) instead of its windows."""

    def __init__(self, block: Any, attention: Attention) -> None:
        sizes = {name: getattr(block, name) for name in ("window_size", "shift_size", "mlp_ratio")}
        super().__init__(block.dim, block.input_resolution, block.attn.num_heads, **sizes)
        self.drop_path1, self.drop_path2 = block.drop_path1, block.drop_path2
        self.attn = attention(block.dim, block.attn.num_heads, block.window_size)

    def _attn(self, x: Tensor) -> Tensor:
        rows, columns = self.shift_size
        if not rows and not columns:
            return self.attn(x)
        rolled = torch.roll(x, (-rows, -columns), dims=(1, 2))
        return torch.roll(self.attn(rolled, self.attn_mask), (rows, columns), dims=(1, 2))


def swin(
    name: str,
    operator: Attention | None,
    *,
    in_channels: int,
    num_classes: int,
    image_size: int,
    drop_path: float = 0.0,
) -> nn.Module:
    """timm's model at any image size that timm takes; without an operator, as timm makes it.

    `drop_path` is the stochastic depth of the last block, rising from 0 in the first.

    Shape:
        (B, in_channels, image_size, image_size) to (B, num_classes).
    """
    model: Any = timm.create_model(
        name, img_size=image_size, in_chans=in_channels, num_classes=num_classes, drop_path_rate=drop_path
    )
    if operator is not None:
        for stage in model.layers:
            for number, block in enumerate(stage.blocks):
                stage.blocks[number] = Block(block, operator)
        model.init_weights()
    return model
