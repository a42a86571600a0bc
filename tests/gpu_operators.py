"""Operators that go wrong on a GPU, and nowhere else."""

from __future__ import annotations

import torch
from operators_of_mine import Works
from torch import Tensor


class Hungry(Works):
    """It takes a sixth of the GPU's memory an image."""

    def forward(self, x: Tensor) -> Tensor:
        if x.is_cuda:
            sixth = torch.cuda.get_device_properties(x.device).total_memory // 6
            torch.empty(len(x) * sixth, dtype=torch.uint8, device=x.device)
        return super().forward(x)


class Asserts(Works):
    """Its index is out of range, which a kernel's own assertion finds; nothing else runs in the process after that."""

    def forward(self, x: Tensor) -> Tensor:
        if x.is_cuda:
            numbers, beyond = torch.zeros(2, device=x.device), torch.tensor([5], device=x.device)
            return super().forward(x) + numbers[beyond]
        return super().forward(x)
