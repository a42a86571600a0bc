"""One operator in both implementations, in float64, and how far the two are apart."""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from torch import nn

CHOICES = {
    "paths": ["both", "attention", "conv"],
    "mix": ["fixed", "alpha", "alpha-beta"],
    "shift": ["tensor", "group"],
    "kernel": ["fixed", "learned"],
    "init": ["shift", "random"],
}
AXES = st.fixed_dictionaries({axis: st.sampled_from(values) for axis, values in CHOICES.items()})


def pair(make, *sizes, **axes) -> tuple[nn.Module, nn.Module]:
    """The same layer in both implementations, in float64, with every parameter off its start."""
    production = make(*sizes, implementation="production", **axes).double()
    with torch.no_grad():
        for parameter in production.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    literal = make(*sizes, implementation="reference", **axes).double()
    literal.load_state_dict(production.state_dict())
    return production, literal


class At(nn.Module):
    """A layer with its further arguments, so that it takes one tensor."""

    def __init__(self, layer: nn.Module, *arguments: object) -> None:
        super().__init__()
        self.layer, self.arguments = layer, arguments

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x, *self.arguments)


def worst_difference(first: torch.nn.Module, second: torch.nn.Module, x: torch.Tensor) -> float:
    """The largest difference of the outputs and of all gradients, the input's included."""
    results = []
    for module in (first, second):
        x_ = x.clone().requires_grad_()
        out = module(x_)
        weight = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out).sin()
        gradients = torch.autograd.grad((out * weight).sum(), [x_, *module.parameters()])
        results.append([out, *gradients])
    assert all(a.shape == b.shape for a, b in zip(*results, strict=True))
    return max((a - b).abs().max().item() for a, b in zip(*results, strict=True))
