"""Is each operator, on this device and in each dtype, the function that its literal reference is?"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from acmix_bench.backbones.build import operator_of
from acmix_bench.errors import UserError
from acmix_bench.meters import as_timed
from acmix_bench.meters.parity import gradient_of
from acmix_bench.meters.subject import Subject
from acmix_bench.runs.contract import Broken, NotPromised, Promise, tried
from acmix_bench.runs.contract_operator import BACKBONE, TRIALS, Trial, images
from acmix_bench.spec import library
from acmix_bench.spec.experiment import Case, Protocol
from acmix_bench.spec.variant import IMPLEMENTATIONS
from acmix_bench.train import devices

# How far from float64 a dtype may be, in norms: some roundings of it, and rectifiers that switch.
LIMITS = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 0.02, torch.bfloat16: 0.1}


@dataclass(frozen=True, kw_only=True)
class Known:
    """An operator as it is run, and what its reference gives in float64 on the CPU for an input."""

    module: nn.Module
    trial: Trial
    output: Tensor
    gradient: Tensor


def promises(device: torch.device) -> Iterator[Promise]:
    """Every attention in every dtype over the shapes that `check` tries too, and every way to run local attention."""
    for attention, trials in TRIALS.items():
        known = [_known(attention, trial) for trial in trials.values()]
        for dtype in LIMITS:
            name = f"{attention} {str(dtype).removeprefix('torch.')}"
            yield tried(name, lambda known=known, dtype=dtype: _agreement(known, device, dtype))  # type: ignore[misc]
    for implementation in IMPLEMENTATIONS:
        if implementation != "reference":
            name = f"implementation={implementation}"
            yield tried(name, lambda name=implementation: _implementation(device, name))  # type: ignore[misc]


def subject(device: torch.device, implementation: str = "auto", **protocol: Any) -> Subject:
    """ACmix alone, 64 channels at 14x14, in the default protocol but for the device and what is given."""
    variant = library.load_variant("acmix").model_copy(update={"implementation": implementation})
    case = Case(backbone="operator-64", image_size=14, data="digits")
    return Subject(variant=variant, case=case, protocol=Protocol(device=str(device), **protocol).model_dump(), seed=0)


def _implementation(device: torch.device, name: str) -> str:
    try:
        checks = as_timed.measure(subject(device, name))["checks"]
    except UserError as reason:  # what cannot run here says so
        raise NotPromised(str(reason)) from reason
    for what, found in checks.items():
        if not found["difference"] <= found["tolerance"]:
            raise Broken(
                f"{what} is {found['difference']:.1g} from float64, where {found['tolerance']:.1g} is the most"
            )
    return f"within {max(found['difference'] for found in checks.values()):.0e} of float64: {', '.join(checks)}"


def _known(attention: str, trial: Trial) -> Known:
    make = operator_of(library.load_variant("acmix"), BACKBONE[attention])
    assert make is not None  # ACmix stands in all of these
    torch.manual_seed(0)
    module = make(*trial.sizes, **trial.more).eval()
    literal = make(*trial.sizes, **trial.more, implementation="reference").eval().double()
    literal.load_state_dict(module.state_dict())
    output, gradient = _run(literal, images(trial).double(), trial)
    return Known(module=module, trial=trial, output=output, gradient=gradient)


def _agreement(known: list[Known], device: torch.device, dtype: torch.dtype) -> str:
    """How far output and gradient lie from the reference's, in the shape where that is farthest."""
    try:
        devices.refuse_dtype(device, str(dtype).removeprefix("torch."))
    except UserError as reason:
        raise NotPromised(str(reason)) from reason
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    half = dtype not in (torch.float64, torch.float32)
    farthest = 0.0
    for one in known:
        module = copy.deepcopy(one.module).to(device, wide)
        with torch.autocast(device.type, dtype=dtype if half else torch.bfloat16, enabled=half):
            found = _run(module, images(one.trial).to(device, wide), one.trial)
        for ours, theirs in zip(found, (one.output, one.gradient), strict=True):
            apart = ((ours.cpu().double() - theirs).norm() / theirs.norm()).item()
            farthest = apart if not apart <= farthest else farthest  # NaN too
    if not farthest <= LIMITS[dtype]:
        raise Broken(f"{farthest:.1g} from the reference, where {LIMITS[dtype]:g} is the most")
    return f"within {farthest:.0e} of the reference, output and gradient, {len(known)} shapes"


def _run(module: nn.Module, x: Tensor, trial: Trial) -> tuple[Tensor, Tensor]:
    """The output, and the gradient of the input."""
    x = x.requires_grad_()
    out = module(x, *trial.call)
    return out.detach(), gradient_of(out, x)
