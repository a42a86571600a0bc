"""Backbones that take any variant's operator. A table of contents: nothing is imported until one is built.

To add one, write a builder `(operator, *, in_channels, num_classes, image_size) -> nn.Module`, where `operator` makes
the layer under test from what `acmix_bench.ops.ATTENTIONS` says of the backbone's attention, and declare it: here, or
in a module of your own, as `Backbone(...)`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from acmix_bench import heads
from acmix_bench.errors import UserError, unknown
from acmix_bench.ops import ATTENTIONS
from acmix_bench.spec import plugins
from acmix_bench.spec.cell import Row
from acmix_bench.spec.experiment import Case
from acmix_bench.spec.library import load_variant

if TYPE_CHECKING:
    from torch import nn


DATA_OF = {"segment": "ade20k", "detect": "coco"}  # of a head's task, where no data set is given
WHOLE = "model of "  # a backbone of this name is a reference to a whole model


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A backbone of this package or of your own.

    Attributes:
        build: `(operator, *, in_channels, num_classes, image_size) -> nn.Module`.
        image_size: the edge of its input in pixels where none is given.
        data: its data set where none is given.
        attention: its operator's formulation, which says how `operator` is called: see `acmix_bench.ops.ATTENTIONS`.
        stages: the modules of its four stages at stride 4 to 32 with their channels, where it has them. For dense tasks
            the model's modules run one after another up to the last of them, as they stand in it.
        recipe: how its paper trains and tests it, by name.
        drops_paths: whether it has stochastic depth: `build` takes `drop_path`, the rate of its last block, too.
    """

    summary: str
    build: Callable[..., Any]
    image_size: int = Field(ge=1)
    data: str = "digits"
    attention: str = "local"
    stages: tuple[tuple[str, int], ...] = ()
    recipe: str = "short"
    drops_paths: bool = False


def _nano(operator: Any, **sizes: int) -> nn.Module:
    from acmix_bench.backbones.nano import nano

    return nano(operator, **sizes)


def _pyramid(operator: Any, **sizes: int) -> nn.Module:
    from acmix_bench.backbones.pyramid import pyramid

    return pyramid(operator, **sizes)


def _single(operator: Any, *, channels: int) -> nn.Module:
    from acmix_bench.backbones.single import single

    return single(operator, channels=channels)


def _resnet(operator: Any, *, depths: tuple[int, ...], **sizes: int) -> nn.Module:
    from acmix_bench.backbones.resnet import resnet

    return resnet(depths, operator, **sizes)


def _san(operator: Any, *, depths: tuple[int, ...], relation: str, **sizes: int) -> nn.Module:
    from acmix_bench.backbones.san import san

    return san(depths, relation, operator, **sizes)


def _pvt(operator: Any, *, depths: tuple[int, ...], **sizes: Any) -> nn.Module:
    from acmix_bench.backbones.pvt import PVT

    return PVT(depths, operator, **sizes)


def _swin(operator: Any, *, name: str, **sizes: Any) -> nn.Module:
    from acmix_bench.backbones.swin import swin

    return swin(name, operator, **sizes)


def _whole_model(operator: Any, *, reference: str, **sizes: int) -> Any:
    from torch import nn

    made = plugins.load("model", reference, known={})
    try:
        model = made if isinstance(made, nn.Module) else made()
    except TypeError as error:
        raise UserError(f"{error}; name a class or function that needs no arguments") from error
    if not isinstance(model, nn.Module):
        raise UserError(f"gives no torch module, but {model!r:.40}")
    return model


def _of_the_paper(
    summary: str,
    build: Callable[..., nn.Module],
    attention: str,
    stages: str,
    channels: tuple[int, ...],
    recipe: str,
    **options: Any,
) -> Backbone:
    """A backbone of the paper's ImageNet table; {} in `stages` stands for the number of each."""
    first = 1 if stages.startswith("layer{}") else 0
    return Backbone(
        summary=summary,
        build=partial(build, **options),
        image_size=224,
        data="imagenet",
        attention=attention,
        recipe=recipe,
        stages=tuple((stages.format(number), width) for number, width in enumerate(channels, first)),
        drops_paths=attention in ("global", "window"),
    )


_WIDE = (256, 512, 1024, 2048)
_as_resnet = partial(_of_the_paper, build=_resnet, attention="local", stages="layer{}", channels=_WIDE, recipe="resnet")
_as_san = partial(_of_the_paper, build=_san, attention="patchwise", stages="layer{}", channels=_WIDE, recipe="san")
_as_pvt = partial(
    _of_the_paper, build=_pvt, attention="global", stages="stages.{}", channels=(64, 128, 320, 512), recipe="pvt"
)
_as_swin = partial(
    _of_the_paper, build=_swin, attention="window", stages="layers.{}", channels=(96, 192, 384, 768), recipe="swin"
)

BACKBONES: dict[str, Backbone] = {
    "nano": Backbone(
        summary="residual, three stages, some 200,000 parameters, images up to 32x32", build=_nano, image_size=14
    ),
    "nano-pyramid": Backbone(
        summary="residual, four stages at stride 4 to 32, for dense tasks on small images",
        build=_pyramid,
        image_size=64,
        stages=(("1", 32), ("2", 64), ("3", 128), ("4", 128)),
    ),
    "operator-C": Backbone(
        summary="the operator alone, C to C channels; write the number, as in operator-64", build=_single, image_size=28
    ),
    "resnet26": _as_resnet("ResNet-26, layers 1, 2, 4, 1", depths=(1, 2, 4, 1)),
    "resnet38": _as_resnet("ResNet-38, layers 2, 3, 5, 2", depths=(2, 3, 5, 2)),
    "resnet50": _as_resnet("ResNet-50, layers 3, 4, 6, 3", depths=(3, 4, 6, 3)),
    "san10": _as_san("SAN-10, patchwise", depths=(2, 1, 2, 4, 1), relation="patchwise"),
    "san15": _as_san("SAN-15, patchwise", depths=(3, 2, 3, 5, 2), relation="patchwise"),
    "san19": _as_san("SAN-19, patchwise", depths=(3, 3, 4, 6, 3), relation="patchwise"),
    "san10-pairwise": _as_san("SAN-10, pairwise", depths=(2, 1, 2, 4, 1), relation="pairwise"),
    "san15-pairwise": _as_san("SAN-15, pairwise", depths=(3, 2, 3, 5, 2), relation="pairwise"),
    "san19-pairwise": _as_san("SAN-19, pairwise", depths=(3, 3, 4, 6, 3), relation="pairwise"),
    "pvt-t": _as_pvt("PVT v1 Tiny", depths=(2, 2, 2, 2)),
    "pvt-s": _as_pvt("PVT v1 Small", depths=(3, 4, 6, 3)),
    "pvt-m": _as_pvt("PVT v1 Medium", depths=(3, 4, 18, 3)),
    "pvt-l": _as_pvt("PVT v1 Large", depths=(3, 8, 27, 3)),
    "swin-t": _as_swin("Swin Tiny, timm's", name="swin_tiny_patch4_window7_224"),
    "swin-s": _as_swin("Swin Small, timm's", name="swin_small_patch4_window7_224"),
}


def find(name: str) -> Backbone:
    """A backbone by name or reference; `operator-64` is one operator of 64 channels.

    Raises:
        UserError: naming the known ones; or where its attention is none.
    """
    if name == "operator-C":
        raise UserError("backbone 'operator-C': write the number of channels for C, as in operator-64")
    if is_whole_model(name):
        reference = name.removeprefix(WHOLE)
        plugins.check_reference("model", reference)
        return Backbone(summary="a model of yours", build=partial(_whole_model, reference=reference), image_size=1)
    hint = "; a torch module as it is can be counted: acmix-bench flops, with --input 3,224,224"
    known = "operator-C" if is_single_operator(name) else name
    entry = plugins.find("backbone", known, BACKBONES, Backbone, hint=hint)
    if entry.attention not in ATTENTIONS:
        raise unknown("attention", entry.attention, ATTENTIONS, where=f"backbone {name}")
    return entry


def is_single_operator(name: str) -> bool:
    """Whether the backbone is one operator: no image goes in and no class comes out."""
    return re.fullmatch(r"operator-[1-9]\d*", name) is not None


def is_whole_model(name: str) -> bool:
    """Whether it is a torch module of the user's own, which takes no operator of ours: it can be counted."""
    return name.startswith(WHOLE)


def whole_model(reference: str, *, image_size: int, data: str) -> Row:
    """The row of a torch module of the user's own, on data that say the sizes of its input.

    Raises:
        UserError: for a name that is no reference to something.
    """
    if ":" not in reference:
        raise UserError(f"--input is for a model of your own; '{reference}' has its input's size behind an @")
    plugins.check_reference("model", reference)
    case = Case(backbone=WHOLE + reference, image_size=image_size, data=data)
    return Row(label=reference, variant=load_variant("plain"), case=case)


def find_model(name: str) -> Row:
    """Read a model's name, BACKBONE[-VARIANT][+HEAD][@SIZE]; without a variant it is the backbone as it was published.

    With a head the size may be a height and a width, as in @800x1333: the backbone is then built for its own.

    Raises:
        UserError: naming the known backbones, or the known variants.
    """
    model, at, size = name.rpartition("@") if re.search(r"@[^/:]*$", name) else (name, "", "")
    edges = [int(edge) if edge.isascii() and edge.isdigit() else 0 for edge in size.split("x")] if at else []
    model, plus, head = model.rpartition("+") if re.search(r"\+([^/:]*|[^+]+:\w+)$", model) else (model, "", "")
    if at and not (all(edges) and len(edges) <= 1 + bool(head)):
        raise UserError(f"model '{name}': '{size}' is not an image size in pixels")
    if plus:
        heads.find(head)
    edge, sides = (edges[0], None) if len(edges) == 1 else (None, (edges[0], edges[1]) if edges else None)
    place, colon, last = model.rpartition(":")
    words = last.split("-")
    for end in range(len(words), 0, -1):
        backbone, variant = place + colon + "-".join(words[:end]), "-".join(words[end:])
        is_reference = colon and end == 1  # the name behind the colon is a word of Python's, without hyphens
        if backbone in (*BACKBONES, *plugins.installed("backbone")) or is_single_operator(backbone) or is_reference:
            case = case_of(backbone, image_size=edge, head=head, size=sides)
            return Row(label=name, variant=load_variant(variant or "plain"), case=case)
    raise unknown("backbone", model, [*BACKBONES, *plugins.installed("backbone")])


def case_of(
    name: str,
    *,
    image_size: int | None = None,
    data: str | None = None,
    head: str = "",
    size: tuple[int, int] | None = None,
) -> Case:
    """A backbone at an image size and for a data set, its own where none is given, or those of its head's task.

    Raises:
        UserError: naming the known backbones or heads, or where a backbone has no stages for a head.
    """
    entry = find(name)
    if head and not entry.stages:
        raise UserError(f"backbone {name} has no four stages at stride 4 to 32 for {head} to stand on")
    own = DATA_OF[heads.find(head).task] if head else entry.data
    return Case(backbone=name, image_size=image_size or entry.image_size, data=data or own, head=head, size=size)
