"""SAN, the self-attention network of Zhao et al. (CVPR 2020), in plain torch: the released one needs CUDA kernels."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from torch import Tensor, nn

WIDTHS = (64, 256, 512, 1024, 2048)
WINDOWS = (3, 7, 7, 7, 7)

Attention = Callable[..., nn.Module]


class Block(nn.Module):
    """Pre-activation bottleneck round the attention: (B, C, H, W) to the same shape (SAN, section 4.1)."""

    followed_by_norm = [("attention", "bn2")]

    def __init__(self, attention: nn.Module, channels: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.attention = attention
        self.bn2 = nn.BatchNorm2d(channels // 4)
        self.expand = nn.Conv2d(channels // 4, channels, 1)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out = self.attention(self.relu(self.bn1(x)))
        return x + self.expand(self.relu(self.bn2(out)))


def san(
    depths: tuple[int, ...],
    relation: str,
    operator: Attention,
    *,
    in_channels: int,
    num_classes: int,
    image_size: int,
) -> nn.Module:
    """Five stages at stride 2, 4, 8, 16 and 32, each after a 2x2 max-pool and a 1x1 convolution.

    Shape:
        (B, in_channels, H, W) to (B, num_classes).
    """
    layers: dict[str, nn.Module] = {
        "stem": nn.Sequential(nn.Conv2d(in_channels, WIDTHS[0], 1, bias=False), nn.BatchNorm2d(WIDTHS[0]), nn.ReLU())
    }
    before = WIDTHS[0]
    for stage, (width, depth, window) in enumerate(zip(WIDTHS, depths, WINDOWS, strict=True)):
        blocks = [Block(operator(width, window, relation=relation), width) for _ in range(depth)]
        transition = (nn.MaxPool2d(2), nn.Conv2d(before, width, 1, bias=False))
        layers[f"layer{stage}"] = nn.Sequential(*transition, *blocks, nn.BatchNorm2d(width), nn.ReLU())
        before = width
    layers["head"] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, num_classes))
    return nn.Sequential(OrderedDict(layers))
