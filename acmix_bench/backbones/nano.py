"""A small residual network, for ablations that finish in minutes on a CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from acmix_bench.backbones.build import Operator

WIDTHS = (32, 64, 128)
DEPTHS = (1, 2, 2)


class Block(nn.Module):
    """Operator, then a 1x1 convolution, added to a shortcut: (B, C_in, H, W) to (B, C, ceil(H / s), ceil(W / s))."""

    followed_by_norm = [("operator", "norm1"), ("expand", "norm2")]

    def __init__(self, operator: Operator, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.operator = operator(in_channels, channels, stride=stride)
        self.norm1 = nn.BatchNorm2d(channels)
        self.expand = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or in_channels != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.norm1(self.operator(x)))
        out = self.norm2(self.expand(out))
        return self.relu(out + self.shortcut(x))


def nano(operator: Operator, *, in_channels: int, num_classes: int, image_size: int) -> nn.Module:
    """Three stages of one, two and two blocks, 32, 64 and 128 channels at stride 1, 2 and 4.

    Shape:
        (B, in_channels, H, W) to (B, num_classes). With attention window a, H and W must exceed 2 (a - 1) - 4,
        so that the last stage's map is larger than its reflection padding.
    """
    stem = nn.Sequential(
        nn.Conv2d(in_channels, WIDTHS[0], 3, padding=1, bias=False), nn.BatchNorm2d(WIDTHS[0]), nn.ReLU()
    )
    stages = []
    channels = WIDTHS[0]
    for stage, (width, depth) in enumerate(zip(WIDTHS, DEPTHS, strict=True)):
        blocks = []
        for block in range(depth):
            blocks.append(Block(operator, channels, width, stride=2 if stage and not block else 1))
            channels = width
        stages.append(nn.Sequential(*blocks))
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))
    model = nn.Sequential(stem, *stages, head)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return model
