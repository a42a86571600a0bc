"""Checkpoints as the released code names and shapes them, with random weights."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

State = dict[str, Tensor]
DEPTHS = (1, 2, 4, 1)
HEADS, WINDOW = 4, 7


def norm(state: State, name: str, width: int) -> None:
    state |= {f"{name}.weight": 0.2 * torch.rand(width) + 0.4, f"{name}.bias": torch.randn(width) * 0.1}
    state |= {f"{name}.running_mean": torch.randn(width) * 0.1, f"{name}.running_var": torch.rand(width) + 0.5}
    state[f"{name}.num_batches_tracked"] = torch.tensor(1)


def weight(*shape: int) -> Tensor:
    fan_in = np.prod(shape[1:]) if len(shape) > 1 else 1
    return torch.randn(*shape) / fan_in**0.5


def resnet_state() -> State:
    """A ResNet-26-ACmix checkpoint as the released code names and shapes it, with random weights."""
    torch.manual_seed(0)
    state: State = {"conv1.weight": weight(64, 3, 7, 7)}
    norm(state, "bn1", 64)
    before = 64
    for stage, depth in enumerate(DEPTHS, start=1):
        width = 32 * 2**stage
        for block in range(depth):
            at = f"layer{stage}.{block}"
            state[f"{at}.conv1.weight"] = weight(width, before, 1, 1)
            for number in (1, 2, 3):
                state[f"{at}.conv2.conv{number}.weight"] = weight(width, width, 1, 1)
                state[f"{at}.conv2.conv{number}.bias"] = torch.randn(width) * 0.1
            state[f"{at}.conv2.conv_p.weight"] = weight(width // HEADS, 2, 1, 1)
            state[f"{at}.conv2.conv_p.bias"] = torch.randn(width // HEADS)
            state[f"{at}.conv2.fc.weight"] = weight(9, 3 * HEADS, 1, 1)
            state[f"{at}.conv2.dep_conv.weight"] = weight(width, 9, 3, 3)
            state[f"{at}.conv2.rate1"], state[f"{at}.conv2.rate2"] = torch.tensor([0.7]), torch.tensor([0.4])
            state[f"{at}.conv3.weight"] = weight(4 * width, width, 1, 1)
            for number, channels in ((1, width), (2, width), (3, 4 * width)):
                norm(state, f"{at}.bn{number}", channels)
            if not block:
                state[f"{at}.downsample.0.weight"] = weight(4 * width, before, 1, 1)
                norm(state, f"{at}.downsample.1", 4 * width)
            before = 4 * width
    return state | {"fc.weight": weight(1000, before), "fc.bias": torch.randn(1000)}
