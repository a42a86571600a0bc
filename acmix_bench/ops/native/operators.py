"""The local operator in C++: torch operators round the kernels beside this file.

`operator` is the whole of ACmix for inference: the projection, both paths and their mix, a band of rows at a time, so
that q, k and v never leave a core's cache; `connected_path` is a convolution path whose layer does not fold. For
training there are parts, `local_attention` and `convolution_path`, with their gradients. All are functions of torch's
own kind (`torch.ops.acmix_bench.*`): torch.compile, export and counters of operations see them by name, with their
shapes. docs/fast.md tells how the kernels work.

Shape letters: B batch, C channels, N heads, d = C / N, H W map, h w query grid, i maps of a group, k kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from acmix_bench.ops.native import kernels
from acmix_bench.ops.native.build import CannotBuild

WINDOWS = (3, 5, 7)  # those that kernels.cpp has
STRIDES = (1, 2)


def why_not(x: Tensor, depth: int, *, stride: int, window: int = 3, kernel: int = 1) -> str | None:
    """Why the native operators do not serve a case, in a few words; None where they do.

    Args:
        x: what goes in.
        depth: channels of a head, d.
    """
    if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        return "autocast lowers the type"
    return _why_not(x.device.type, x.dtype, depth, window, stride, kernel)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _why_not(device: str, dtype: torch.dtype, depth: int, window: int, stride: int, kernel: int) -> str | None:
    return _reason(device, dtype, depth, window, stride, kernel)


@cache
def _reason(device: str, dtype: torch.dtype, depth: int, window: int, stride: int, kernel: int) -> str | None:
    if device != "cpu":
        return f"it runs on the CPU, not on {device}"
    if dtype not in kernels.SCALARS:
        return f"it takes float32 and float64, not {str(dtype).removeprefix('torch.')}"
    if window not in WINDOWS:
        return f"it has windows {', '.join(map(str, WINDOWS))}, not {window}"
    if stride not in STRIDES:
        return f"it has strides 1 and 2, not {stride}"
    if kernel > kernels.LARGEST_KERNEL:
        return f"it has kernels up to {kernels.LARGEST_KERNEL}, not {kernel}"
    try:
        kernels.library(dtype, depth)
    except CannotBuild as error:
        return str(error)
    return None


def pack_projection(weight: Tensor, lanes: int) -> Tensor:
    """As `kernels.pack_projection`, so that torch.compile sees an operator."""
    out: Tensor = _ops.pack_projection(weight, lanes)
    return out


def pack_path(kernel: Tensor, groups: int, lanes: int, layer: Tensor, factor: Tensor) -> Tensor:
    """As `kernels.pack_path`, so that torch.compile sees an operator."""
    out: Tensor = _ops.pack_path(kernel, groups, lanes, layer, factor)
    return out


def _attention_macs(arguments: Any, _: Any) -> int:
    """Scores, and the weighted sum."""
    qkv, _position, _heads, window, stride = arguments
    h, w = kernels.grid(qkv.shape[1], qkv.shape[2], stride)
    return int(2 * window**2 * qkv.shape[0] * h * w * qkv.shape[-1] // 3)


def _attention_backward_macs(arguments: Any, _: Any) -> int:
    """The scores once more, then the gradients of the weights, values, queries and keys: five products."""
    _gradient, qkv, position, _out, _statistics, *sizes = arguments
    return _attention_macs((qkv, position, *sizes), None) // 2 * 5


def _path_macs(arguments: Any, out: Tensor) -> int:
    kernel = arguments[1]
    return int(out.numel() * kernel[0].numel())


def _connected_macs(arguments: Any, out: Tensor) -> int:
    """The fully connected layer, at full size, then the convolution."""
    maps, weight, _bias, kernel, _stride = arguments
    return maps.numel() * weight.shape[0] + _path_macs((None, kernel), out)


def _path_backward_macs(arguments: Any, _: Any) -> int:
    """The gradient of the weights takes what the forward pass took; that of the maps is computed at stride 1."""
    gradient, maps, kernel, _stride = arguments
    each = kernel[0].numel() * kernel.shape[0]
    pixels = maps.shape[0] * maps.shape[1] * maps.shape[2]
    return int(each * (gradient.shape[0] * gradient.shape[1] * gradient.shape[2] + pixels))


def _operator_macs(arguments: Any, out: Tensor) -> int:
    x, projection, _bias, position, _factor, path, _shift, _heads, window, _stride = arguments
    pixels, queries = x.numel() // x.shape[1], out.numel() // out.shape[1]
    convolved = 0 if path is None else path.numel() * queries
    return int((projection.numel() + position.numel()) * pixels + 2 * window**2 * out.numel() + convolved)


def _fold_macs(arguments: Any, out: Tensor) -> int:
    """The layer's product with the kernel, where there is a layer."""
    return out.numel() * arguments[3].shape[0] if len(arguments) > 3 else 0


MACS: dict[str, Callable[[Any, Any], int]] = {
    "local_attention": _attention_macs,
    "local_attention_backward": _attention_backward_macs,
    "convolution_path": _path_macs,
    "connected_path": _connected_macs,
    "convolution_path_backward": _path_backward_macs,
    "pack_path": _fold_macs,
    "operator": _operator_macs,
}
SCHEMAS = {
    "local_attention": "(Tensor qkv, Tensor position, int heads, int window, int stride) -> (Tensor, Tensor)",
    "local_attention_backward": "(Tensor gradient, Tensor qkv, Tensor position, Tensor out, Tensor statistics, "
    "int heads, int window, int stride) -> (Tensor, Tensor)",
    "convolution_path": "(Tensor maps, Tensor kernel, int stride) -> Tensor",
    "connected_path": "(Tensor maps, Tensor weight, Tensor? bias, Tensor kernel, int stride) -> Tensor",
    "convolution_path_backward": "(Tensor gradient, Tensor maps, Tensor kernel, int stride) -> (Tensor, Tensor)",
    "pack_projection": "(Tensor weight, int lanes) -> Tensor",
    "pack_path": "(Tensor kernel, int groups, int lanes, Tensor? layer=None, Tensor? factor=None) -> Tensor",
    "operator": "(Tensor x, Tensor projection, Tensor bias, Tensor position, Tensor? factor, Tensor? path, "
    "Tensor? shift, int heads, int window, int stride) -> Tensor",
}
KERNELS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {  # on the CPU, and for shapes alone
    "local_attention": (kernels.local_attention, kernels.empty_attention),
    "local_attention_backward": (
        kernels.local_attention_backward,
        lambda gradient, qkv, position, *_: (qkv.new_empty(qkv.shape), position.new_empty(position.shape)),
    ),
    "convolution_path": (kernels.convolution_path, kernels.empty_convolution),
    "connected_path": (kernels.connected_path, kernels.empty_connected),
    "convolution_path_backward": (
        kernels.convolution_path_backward,
        lambda gradient, maps, kernel, _: (maps.new_empty(maps.shape), kernel.new_empty(kernel.shape)),
    ),
    "pack_projection": (kernels.pack_projection, lambda weight, _: weight.new_empty(weight.numel())),
    "pack_path": (kernels.pack_path, kernels.empty_path),
    "operator": (kernels.operator, kernels.empty_operator),
}
_LIBRARY = torch.library.Library("acmix_bench", "FRAGMENT")
for _name, (_cpu, _meta) in KERNELS.items():
    _LIBRARY.define(_name + SCHEMAS[_name])
    _LIBRARY.impl(_name, _cpu, "CPU")
    _LIBRARY.impl(_name, _meta, "Meta")
_ops = torch.ops.acmix_bench


def _counter(macs: Callable[[Any, Any], int]) -> Callable[..., int]:
    """What torch's FLOP counter asks: two operations a multiply-add."""
    return lambda *arguments, out_val=None, **_: 2 * macs(arguments, out_val)


for _name, _macs in MACS.items():
    register_flop_formula(getattr(_ops, _name), get_raw=True)(_counter(_macs))


def _keep_attention(ctx: Any, inputs: Any, output: Any) -> None:
    qkv, position, *ctx.sizes = inputs
    ctx.save_for_backward(qkv, position, *output)
    ctx.mark_non_differentiable(output[1])


def _attention_gradient(context: Any, gradient: Tensor, _: Any) -> Any:
    to_qkv, to_position = _ops.local_attention_backward(gradient, *context.saved_tensors, *context.sizes)
    return to_qkv, to_position, None, None, None


def _keep_path(ctx: Any, inputs: Any, output: Any) -> None:
    *tensors, ctx.stride = inputs
    ctx.save_for_backward(*tensors)


def _path_gradient(context: Any, gradient: Tensor) -> Any:
    return *_ops.convolution_path_backward(gradient, *context.saved_tensors, context.stride), None


def _no_gradient(context: Any, *_: Any) -> Any:
    raise NotImplementedError("the native operator has no such derivative; use implementation=production")


GRADIENTS: dict[
    str, tuple[Callable[..., Any], Callable[..., Any] | None]
] = {  # and what each needs of the forward pass
    "local_attention": (_attention_gradient, _keep_attention),
    "convolution_path": (_path_gradient, _keep_path),
}
for _name in KERNELS:
    _gradient, _keep = GRADIENTS.get(_name, (_no_gradient, None))
    torch.library.register_autograd(f"acmix_bench::{_name}", _gradient, setup_context=_keep)


def local_attention(qkv: Tensor, position: Tensor, *, heads: int, window: int, stride: int) -> Tensor:
    """As `acmix_bench.ops.attention.local_attention`, of q, k and v side by side: (B, H, W, 3C) to (B, h, w, C)."""
    out: Tensor = _ops.local_attention(qkv, position, heads, window, stride)[0]
    return out


def convolution_path(maps: Tensor, kernel: Tensor, *, stride: int) -> Tensor:
    """A grouped convolution as `acmix_bench.ops.convolution.convolve_groups`, without gathering the groups first.

    Args:
        maps: (B, H, W, i * d), value j of group e at j * d + e.
        kernel: (C, i, k, k), the folded kernel, channels e-major.

    Returns:
        (B, h, w, C), channels e-major (e * N + n).
    """
    out: Tensor = _ops.convolution_path(maps, kernel, stride)
    return out


def connected_path(maps: Tensor, weight: Tensor, bias: Tensor | None, kernel: Tensor, *, stride: int) -> Tensor:
    """`convolution_path` after a fully connected layer that does not fold into it, for inference.

    Args:
        maps: (B, H, W, i * d), value j of group e at j * d + e.
        weight: (m, i), the layer; `bias` is its (m,) or None.
        kernel: (C, m, k, k), channels e-major.
    """
    out: Tensor = _ops.connected_path(maps, weight, bias, kernel, stride)
    return out


def operator(
    x: Tensor,
    projection: Tensor,
    bias: Tensor,
    position: Tensor,
    *,
    factor: Tensor | None,
    path: Tensor | None,
    shift: Tensor | None = None,
    heads: int,
    window: int,
    stride: int,
) -> Tensor:
    """ACmix from its input, for inference: factor * attention + path + shift.

    Args:
        x: (B, C_in, H, W), best channels-last in memory, as the result is.
        projection: of q, k and v, packed by `kernels.pack_projection`; `bias` is (3C,).
        position: (d, 2), the weights of the coordinates' projection. Its bias changes nothing: the softmax cancels it.
        factor: (C,) of the attention path, or None for 1.
        path: the convolution path's kernel, packed by `kernels.pack_path`, or None where there is no such path.
        shift: (d / lanes, N, lanes), added to the path, or None.

    Returns:
        (B, C, h, w).
    """
    out: Tensor = _ops.operator(x, projection, bias, position, factor, path, shift, heads, window, stride)
    return out
