"""Whether a variant gives, in the type and on the device that it is timed in, what it gives in float64 on the CPU.

Parity in float64 says that the formulas are right; this says it of the kernels, autocast, layout and compilation that
are timed. Float64 runs on the CPU in torch's operations: of one image that takes seconds, and no kernel is shared with
what is checked. Each operator is checked alone as well: through a whole network, a gradient in a half type may be as
far from the true one as that is from zero, and by itself it is not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from acmix_bench.meters.parity import answer, gradient_of, move_norms
from acmix_bench.meters.subject import Subject

# Bits of a significand, the hidden one too; TF32 cuts operands to as many as float16 has.
BITS = {"float64": 53, "float32": 24, "tf32": 11, "float16": 11, "bfloat16": 8}
# A tolerance is so often what nudging weights and input by the last bit changes: each layer rounds its results as well.
ROUNDED = 8
# And so often what nudging them by float32's last bit changes (in float64 by its own): in it sums of thousands of
# products are added up, by algorithms such as Winograd's too.
SUMMED = 100
LEAST = 1e-9  # as of parity in float64
NOT_FINITE = 1e9  # how far from anything that is


def measure(subject: Subject) -> dict[str, Any]:
    """Compare outputs and input gradients with those of float64, of the same weights, in evaluation mode.

    Returns:
        `checks`: of the network for one image, and of each of its operators for a random input of the size that it has
        there, the norm of the difference relative to that in float64 (1e9 where it is not finite), and the tolerance:
        from how far float64 itself moves when weights and input are nudged by the type's last bit. A gradient jumps
        where a rectifier switches, and as many switch as the output moves: its tolerance is at least the root of that.
        A small nudge may switch none where rounding switches one, and one may count for a hundredth of a network's
        gradient: for that the nudge is also as large as the tolerance of outputs.
    """
    exact = replace(subject, protocol={"dtype": "float64", "device": "cpu"}).in_torch()
    model, oracle = subject.build("cpu").eval(), exact.build().eval()
    move_norms(model)
    oracle.load_state_dict(model.state_dict(), strict=False)
    image = subject.images(1, "cpu")
    inputs: dict[str, tuple[Any, ...]] = {"": (image,)}
    if not subject.variant.runs.fuses:  # a fused operator does the work of the norm behind it, too
        inputs |= _inputs(oracle, image.double())
    model = subject.prepare(model.to(subject.device))
    ours, true = (_run(*each, inputs) for each in ((subject, model), (exact, oracle)))
    type_ = subject.protocol["dtype"]
    bits = BITS["tf32" if type_ == "float32" and subject.protocol.get("products") == "tf32" else type_]
    moved = _run(exact, _nudged(oracle, bits), inputs, bits)
    often = ROUNDED + SUMMED * 2.0 ** min(0, bits - BITS["float32"])
    coarse = bits - math.log2(often)
    jumped = _run(exact, _nudged(oracle, coarse), {"": (image,)}, coarse)
    jump = _apart(jumped[""], true[""])[1]
    checks: dict[str, Any] = {}
    for name in inputs:
        differences, moves = _apart(ours[name], true[name]), _apart(moved[name], true[name])
        least = {"output": LEAST, "gradient": max(LEAST, math.sqrt(moves[0]), 0 if name else ROUNDED * jump)}
        for what, difference, move in zip(least, differences, moves, strict=True):
            tolerance = max(least[what], often * move)
            checks[f"{name} {what}".strip()] = {"difference": difference, "tolerance": tolerance}
    return {"checks": checks}


def _inputs(oracle: nn.Module, image: Tensor) -> dict[str, tuple[Any, ...]]:
    """What each operator in a network is called with, by its name, but with random numbers for what it works on."""
    found: dict[str, tuple[Any, ...]] = {}
    draw = torch.Generator().manual_seed(0)

    def keep(name: str, arguments: tuple[Any, ...]) -> None:
        drawn = torch.randn(arguments[0].shape, generator=draw)
        found[name] = (drawn, *arguments[1:])

    # An operator on its own is the network.
    named = [(name, module) for name, module in oracle.named_modules() if name and hasattr(module, "paths")]
    hooks = [
        module.register_forward_pre_hook(lambda _, arguments, name=name: keep(name, arguments))
        for name, module in named
    ]
    with torch.no_grad():
        oracle(image)
    for hook in hooks:
        hook.remove()
    return found


def _run(
    subject: Subject, model: nn.Module, inputs: dict[str, tuple[Any, ...]], bits: float | None = None
) -> dict[str, list[Tensor]]:
    """Of the network and each operator the output without and with gradients (it may be other code), and the gradient.

    All in float64 on the CPU.

    Args:
        bits: nudge what they work on by the last of so many.
    """
    modules, found = dict(model.named_modules()), dict[str, list[Tensor]]()
    for name, arguments in inputs.items():
        x, *others = tree_map(lambda value: _placed(value, subject), arguments)
        x = (x if bits is None else _nudge(x, bits)).detach().requires_grad_()
        module = model if not name else modules[name]
        with subject.autocast():
            with torch.no_grad():
                alone = answer(module, x, *others)
            out = answer(module, x, *others)
        values = [torch.stack([alone, out.detach()]), gradient_of(out, x)]
        found[name] = [value.double().cpu() for value in values]
    return found


def _placed(value: Any, subject: Subject) -> Any:
    """A tensor on the subject's device, numbers in the type of its weights; images in its layout."""
    if not isinstance(value, Tensor):
        return value
    value = value.to(subject.device, subject.weights if value.is_floating_point() else value.dtype)
    return value.contiguous(memory_format=subject.layout) if value.ndim == 4 else value


def _apart(ours: Sequence[Tensor], true: Sequence[Tensor]) -> list[float]:
    """Of each tensor how far it is from the true one, relative to that."""
    found = [((a - b).norm() / b.norm()).item() for a, b in zip(ours, true, strict=True)]
    return [each if math.isfinite(each) else NOT_FINITE for each in found]


def _nudged(model: nn.Module, bits: float) -> nn.Module:
    """The model itself, with all parameters moved by as much as rounding may move them."""
    for parameter in model.parameters():
        parameter.data = _nudge(parameter.data, bits)
    return model


def _nudge(x: Tensor, bits: float) -> Tensor:
    """Move each number up or down by at most its last of so many bits."""
    draw = torch.Generator().manual_seed(x.numel())
    return x * (1 + 2.0**-bits * (2 * torch.rand(x.shape, generator=draw, dtype=torch.float64) - 1).to(x))
