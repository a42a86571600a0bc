"""torchvision's ResNet, the operator in place of every bottleneck's 3x3 convolution (ACmix, section 4.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn
from torchvision.models.resnet import Bottleneck, ResNet

if TYPE_CHECKING:
    from acmix_bench.backbones.build import Operator


def resnet(
    depths: tuple[int, ...], operator: Operator, *, in_channels: int, num_classes: int, image_size: int
) -> nn.Module:
    """Bottlenecks of 64, 128, 256 and 512 channels at stride 4, 8, 16 and 32; modules are named as torchvision's.

    Shape:
        (B, in_channels, H, W) to (B, num_classes).
    """
    model = ResNet(Bottleneck, list(depths), num_classes=num_classes)
    if in_channels != 3:
        model.conv1 = nn.Conv2d(in_channels, 64, 7, 2, 3, bias=False)
    for module in model.modules():
        if isinstance(module, Bottleneck):
            width = module.conv2.in_channels
            module.conv2 = operator(width, width, stride=module.stride)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model
