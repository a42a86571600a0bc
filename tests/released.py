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


SWIN_DEPTHS, SWIN_HEADS, SWIN_WIDTHS = (2, 2, 6, 2), (3, 6, 12, 24), (96, 192, 384, 768)


def swin_state() -> State:
    """A Swin-T-ACmix checkpoint as the released code names and shapes it, with random weights."""
    torch.manual_seed(1)
    s: State = {"patch_embed.proj.weight": weight(96, 3, 4, 4), "patch_embed.proj.bias": torch.randn(96) * 0.1}

    def linear(name: str, out: int, into: int, *, bias: bool = True) -> None:
        s[f"{name}.weight"] = weight(out, into)
        if bias:
            s[f"{name}.bias"] = torch.randn(out) * 0.1

    def layer_norm(name: str, width: int) -> None:
        s[f"{name}.weight"], s[f"{name}.bias"] = torch.rand(width) + 0.5, torch.randn(width) * 0.1

    layer_norm("patch_embed.norm", 96)
    for stage, (depth, heads, width) in enumerate(zip(SWIN_DEPTHS, SWIN_HEADS, SWIN_WIDTHS, strict=True)):
        for block in range(depth):
            at = f"layers.{stage}.blocks.{block}"
            linear(f"{at}.attn.qkv", 3 * width, width)
            linear(f"{at}.attn.proj", width, width)
            s[f"{at}.attn.relative_position_bias_table"] = torch.randn(169, heads)
            s[f"{at}.attn.relative_position_index"] = torch.zeros(49, 49, dtype=torch.long)
            s[f"{at}.attn.fc.weight"] = weight(9, 3 * heads, 1, 1)
            s[f"{at}.attn.fc.bias"] = torch.randn(9)
            s[f"{at}.attn.dep_conv.weight"] = weight(width, 9, 3, 3)
            s[f"{at}.attn.rate1"], s[f"{at}.attn.rate2"] = torch.tensor([0.3]), torch.tensor([0.8])
            if block % 2 and stage < 3:
                s[f"{at}.attn_mask"] = torch.zeros(1)
            for number in (1, 2):
                layer_norm(f"{at}.norm{number}", width)
            linear(f"{at}.mlp.fc1", 4 * width, width)
            linear(f"{at}.mlp.fc2", width, 4 * width)
        if stage < 3:
            linear(f"layers.{stage}.downsample.reduction", 2 * width, 4 * width, bias=False)
            layer_norm(f"layers.{stage}.downsample.norm", 4 * width)
    layer_norm("norm", 768)
    linear("head", 1000, 768)
    return s
