"""Operators as a user would bring them: one that works, and ones that go wrong in every way."""

from __future__ import annotations

import os
import signal
import time

import torch
from torch import Tensor, nn


class Works(nn.Module):
    def __init__(self, in_channels: int, channels: int, *, stride: int = 1, gain: float = 1.0) -> None:
        super().__init__()
        self.project = nn.Conv2d(in_channels, channels, 1, stride)
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * self.project(x)


class Unknown(Works):
    def forward(self, x: Tensor) -> Tensor:
        return torch.erfinv(super().forward(x).clamp(-0.5, 0.5))


class Counted(Works):
    def macs(self, x: Tensor) -> dict[str, int]:
        stride, (height, width) = self.project.stride[0], x.shape[-2:]
        return {"stage_1": self.project.weight.numel() * -(-height // stride) * -(-width // stride)}


class Miscounted(Works):
    def macs(self, x: Tensor) -> dict[str, int]:
        return {"total": x.numel()}


class Hidden(nn.Conv2d):
    def __init__(self, in_channels: int, channels: int, *, stride: int = 1) -> None:
        super().__init__(in_channels, channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        return out @ out.mT @ out


class Raises(Works):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("the first line\nthe second")


class Killed(Works):
    def forward(self, x: Tensor) -> Tensor:
        os.kill(os.getpid(), signal.SIGKILL)
        return x


class Hangs(Works):
    def forward(self, x: Tensor) -> Tensor:
        time.sleep(60)
        return x


class Diverges(Works):
    def forward(self, x: Tensor) -> Tensor:
        return torch.nan * self.project(x)
