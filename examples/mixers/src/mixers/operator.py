"""An operator for backbones with local attention: `(in_channels, channels, *, stride)`."""

import torch.nn.functional as F
from torch import Tensor, nn


class PooledMixer(nn.Module):
    """A 1x1 convolution, beside one of the map averaged over a window.

    Its keyword arguments are axes: `--variant operator=pooled,window=3,5`.
    """

    def __init__(self, in_channels: int, channels: int, *, stride: int = 1, window: int = 3) -> None:
        super().__init__()
        self.stride, self.window = stride, window
        self.sharp = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
        self.smooth = nn.Conv2d(in_channels, channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        averaged = F.avg_pool2d(x, self.window, 1, self.window // 2, count_include_pad=False)
        return self.sharp(x) + self.smooth(averaged)

    def macs(self, x: Tensor) -> dict[str, int]:
        """Multiply-adds of one image by stage. Averages only add."""
        height, width = (-(-size // self.stride) for size in x.shape[-2:])
        return {"stage_1": 2 * self.sharp.weight.numel() * height * width}
