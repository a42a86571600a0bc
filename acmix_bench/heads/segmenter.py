"""What the heads of segmentation share: a decoder of the four maps, classes for its pixels, and the loss."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from acmix_bench.data.labelmaps import IGNORED

STRIDE = 32  # of the coarsest map: images are padded to whole numbers of its pixels
DROPOUT = 0.1
AUXILIARY_CHANNELS, AUXILIARY_WEIGHT = 256, 0.4


class Segmenter(nn.Module):
    """A class for every pixel.

    Args:
        decoder: the four maps to one at stride 4, of `channels`.
        auxiliary: whether the third map is classified too, in training only.

    Shape:
        (B, 3, H, W) to (B, classes, H, W).
    """

    def __init__(
        self, features: nn.Module, decoder: nn.Module, *, channels: int, classes: int, auxiliary: bool = False
    ) -> None:
        super().__init__()
        self.features, self.decoder, self.classifier = features, decoder, classifier(channels, classes)
        self.auxiliary = auxiliary_head(widths_of(features)[2], classes) if auxiliary else None

    def forward(self, images: Tensor, targets: Tensor | None = None) -> Tensor | dict[str, Tensor]:
        maps = self._maps(images)
        scores = at_size_of(images, self.classifier(self.decoder(maps)))
        if targets is None:
            return scores
        losses = {"segment": pixel_loss(scores, targets)}
        if self.auxiliary is not None:
            coarse = at_size_of(images, self.auxiliary(maps[2]))
            losses["auxiliary"] = AUXILIARY_WEIGHT * pixel_loss(coarse, targets)
        return losses

    def network(self, images: Tensor) -> tuple[Tensor, ...]:
        return (at_size_of(images, self.classifier(self.decoder(self._maps(images)))),)

    def _maps(self, images: Tensor) -> list[Tensor]:
        height, width = images.shape[-2:]
        return self.features(F.pad(images, (0, -width % STRIDE, 0, -height % STRIDE)))


def widths_of(features: nn.Module) -> list[int]:
    """The channels of the four maps."""
    return [info["num_chs"] for info in features.feature_info]  # type: ignore[union-attr]


def conv_bn_relu(in_channels: int, channels: int, kernel: int = 3) -> nn.Module:
    """A convolution that keeps the size, initialised as mmsegmentation's."""
    block = Conv2dNormActivation(in_channels, channels, kernel)
    nn.init.kaiming_normal_(block[0].weight, mode="fan_out", nonlinearity="relu")
    return block


def classifier(channels: int, classes: int) -> nn.Module:
    """Scores of the classes for each pixel."""
    linear = nn.Conv2d(channels, classes, 1)
    nn.init.normal_(linear.weight, std=0.01)
    nn.init.zeros_(linear.bias)  # type: ignore[arg-type]
    return nn.Sequential(nn.Dropout2d(DROPOUT), linear)


def auxiliary_head(in_channels: int, classes: int) -> nn.Module:
    """A convolution and a classifier on one map: mmsegmentation's FCNHead with one convolution."""
    return nn.Sequential(conv_bn_relu(in_channels, AUXILIARY_CHANNELS), classifier(AUXILIARY_CHANNELS, classes))


def at_size_of(images: Tensor, scores: Tensor) -> Tensor:
    """A map of padded images at the size of the images themselves."""
    height, width = images.shape[-2:]
    padded = height + -height % STRIDE, width + -width % STRIDE
    return F.interpolate(scores, padded, mode="bilinear", align_corners=False)[..., :height, :width]


def pixel_loss(scores: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy over all pixels, where an ignored one counts as 0: as in mmsegmentation, and never of nothing."""
    return F.cross_entropy(scores, targets, ignore_index=IGNORED, reduction="none").mean()
