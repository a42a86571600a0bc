"""An operator that goes wrong in the way it is told to, and meters that are quick; copied beside a sweep as mine.py."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from acmix_bench.meters import METERS, accuracy
from acmix_bench.spec.meter import Meter, Metric


class Fails(nn.Module):
    def __init__(self, in_channels: int, channels: int, *, stride: int = 1, how: str = "not") -> None:
        super().__init__()
        self.project, self.how = nn.Conv2d(in_channels, channels, 1, stride), how

    def forward(self, x: Tensor) -> Tensor:
        if not x.is_meta:  # its shapes are right
            self.fail()
        return self.project(x) * (torch.nan if self.how == "nan" else 1)

    def fail(self) -> None:
        if self.how == "error":
            raise RuntimeError("the operator's own error")
        if self.how == "segfault":
            print("the last words")
            ctypes.string_at(0)
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "hang":
            time.sleep(600)
        if self.how == "memory":
            torch.ones(2**29)  # 2 GiB
        if self.how == "says":
            print("something", flush=True)
        while self.how == "endless":
            print("x" * 100_000)


def look(subject) -> dict[str, float]:
    torch.manual_seed(subject.seed)
    return {"score": subject.build()(torch.ones(1, 1, 16, 16)).mean().item()}


def count(subject) -> dict[str, float]:
    """A cell of a tenth of a second."""
    time.sleep(0.1)
    with Path("ended.txt").open("a") as file:
        file.write(f"{subject.seed}\n")
    return {"score": subject.seed / 100}


def train(subject) -> dict[str, Any]:
    """As accuracy does, with a checkpoint after every update."""
    accuracy.SECONDS_BETWEEN_SAVES = 0
    return accuracy.measure(subject)


LOOK, COUNT = (
    Meter(summary="a test's", measure=give, metrics=(Metric(key="score", title="score"),), repeats="seeds")
    for give in (look, count)
)

TRAIN = replace(METERS["accuracy"], summary="a test's", measure=train)
