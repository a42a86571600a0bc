"""Operators as a user would bring them: one that works, and ones that go wrong in every way."""

from __future__ import annotations

import gc
import os
import signal
import time

import numpy as np
import torch
from torch import Tensor, nn

from acmix_bench.spec.meter import Meter, Metric


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
    """Its formula gives what a user's might."""

    def __init__(self, in_channels: int, channels: int, *, stride: int = 1, kind: str) -> None:
        super().__init__(in_channels, channels, stride=stride)
        self.kind = kind

    def macs(self, x: Tensor) -> object:
        given = {"numpy_int": np.int64(7), "zero_dim": torch.tensor(7), "flag": True, "part": 7.5, "negative": -7}
        whole = {"number": 123, "nothing": None, "total": {"total": x.numel()}}
        return whole[self.kind] if self.kind in whole else {"stage_1": given[self.kind]}


class Attends(Works):
    """As a user would write it: torch's own attention, and no formula."""

    def __init__(self, in_channels: int, channels: int, *, stride: int = 1) -> None:
        super().__init__(in_channels, channels, stride=stride)
        self.attention = nn.MultiheadAttention(channels, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        maps = super().forward(x)
        tokens = maps.flatten(2).transpose(1, 2)
        return self.attention(tokens, tokens, tokens)[0].transpose(1, 2).view_as(maps)


class Noisy(Works):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + torch.rand(1)


class Hidden(nn.Conv2d):
    def __init__(self, in_channels: int, channels: int, *, stride: int = 1) -> None:
        super().__init__(in_channels, channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        return out @ out.mT @ out


class Raises(Works):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("the first line\nthe second")


class RaisesLate(Works):
    """It warms up well, and fails when its samples are taken, while nothing is collected."""

    def forward(self, x: Tensor) -> Tensor:
        if not gc.isenabled():
            raise RuntimeError("not the first time")
        return super().forward(x)


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


def _meter(give) -> Meter:
    return Meter(
        summary="what a user's meter might give",
        measure=lambda subject: give(),
        metrics=(Metric(key="score", title="score"),),
    )


METER_NUMPY = _meter(lambda: {"score": np.float32(0.5), "samples": np.arange(3)})
METER_TENSOR = _meter(lambda: {"score": torch.tensor(2), "samples": torch.ones(2, 2)})
METER_NAN = _meter(lambda: {"score": float("nan")})
METER_TEXT = _meter(lambda: {"score": "high", "none": None})
METER_OBJECT = _meter(lambda: {"inner": {"score": object()}})
METER_OTHER = _meter(lambda: {"speed": 1})
METER_FLAG = _meter(lambda: {"score": True})
METER_NOTHING = _meter(lambda: None)
METER_RAISES = _meter(lambda: {}["no"])
METER_DEVICE = Meter(
    summary="a meter that reads the device",
    measure=lambda subject: {"score": 1},
    metrics=(Metric(key="score", title="score"),),
    reads=("device",),
    repeats="seeds",
)
