"""Backbones that take any variant's operator, in one dict.

To add one, write a builder `(operator, *, in_channels, num_classes) -> nn.Module`, where
`operator(in_channels, channels, stride)` makes the layer under test, and enter it here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from acmix_bench.errors import UserError, unknown
from acmix_bench.spec import Case, Row, Variant, load_variant

if TYPE_CHECKING:
    from torch import nn

    Operator = Callable[[int, int, int], nn.Module]


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """Where a builder is, and the image size it is made for."""

    summary: str
    builder: str
    image_size: int


BACKBONES: dict[str, Backbone] = {
    "nano": Backbone(
        summary="residual, three stages, some 200,000 parameters, images up to 32x32",
        builder="acmix_bench.backbones.nano:nano",
        image_size=14,
    ),
    "operator-C": Backbone(
        summary="the operator alone, C to C channels; write the number, as in operator-64",
        builder="acmix_bench.backbones.single:single",
        image_size=28,
    ),
}


def find(name: str) -> Backbone:
    """The entry of a backbone by name.

    Raises:
        UserError: naming the known ones.
    """
    if _key(name) not in BACKBONES:
        raise unknown("backbone", name, BACKBONES)
    return BACKBONES[_key(name)]


def find_model(name: str) -> Row:
    """Read a model's name, BACKBONE[-VARIANT][@SIZE]; without a variant it has the plain convolution.

    Raises:
        UserError: naming the known backbones, or the known variants.
    """
    model, at, size = name.partition("@")
    if at and not size.isdigit():
        raise UserError(f"model '{name}': '{size}' is not an image size in pixels")
    words = model.split("-")
    for end in range(len(words), 0, -1):
        backbone, variant = "-".join(words[:end]), "-".join(words[end:])
        if _key(backbone) in BACKBONES:
            case = Case(backbone=backbone, image_size=int(size) if at else find(backbone).image_size)
            return Row(label=name, variant=load_variant(variant or "conv3x3"), case=case)
    raise unknown("backbone", model, BACKBONES)


def is_single_operator(name: str) -> bool:
    """Whether the backbone is one operator: no image goes in and no class comes out."""
    return name.startswith("operator-")


def build(name: str, variant: Variant, *, in_channels: int, num_classes: int) -> nn.Module:
    """Build a backbone around a variant's operator; the variant's own initialisation has the last word.

    A single operator takes its channels from its name, and neither `in_channels` nor `num_classes`.
    """
    from acmix_bench.ops.acmix import restore_initialisation

    builder = resolve_name(find(name).builder)
    operator = operator_of(variant)
    if is_single_operator(name):
        model = builder(operator, channels=int(name.removeprefix("operator-")))
    else:
        model = builder(operator, in_channels=in_channels, num_classes=num_classes)
    restore_initialisation(model)
    return model


def operator_of(variant: Variant) -> Operator:
    """The constructor `(in_channels, channels, stride) -> nn.Module` of a variant's operator."""
    from acmix_bench.ops.acmix import ACmix
    from acmix_bench.ops.plain import Convolution

    axes = variant.content()
    kind = axes.pop("operator")
    if kind == "acmix":
        return lambda in_channels, channels, stride: ACmix(in_channels, channels, stride=stride, **axes)
    if kind == "conv":
        return lambda in_channels, channels, stride: Convolution(in_channels, channels, stride=stride, **axes)
    make = partial(_import_class(kind), **variant.options)
    return lambda in_channels, channels, stride: make(in_channels, channels, stride=stride)


def _key(name: str) -> str:
    """The entry that a backbone's name stands for: a single operator's number is its channels."""
    return "operator-C" if re.fullmatch(r"operator-[1-9]\d*", name) else name.replace("operator-C", "")


def _import_class(path: str) -> Callable[..., nn.Module]:
    try:
        found = resolve_name(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"operator '{path}': {error}") from error
    if not callable(found):
        raise UserError(f"operator '{path}' is not a class")
    return found
