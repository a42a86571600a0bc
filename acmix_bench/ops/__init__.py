"""The operators by name, and the four formulations of attention that a backbone may have. A table of contents: no
torch.

To add an operator of this package, enter it here, and say in `backbones.build` how it is made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from acmix_bench.errors import unknown
from acmix_bench.spec import plugins

OPERATORS = {
    "acmix": "convolution and self-attention from shared projections, in the backbone's own attention",
    "conv": "a plain k x k convolution, where the backbone has local attention",
    "plain": "what the backbone was published with",
}


@dataclass(frozen=True, kw_only=True)
class Attention:
    """A formulation of attention: what a backbone that has it gives its operator.

    Attributes:
        make: ACmix in this formulation; its class is imported when it is called.
        arguments: how a backbone constructs its operator, yours too.
        call: what goes in and what comes out.
    """

    summary: str
    make: Callable[..., Any]
    arguments: str
    call: str


def check_name(operator: str) -> None:
    """Check that an operator's name or reference is one.

    Raises:
        UserError: for an unknown name, or a reference to a file or module that is not there.
    """
    if operator in OPERATORS:
        return
    reference = plugins.reference_of("operator", operator)
    if reference is None:
        names = [*OPERATORS, *plugins.installed("operator"), "package.module:Class", "file.py:Class"]
        raise unknown("operator", operator, names)
    plugins.check_reference("operator", reference)


def plain_convolution(*sizes: Any, **axes: Any) -> Any:
    """The plain convolution that ACmix replaces."""
    from acmix_bench.ops.plain import Convolution

    return Convolution(*sizes, **axes)


def _local(*sizes: Any, **axes: Any) -> Any:
    from acmix_bench.ops.acmix import ACmix

    return ACmix(*sizes, **axes)


def _window(*sizes: Any, **axes: Any) -> Any:
    from acmix_bench.ops.window import WindowACmix

    return WindowACmix(*sizes, **axes)


def _patchwise(*sizes: Any, **axes: Any) -> Any:
    from acmix_bench.ops.patchwise import PatchwiseACmix

    return PatchwiseACmix(*sizes, **axes)


def _global(*sizes: Any, **axes: Any) -> Any:
    from acmix_bench.ops.global_attention import GlobalACmix

    return GlobalACmix(*sizes, **axes)


ATTENTIONS = {
    "local": Attention(
        summary="stand-alone self-attention: the window round each pixel",
        make=_local,
        arguments="(in_channels, channels, *, stride)",
        call="(B, in_channels, H, W) to (B, channels, ceil(H / stride), ceil(W / stride))",
    ),
    "window": Attention(
        summary="Swin's windows, with their relative position bias",
        make=_window,
        arguments="(channels, heads, window_size)",
        call="x (B, H, W, channels), and (rows, columns) by which its windows are shifted, to (B, H, W, channels)",
    ),
    "patchwise": Attention(
        summary="SAN's vector attention: a weight vector for each pixel of the window",
        make=_patchwise,
        arguments="(channels, window, *, relation)",
        call="(B, channels, H, W) to (B, channels / 4, H, W)",
    ),
    "global": Attention(
        summary="PVT's attention to the whole map, reduced",
        make=_global,
        arguments="(channels, heads, reduction)",
        call="x (B, tokens, channels), height, width to (B, tokens, channels)",
    ),
}
