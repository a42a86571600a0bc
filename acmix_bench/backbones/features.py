"""The maps of a backbone's four stages, as dense tasks use them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import suppress
from itertools import count, pairwise

from torch import Tensor, nn

from acmix_bench.backbones import find
from acmix_bench.errors import ShapeError, UserError
from acmix_bench.ops.reflection import MapTooSmall

STRIDES = (4, 8, 16, 32)


class Features(nn.Module):
    """A backbone that gives its stages' maps instead of classes.

    It runs the model's modules one after another, in the order in which they stand in it, up to the last stage. What
    comes after (norms, the class token, the head) is no part of it. Each map of a window backbone gets a LayerNorm of
    its own, as in Swin's code for dense tasks.

    `feature_info` says of each map its channels, stride and module, under the keys that timm's `features_only` uses
    (`num_chs`, `reduction`, `module`).

    Args:
        model: what `build` made; its modules are shared, not copied.
        name: the backbone's name.

    Shape:
        (B, in_channels, H, W) to four maps (B, C, H / stride, W / stride), at stride 4, 8, 16 and 32. ResNet and Swin
        round sizes up, SAN and PVT down, at each stage.

    Raises:
        UserError: for a backbone without four such stages, or an image that is too small for it.
    """

    def __init__(self, model: nn.Module, name: str) -> None:
        super().__init__()
        entry = find(name)
        if not entry.stages:
            raise UserError(f"backbone {name} has no four stages at stride 4 to 32")
        self.name = name
        self.channels_last = entry.attention == "window"
        self.feature_info = [
            {"num_chs": channels, "reduction": stride, "module": module}
            for (module, channels), stride in zip(entry.stages, STRIDES, strict=True)
        ]
        wanted = [module for module, _ in entry.stages]
        steps = dict(_one_after_another(model, wanted, ""))
        places = [[*steps].index(module) for module in wanted if module in steps]
        if len(places) < len(wanted) or places != sorted(places):
            raise UserError(
                f"backbone {name}: its stages {', '.join(wanted)} must stand one after another in the model, which has "
                f"{', '.join(steps)}"
            )
        ends = [0, *(place + 1 for place in places)]
        self.stages = nn.ModuleList(nn.Sequential(*[*steps.values()][start:end]) for start, end in pairwise(ends))
        norms = (nn.LayerNorm(channels) if self.channels_last else nn.Identity() for _, channels in entry.stages)
        self.norms = nn.ModuleList(norms)

    def leave_out(self, first: int) -> None:
        """Leave the first maps as they are, which nobody reads: without norms that would never learn."""
        for number in range(first):
            self.norms[number] = nn.Identity()

    def forward(self, x: Tensor) -> list[Tensor]:
        height, width = x.shape[-2:]
        if min(height, width) < STRIDES[-1]:
            raise ShapeError(self._too_small(x, f"the last map has stride {STRIDES[-1]}"))
        try:
            return self._maps(x)
        except MapTooSmall as error:
            raise ShapeError(self._too_small(x, str(error))) from error

    def _maps(self, x: Tensor) -> list[Tensor]:
        maps = []
        for stage, norm in zip(self.stages, self.norms, strict=True):
            x = stage(x)
            maps.append(norm(x).permute(0, 3, 1, 2) if self.channels_last else x)
        return maps

    def _too_small(self, x: Tensor, reason: str) -> str:
        """What is wrong with an image, with the edge that would do, which is found by trying shapes alone."""
        shapes = copy.deepcopy(self).to("meta").eval()
        for edge in count(STRIDES[-1], STRIDES[-1]):
            with suppress(MapTooSmall):
                shapes._maps(x.new_empty(1, x.shape[1], edge, edge, device="meta"))
                break
        height, width = x.shape[-2:]
        return f"{self.name} at {height}x{width}: use an image of {edge} pixels each way or more: {reason}"


def _one_after_another(module: nn.Module, stages: list[str], prefix: str) -> Iterator[tuple[str, nn.Module]]:
    """The modules in the order in which they stand: a container of stages by what is in it, all others whole."""
    for name, child in module.named_children():
        if any(stage.startswith(f"{prefix}{name}.") for stage in stages):
            yield from _one_after_another(child, stages, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", child
