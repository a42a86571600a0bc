"""Backbones that take any variant's operator, in one dict.

To add one, write a builder `(operator, *, in_channels, num_classes, image_size) -> nn.Module`, where `operator` makes
the layer under test (`operator_of` says from what), and enter it here.
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

    Operator = Callable[..., nn.Module]


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """Where a builder is, what it is made for, its attention, and the modules and channels of its four stages."""

    summary: str
    builder: str
    image_size: int
    data: str = "digits"
    attention: str = "local"
    stages: tuple[tuple[str, int], ...] = ()


STAGES = {
    "resnet": ("layer1 layer2 layer3 layer4", (256, 512, 1024, 2048)),
    "san": ("layer1 layer2 layer3 layer4", (256, 512, 1024, 2048)),
    "pvt": ("stages.0 stages.1 stages.2 stages.3", (64, 128, 320, 512)),
    "swin": ("layers.0 layers.1 layers.2 layers.3", (96, 192, 384, 768)),
}


def _paper(summary: str, function: str, attention: str) -> Backbone:
    """A backbone of the paper's ImageNet table."""
    names, channels = STAGES[function.partition(":")[0]]
    return Backbone(
        summary=summary,
        builder=f"acmix_bench.backbones.{function}",
        image_size=224,
        data="imagenet",
        attention=attention,
        stages=tuple(zip(names.split(), channels, strict=True)),
    )


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
    "resnet26": _paper("ResNet-26, layers 1, 2, 4, 1", "resnet:resnet26", "local"),
    "resnet38": _paper("ResNet-38, layers 2, 3, 5, 2", "resnet:resnet38", "local"),
    "resnet50": _paper("ResNet-50, layers 3, 4, 6, 3", "resnet:resnet50", "local"),
    "san10": _paper("SAN-10, patchwise", "san:san10", "patchwise"),
    "san15": _paper("SAN-15, patchwise", "san:san15", "patchwise"),
    "san19": _paper("SAN-19, patchwise", "san:san19", "patchwise"),
    "san10-pairwise": _paper("SAN-10, pairwise", "san:san10_pairwise", "patchwise"),
    "san15-pairwise": _paper("SAN-15, pairwise", "san:san15_pairwise", "patchwise"),
    "san19-pairwise": _paper("SAN-19, pairwise", "san:san19_pairwise", "patchwise"),
    "pvt-t": _paper("PVT v1 Tiny", "pvt:pvt_t", "global"),
    "pvt-s": _paper("PVT v1 Small", "pvt:pvt_s", "global"),
    "pvt-m": _paper("PVT v1 Medium", "pvt:pvt_m", "global"),
    "pvt-l": _paper("PVT v1 Large", "pvt:pvt_l", "global"),
    "swin-t": _paper("Swin Tiny, timm's", "swin:swin_t", "window"),
    "swin-s": _paper("Swin Small, timm's", "swin:swin_s", "window"),
}
OPERATORS = {
    "local": "acmix_bench.ops.acmix:ACmix",
    "window": "acmix_bench.ops.window:WindowACmix",
    "patchwise": "acmix_bench.ops.patchwise:PatchwiseACmix",
    "global": "acmix_bench.ops.global_attention:GlobalACmix",
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
    """Read a model's name, BACKBONE[-VARIANT][@SIZE]; without a variant it is the backbone as it was published.

    Raises:
        UserError: naming the known backbones, or the known variants.
    """
    model, at, size = name.partition("@")
    if at and not (size.isascii() and size.isdigit() and int(size)):
        raise UserError(f"model '{name}': '{size}' is not an image size in pixels")
    words = model.split("-")
    for end in range(len(words), 0, -1):
        backbone, variant = "-".join(words[:end]), "-".join(words[end:])
        if _key(backbone) in BACKBONES:
            case = case_of(backbone, image_size=int(size) if at else None)
            return Row(label=name, variant=load_variant(variant or "plain"), case=case)
    raise unknown("backbone", model, BACKBONES)


def case_of(name: str, *, image_size: int | None = None, data: str | None = None) -> Case:
    """A backbone at an image size and for a data set, its own where none is given.

    Raises:
        UserError: naming the known backbones.
    """
    entry = find(name)
    return Case(backbone=name, image_size=image_size or entry.image_size, data=data or entry.data)


def is_single_operator(name: str) -> bool:
    """Whether the backbone is one operator: no image goes in and no class comes out."""
    return name.startswith("operator-")


def build(name: str, variant: Variant, *, in_channels: int, num_classes: int, image_size: int) -> nn.Module:
    """Build a backbone around a variant's operator; the variant's own initialisation has the last word.

    A single operator takes its channels from its name, and none of the other sizes.

    Raises:
        UserError: for a variant that does not fit the backbone.
    """
    from acmix_bench.ops.acmix import restore_initialisation

    builder = resolve_name(find(name).builder)
    operator = operator_of(variant, name)
    if is_single_operator(name):
        model = builder(operator, channels=int(name.removeprefix("operator-")))
    else:
        model = builder(operator, in_channels=in_channels, num_classes=num_classes, image_size=image_size)
    restore_initialisation(model)
    return model


def operator_of(variant: Variant, name: str) -> Operator | None:
    """The constructor of a variant's operator on a backbone; None where the backbone keeps what it has.

    Its arguments are the backbone's: `(in_channels, channels, stride)` for local attention, `(channels, heads,
    window_size)` for window, `(channels, heads, reduction)` for global, `(channels, window)` for patchwise attention.

    Raises:
        UserError: for a variant that does not fit the backbone.
    """
    attention = find(name).attention
    if variant.implementation != "reference":  # what is compiled or fused is built as any other
        variant = variant.model_copy(update={"implementation": "production"})
    if variant.attention not in ("native", attention):
        raise UserError(f"{name} has {attention} attention; attention={variant.attention} does not fit it")
    if attention == "local":
        return _local_operator(variant)
    if variant.operator not in ("acmix", "plain"):
        raise UserError(f"{name} has {attention} attention; operator={variant.operator} does not fit it")
    for axis, default in (("heads", 4), ("window", 7)):
        if getattr(variant, axis) != default:
            raise UserError(f"{name} sets its own {axis}; {axis}={getattr(variant, axis)} does not fit it")
    make = resolve_name(OPERATORS[attention])
    if variant.operator == "plain" and attention == "window":
        return None
    if variant.operator == "plain":
        return partial(make, paths="attention", implementation=variant.implementation)
    axes = ("kernel_size", "paths", "mix", "shift", "kernel", "init", "implementation")
    return partial(make, **{axis: getattr(variant, axis) for axis in axes})


def operators(model: nn.Module) -> list[nn.Module]:
    """ACmix's operators in a model, whatever their attention."""
    kinds = tuple(resolve_name(path) for path in OPERATORS.values())
    return [module for module in model.modules() if isinstance(module, kinds)]


def _local_operator(variant: Variant) -> Operator:
    from acmix_bench.ops.plain import Convolution

    axes = variant.content()
    kind = axes.pop("operator")
    if kind == "acmix":
        del axes["attention"]
        make = partial(resolve_name(OPERATORS["local"]), **axes)
    elif kind in ("conv", "plain"):
        make = partial(Convolution, **axes)
    else:
        make = partial(_import_class(kind), **variant.options)
    return lambda in_channels, channels, stride: make(in_channels, channels, stride=stride)


def _key(name: str) -> str:
    """The entry that a backbone's name stands for: a single operator's number is its channels, and C none."""
    if name == "operator-C":
        return ""
    return "operator-C" if re.fullmatch(r"operator-[1-9]\d*", name) else name


def _import_class(path: str) -> Callable[..., nn.Module]:
    try:
        found = resolve_name(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"operator '{path}': {error}") from error
    if not callable(found):
        raise UserError(f"operator '{path}' is not a class")
    return found
