"""Building a backbone round a variant's operator."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from acmix_bench import backbones, ops
from acmix_bench.errors import UserError
from acmix_bench.spec import plugins
from acmix_bench.spec.axis import Axis
from acmix_bench.spec.variant import Variant

Operator = Callable[..., nn.Module]


def build(
    name: str, variant: Variant, *, in_channels: int, num_classes: int, image_size: int, drop_path: float = 0.0
) -> nn.Module:
    """Build a backbone around a variant's operator; the variant's own initialisation has the last word.

    A single operator takes its channels from its name, and none of the other sizes. A module of any operator, yours
    too, that has a method `restore_initialisation` is asked for it at the end, whatever the backbone did to its
    parameters.

    Raises:
        UserError: for a variant that does not fit the backbone.
    """
    entry, operator = backbones.find(name), operator_of(variant, name)
    if drop_path and not entry.drops_paths:
        raise UserError(f"{name} has no stochastic depth; drop_path={drop_path:g} does not fit it: --set drop_path=0")
    depth = {"drop_path": drop_path} if entry.drops_paths else {}
    if backbones.is_single_operator(name):
        model = entry.build(operator, channels=int(name.removeprefix("operator-")))
    else:
        sizes = {"in_channels": in_channels, "num_classes": num_classes, "image_size": image_size}
        model = entry.build(operator, **sizes, **depth)
    _refuse_other_than_module(model, f"backbone {name}: its builder")
    for axis, value in variant.own_axes.items():
        apply = plugins.find("axis", axis, {}, Axis).apply
        assert apply is not None  # since it was read
        changed = apply(model, value)
        model = model if changed is None else changed
        _refuse_other_than_module(model, f"axis {axis}: apply")
    for module in model.modules():
        restore: Callable[[], None] | None = getattr(module, "restore_initialisation", None)
        if restore:
            restore()
    return model


def operator_of(variant: Variant, name: str) -> Operator | None:
    """The constructor of a variant's operator on a backbone; None where the backbone keeps what it has.

    Its arguments are those of the backbone's attention: `acmix_bench.ops.ATTENTIONS` says which.

    Raises:
        UserError: for a variant that does not fit the backbone.
    """
    attention = backbones.find(name).attention
    if variant.is_own:
        return partial(_own_operator, variant, name)
    if not variant.runs.made:  # what is compiled or fused is built as any
        variant = variant.model_copy(update={"implementation": "auto"})
    if variant.attention not in ("native", attention):
        raise UserError(f"{name} has {attention} attention; attention={variant.attention} does not fit it")
    if variant.runs.is_local and attention != "local":
        how = f"implementation={variant.implementation}"
        raise UserError(f"{name} has {attention} attention; {how} is for local attention")
    axes = {axis: value for axis, value in variant.content().items() if axis not in variant.own_axes}
    del axes["operator"]
    if attention == "local":
        if variant.operator != "acmix":
            return partial(ops.plain_convolution, **axes)
        del axes["attention"]
        return partial(ops.ATTENTIONS["local"].make, **axes)
    if variant.operator == "conv":
        raise UserError(f"{name} has {attention} attention; operator=conv does not fit it")
    if variant.operator == "plain":
        if attention == "window":
            return None
        return partial(ops.ATTENTIONS[attention].make, paths="attention", implementation=variant.implementation)
    for axis in ("heads", "window"):
        if getattr(variant, axis) != Variant.model_fields[axis].default:
            raise UserError(f"{name} sets its own {axis}; {axis}={getattr(variant, axis)} does not fit it")
    for axis in ("attention", "heads", "window"):
        axes.pop(axis, None)
    return partial(ops.ATTENTIONS[attention].make, **axes)


def operators(model: nn.Module) -> list[nn.Module]:
    """ACmix's operators in a model, whatever their attention: the modules that have paths."""
    return [module for module in model.modules() if hasattr(module, "paths")]


def _own_operator(variant: Variant, name: str, *sizes: Any, **more: Any) -> nn.Module:
    """Make a user's operator from what the backbone gives.

    Raises:
        UserError: where it does not take these arguments, saying which they are.
    """
    make = plugins.load("operator", variant.operator, known={})
    attention = ops.ATTENTIONS[backbones.find(name).attention]
    if not callable(make):
        raise UserError(f"operator '{variant.operator}' is no class, but {make!r:.40}")
    try:
        inspect.signature(make).bind(*sizes, **more, **variant.options)
    except TypeError as error:
        told = f" and {', '.join(variant.options)}" if variant.options else ""
        raise UserError(
            f"operator '{variant.operator}' does not fit {name}, which makes it from {attention.arguments}{told}, and "
            f"calls it with {attention.call}: {error}"
        ) from error
    except ValueError:  # a built-in class has no signature to be read
        pass
    made: nn.Module = make(*sizes, **more, **variant.options)
    _refuse_other_than_module(made, f"operator {variant.operator}: it")
    return made


def _refuse_other_than_module(made: Any, who: str) -> None:
    if not isinstance(made, nn.Module):
        raise UserError(f"{who} must return a torch module, and returned {made!r:.40}")
