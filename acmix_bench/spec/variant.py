"""A variant: a choice on the operator's axes. Each axis is declared once, at its field."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationInfo, field_validator

from acmix_bench.errors import UserError, unknown
from acmix_bench.ops import OPERATORS
from acmix_bench.spec.axis import Axis
from acmix_bench.spec.meter import Meter
from acmix_bench.spec.strict import Value


@dataclass(frozen=True, kw_only=True)
class Implementation:
    """A way to run a variant that leaves its function as it is.

    Attributes:
        fuses: whether the network is fused, for inference alone.
        compiles: what torch.compile takes: nothing, each operator, the network, or the attention of each operator.
        made: whether the operator itself is made so; else it is made as any, and changed once it is built.
        is_local: whether it is for local attention alone.
    """

    summary: str
    fuses: bool = False
    compiles: Literal["", "operators", "network", "attention"] = ""
    made: bool = False
    is_local: bool = False

    def is_measured_by(self, meter: Meter) -> bool:
        """Whether this meter's number of it says something: a compiled network learns what any other does."""
        if not meter.trains:
            return True
        return not self.fuses and not (self.compiles and meter.repeats == "seeds")


IMPLEMENTATIONS = {
    "auto": Implementation(summary="C++ where it serves the case, and else torch's operations"),
    "native": Implementation(summary="C++, or an error; local attention alone", made=True, is_local=True),
    "production": Implementation(summary="torch's operations", made=True),
    "flex": Implementation(
        summary="local attention in torch's flex_attention, or an error; on the CPU inference alone",
        compiles="attention",
        made=True,
        is_local=True,
    ),
    "natten": Implementation(
        summary="local attention in NATTEN where it is installed, or an error; on CUDA; not run yet",
        made=True,
        is_local=True,
    ),
    "reference": Implementation(summary="its literal reference, as it was released", made=True),
    "compiled": Implementation(summary="torch.compile runs each operator", compiles="operators"),
    "fused": Implementation(summary="alpha, beta and every BatchNorm are folded into weights", fuses=True),
    "fused-compiled": Implementation(summary="fused, then compiled whole", fuses=True, compiles="network"),
}


def _convolves(variant: Variant) -> bool:
    return variant.operator == "acmix" and variant.paths != "attention"


def _convolves_groups(variant: Variant) -> bool:
    return _convolves(variant) and variant.shift == "group"


class Variant(Value):
    """A named choice on the operator's axes. Axes of your own stand beside the fields, by their names."""

    model_config = ConfigDict(extra="allow")

    summary: str = Field(min_length=1, description="what it changes")
    claim: str = Field(min_length=1, description="which claim or table of the paper it serves")

    operator: Annotated[
        str,
        Axis(
            meaning="acmix, conv (a k x k convolution), plain (what the backbone has), or your own: "
            "package.module:Class or file.py:Class, whose keyword arguments are axes too",
            decides=True,
        ),
    ] = "acmix"
    options: Annotated[
        dict[str, Any],
        Axis(meaning="keyword arguments of an operator of your own", has_effect=lambda v: v.is_own),
    ] = {}
    paths: Annotated[
        Literal["both", "attention", "conv"],
        Axis(
            meaning="which stage II paths exist",
            has_effect=lambda v: v.operator == "acmix",
            parameters=("position", "proj", "weigh", "convolution", "mix"),
            decides=True,
        ),
    ] = "both"
    mix: Annotated[
        Literal["fixed", "alpha", "alpha-beta"],
        Axis(
            meaning="how the two paths are added: (1, 1), (alpha, 1 - alpha), (alpha, beta)",
            has_effect=lambda v: v.operator == "acmix" and v.paths == "both",
            parameters=("mix",),
            operations=frozenset({"add", "addcmul", "mul", "rsub"}),
        ),
    ] = "alpha-beta"
    shift: Annotated[
        Literal["tensor", "group"],
        Axis(
            meaning="how the taps are moved: slicing and adding, or a grouped convolution",
            has_effect=_convolves,
            parameters=("convolution.kernel",),
            operations=frozenset({"add", "convolution", "mul", "matrix product"}),
            same_as=lambda v: {"shift": "group", "kernel": "learned", "init": "shift"} if v.shift == "tensor" else None,
            decides=True,
        ),
    ] = "group"
    kernel: Annotated[
        Literal["fixed", "learned"],
        Axis(
            meaning="whether the grouped convolution's weights train",
            has_effect=_convolves_groups,
            parameters=("convolution.kernel",),
            operations=frozenset(),
            same_as=lambda v: {"kernel": "learned"} if v.kernel == "fixed" and v.init == "shift" else None,
        ),
    ] = "learned"
    init: Annotated[
        Literal["shift", "random"],
        Axis(
            meaning="how they start: as the shift, or at random",
            has_effect=_convolves_groups,
            parameters=(),
            operations=frozenset(),
        ),
    ] = "shift"
    attention: Annotated[
        Literal["native", "local", "window", "patchwise", "global"],
        Axis(
            meaning="the attention's formulation; native is the backbone's own",
            has_effect=lambda v: v.operator == "acmix",
        ),
    ] = "native"
    heads: Annotated[
        int,
        Field(ge=1),
        Axis(
            meaning="attention heads, N, of local attention",
            has_effect=lambda v: v.operator == "acmix",
            parameters=("position", "convolution"),
        ),
    ] = 4
    window: Annotated[
        int,
        Field(ge=1),
        Axis(
            meaning="edge of the window of local attention, odd",
            has_effect=lambda v: v.operator == "acmix" and v.paths != "conv",
            parameters=(),
        ),
    ] = 7
    kernel_size: Annotated[
        int,
        Field(ge=1),
        Axis(
            meaning="edge of the convolution, odd",
            has_effect=lambda v: v.operator == "conv" or _convolves(v),
            parameters=("convolution",),
        ),
    ] = 3
    implementation: Annotated[
        str,
        Axis(
            meaning="the operator in C++ where it can be, in torch's operations, in another kernel of local "
            "attention, its literal reference, torch.compile's, or for inference a fused network",
            has_effect=lambda v: v.operator == "acmix" or (v.operator == "plain" and v.runs.fuses),
            parameters=(),
            same_as=lambda v: {"implementation": "auto"} if v.implementation != "auto" else None,
        ),
    ] = "auto"

    @field_validator("window", "kernel_size")
    @classmethod
    def _odd(cls, edge: int, info: ValidationInfo) -> int:
        if edge % 2 == 0:
            raise UserError(f"{info.field_name}={edge} is even, but it is centred on a pixel: use an odd number")
        return edge

    @field_validator("implementation")
    @classmethod
    def _known_implementation(cls, name: str) -> str:
        if name not in IMPLEMENTATIONS:
            raise unknown("value", name, IMPLEMENTATIONS, where="implementation")
        return name

    @property
    def is_own(self) -> bool:
        """Whether the operator is none of this package's."""
        return self.operator not in OPERATORS

    @property
    def runs(self) -> Implementation:
        """How it is run."""
        return IMPLEMENTATIONS[self.implementation]

    @property
    def own_axes(self) -> dict[str, Any]:
        """The values on axes that are none of this package's."""
        return self.model_extra or {}

    def content(self) -> dict[str, Any]:
        """The axes that have an effect here: what the variant is, whatever it is called."""
        ours = {name: getattr(self, name) for name, axis in AXES.items() if axis.has_effect(self)}
        return ours | self.own_axes

    def changes(self, baseline: Variant) -> list[str]:
        """The names of the axes in which it differs from a baseline."""
        ours, theirs = self.content(), baseline.content()
        return [axis for axis in {**ours, **theirs} if ours.get(axis) != theirs.get(axis)]

    def label(self, baseline: Variant) -> str:
        """The difference to the baseline, as `--variant` takes it; `baseline` where there is none."""
        ours, theirs = self.content(), baseline.model_dump()
        options = ours.pop("options", {})
        differs = [(axis, value) for axis, value in ours.items() if axis not in theirs or value != theirs[axis]]
        same = theirs["options"] if self.operator == baseline.operator else {}
        differs += [(key, value) for key, value in options.items() if key not in same or value != same[key]]
        return ",".join(f"{axis}={plain(value)}" for axis, value in differs) or "baseline"

    def same_function(self) -> Variant | None:
        """The variant that this one is another way to compute, before any training; None where it claims nothing."""
        changes: dict[str, Any] = {}
        for axis in AXES.values():
            if axis.has_effect(self):
                changes = (axis.same_as(self) or {}) | changes
        return self.model_copy(update=changes) if changes else None


AXES: dict[str, Axis] = {
    name: declared
    for name, field in Variant.model_fields.items()
    for declared in field.metadata
    if isinstance(declared, Axis)
}


def plain(value: Any) -> str:
    """A value as it can be given back on the command line."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
