"""The maps of a backbone's four stages, as dense tasks use them."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from acmix_bench.backbones import find
from acmix_bench.errors import UserError

STRIDES = (4, 8, 16, 32)


class Features(nn.Module):
    """A backbone that gives its stages' maps instead of classes.

    `feature_info` says of each its channels, stride and module, under the keys that timm's `features_only` uses
    (`num_chs`, `reduction`, `module`).

    Args:
        model: what `build` made.
        name: the backbone's name.

    Shape:
        (B, in_channels, H, W) to four maps (B, C, H / stride, W / stride), at stride 4, 8, 16 and 32.

    Raises:
        UserError: for a backbone without four such stages.
    """

    def __init__(self, model: nn.Module, name: str) -> None:
        super().__init__()
        self.model = model
        self._maps: list[Tensor] = []
        entry = find(name)
        if not entry.stages:
            raise UserError(f"backbone {name} has no four stages at stride 4 to 32")
        self.channels_last = entry.attention == "window"
        self.feature_info = [
            {"num_chs": channels, "reduction": stride, "module": module}
            for (module, channels), stride in zip(entry.stages, STRIDES, strict=True)
        ]
        for module, _ in entry.stages:
            model.get_submodule(module).register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, inputs: Any, output: Any) -> None:
        pixels = output[0] if isinstance(output, tuple) else output
        self._maps.append(pixels.permute(0, 3, 1, 2) if self.channels_last else pixels)

    def forward(self, x: Tensor) -> list[Tensor]:
        self._maps = []
        self.model(x)
        maps, self._maps = self._maps, []
        return maps
