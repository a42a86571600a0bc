"""What a variant is, before it is timed: parameters, operations, and whether it is the function it claims to be."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from acmix_bench.meters.ledger import Bookkeeper, arithmetic
from acmix_bench.meters.subject import Subject
from acmix_bench.spec.variant import Variant


def measure(subject: Subject) -> dict[str, Any]:
    """Build the variant in float64 and compare it with the one that it claims to equal.

    Returns:
        Names and shapes of the parameters, names of the operations that compute, and where there is a claim the largest
        difference of outputs and of input gradients, relative to the largest of them.
    """
    exact = replace(subject, protocol={**subject.protocol, "dtype": "float64", "device": "cpu"})
    model, image = exact.in_torch().build().eval(), exact.images(1)
    values: dict[str, Any] = {"shapes": {name: list(p.shape) for name, p in model.named_parameters()}}
    with torch.no_grad():
        model(image)  # what is remembered by size is made now, and counts as no one's operation
        with Bookkeeper() as keeper:
            model(image)
    values["operations"] = sorted(arithmetic(keeper.ledger))
    equal = subject.variant.same_function()
    if equal is not None:
        values |= {"claims": equal.label(subject.variant), "difference": _difference(exact, equal, image)}
    return values


def _difference(subject: Subject, variant: Variant, image: Tensor) -> float:
    """The largest relative difference of output and input gradient, with the same weights in both.

    The output is compared as in training and as in inference.
    """
    model = subject.build().eval()
    move_norms(model)
    other = replace(subject, variant=variant).build().eval()
    other.load_state_dict(model.state_dict(), strict=False)
    model = subject.prepare(model)
    (ours, our_gradient), (theirs, their_gradient) = _run(model, image), _run(other, image)
    with torch.no_grad():  # which may be other code
        differences = [(out - theirs).abs().max() / theirs.abs().max() for out in (ours, answer(model, image))]
    differences.append((our_gradient - their_gradient).abs().max() / their_gradient.abs().max())
    largest = torch.stack(differences).max().item()
    return largest if math.isfinite(largest) else 1.0  # NaN agrees with nothing


def move_norms(model: nn.Module) -> None:
    """Give every BatchNorm what training could leave in it: at its start it scales and shifts nothing."""
    draw = torch.Generator().manual_seed(0)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for values in (norm.running_mean, norm.bias):
                if values is not None:
                    values.data.normal_(0, 0.2, generator=draw)
            for values in (norm.running_var, norm.weight):
                if values is not None:
                    values.data.uniform_(0.5, 1.5, generator=draw)


def answer(model: nn.Module, image: Tensor, *others: Any) -> Tensor:
    """The output, or all of several in one row."""
    out = model(image, *others)
    return out if isinstance(out, Tensor) else torch.cat([one.flatten() for one in tree_leaves(out)])


def gradient_of(out: Tensor, image: Tensor) -> Tensor:
    """The gradient of an output by the image that it is of, for weights of either sign, in float32 at least."""
    out = out if out.dtype == torch.float64 else out.float()
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype, device=out.device).view_as(out).sin()
    (gradient,) = torch.autograd.grad((out * weights).sum(), image)
    return gradient


def _run(model: nn.Module, image: Tensor) -> tuple[Tensor, Tensor]:
    """The output, and the gradient of the input."""
    x = image.clone().requires_grad_()
    out = answer(model, x)
    return out.detach(), gradient_of(out, x)
