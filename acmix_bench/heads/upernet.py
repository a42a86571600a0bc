"""UPerNet (Xiao et al., Unified Perceptual Parsing for Scene Understanding, ECCV 2018), as Swin uses it."""

from __future__ import annotations

from torch import Tensor, nn

from acmix_bench.errors import UserError
from acmix_bench.heads.segmenter import Segmenter, widths_of

try:
    from segmentation_models_pytorch.base.initialization import initialize_decoder
    from segmentation_models_pytorch.decoders.upernet.decoder import UPerNetDecoder
except ImportError as error:
    raise UserError(
        "head upernet: segmentation-models-pytorch is not installed: pip install 'acmix-bench[dense]'"
    ) from error

CHANNELS = 512


def upernet(features: nn.Module, *, classes: int) -> Segmenter:
    """UPerNet on a backbone's maps, with an auxiliary head on the third of them."""
    decoder = Decoder(widths_of(features))
    return Segmenter(features, decoder, channels=CHANNELS, classes=classes, auxiliary=True)


class Decoder(nn.Module):
    """segmentation-models-pytorch's, which is mmsegmentation's but for a LayerNorm of each map that it begins with.

    Those are left out: a backbone that needs them has its own, as Swin does.

    Raises:
        UserError: in training on one image, whose smallest pooled map is one pixel: BatchNorm has nothing to average.
    """

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        unused = (0, 0)  # the widths at stride 1 and 2
        self.decoder = UPerNetDecoder([*unused, *widths], decoder_channels=CHANNELS)
        self.decoder.feature_norms = nn.ModuleList(nn.Identity() for _ in widths)
        initialize_decoder(self.decoder)

    def forward(self, maps: list[Tensor]) -> Tensor:
        try:
            return self.decoder([maps[0], maps[0], *maps])
        except ValueError as error:
            if "Expected more than 1 value per channel" not in str(error):
                raise
            raise UserError("head upernet needs a batch of 2 images or more a process in training") from error
