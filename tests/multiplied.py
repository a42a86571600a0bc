"""Multiply-adds counted apart from the ledger: an oracle of its own."""

from __future__ import annotations

from math import prod

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode


class Products(TorchDispatchMode):
    """Counts every product of two tensors' elements that a multiply-and-sum makes."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.mul.Tensor and prod(out.shape) > 1 and isinstance(args[1], torch.Tensor):
            self.count += out.numel()
        return out


def multiplied(module: torch.nn.Module, x: torch.Tensor) -> int:
    """All multiply-adds of a forward pass: matrix products and convolutions, and multiply-and-sum."""
    counter, products = FlopCounterMode(display=False), Products()
    with torch.no_grad(), counter, products:
        module(x)
    return counter.get_total_flops() // 2 + products.count
