"""The local operator in C++: torch operators round the kernels beside this file.

`operator` is the whole of ACmix for inference: the projection, both paths and their mix, a band of rows at a time, so that
q, k and v never leave a core's cache. For training there are its parts, `local_attention` and `convolution_path`, with
their gradients. All are functions of torch's own kind (`torch.ops.acmix_bench.*`): torch.compile, export and counters of
operations see them by name, with their shapes. docs/architecture.md tells how the kernels work.

Shape letters: B batch, C channels, N heads, d = C / N, H W map, h w query grid, i maps of a group, k kernel.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from acmix_bench.ops.native import build
from acmix_bench.ops.native.build import CannotBuild

WINDOWS = (3, 5, 7)  # those that kernels.cpp has
STRIDES = (1, 2)
LARGEST_KERNEL = 15
SCALARS = {torch.float32: "float", torch.float64: "double"}


def why_not(x: Tensor, depth: int, *, stride: int, window: int = 3, kernel: int = 1) -> str | None:
    """Why the native operators do not serve a case, in a few words; None where they do.

    Args:
        x: what goes in.
        depth: channels of a head, d.
    """
    if torch.is_autocast_enabled(x.device.type):
        return "autocast lowers the type"
    return _why_not(x.device.type, x.dtype, depth, window, stride, kernel)


@torch.compiler.assume_constant_result
def _why_not(device: str, dtype: torch.dtype, depth: int, window: int, stride: int, kernel: int) -> str | None:
    return _reason(device, dtype, depth, window, stride, kernel)


@cache
def _reason(device: str, dtype: torch.dtype, depth: int, window: int, stride: int, kernel: int) -> str | None:
    if device != "cpu":
        return f"it runs on the CPU, not on {device}"
    if dtype not in SCALARS:
        return f"it takes float32 and float64, not {str(dtype).removeprefix('torch.')}"
    if window not in WINDOWS:
        return f"it has windows {', '.join(map(str, WINDOWS))}, not {window}"
    if stride not in STRIDES:
        return f"it has strides 1 and 2, not {stride}"
    if kernel > LARGEST_KERNEL:
        return f"it has kernels up to {LARGEST_KERNEL}, not {kernel}"
    try:
        _library(dtype, depth)
    except CannotBuild as error:
        return str(error)
    return None


@cache
def _library(dtype: torch.dtype, depth: int) -> ctypes.CDLL:
    return build.load(SCALARS[dtype], lanes_of(dtype, depth))


@cache
def lanes_of(dtype: torch.dtype, depth: int) -> int:
    """Numbers in a vector where heads have `depth` channels.

    Raises:
        CannotBuild: where none is served.
    """
    return build.lanes_for(depth, dtype.itemsize)


def _fields(numbers: str, tensors: str = "") -> list[tuple[str, type[Any]]]:
    """Those of a C structure: whole numbers, then pointers."""
    return [*((name, ctypes.c_long) for name in numbers.split()), *((name, ctypes.c_void_p) for name in tensors.split())]


class _Operator(ctypes.Structure):
    _fields_ = _fields(
        "batch height width inputs heads depth window kernel stride threads",
        "input projection bias position factor path shift out statistics",
    )


class _AttentionGradient(ctypes.Structure):
    _fields_ = _fields(
        "batch height width heads depth window stride threads", "qkv position out statistics gradient result"
    )


class _Convolution(ctypes.Structure):
    _fields_ = _fields(
        "batch height width groups inputs outputs kernel stride threads in_channels in_first in_by_group out_by_group adds"
    )


def _at(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _grid(height: int, width: int, stride: int) -> tuple[int, int]:
    return -(-height // stride), -(-width // stride)


def pack_projection(weight: Tensor, lanes: int) -> Tensor:
    """Bring a 1x1 convolution's weights (3C, C_in) into the order in which the kernel reads them.

    Returns:
        (3C * C_in,): blocks of four vectors of channels (two where a CPU has 16 registers), then of one, each
        [input][channel].
    """
    out: Tensor = _ops.pack_projection(weight, lanes)
    return out


def _pack_projection(weight: Tensor, lanes: int) -> Tensor:
    weight = weight.contiguous()
    packed = weight.new_empty(weight.numel())
    sizes = [ctypes.c_long(size) for size in weight.shape]
    library = build.load(SCALARS[weight.dtype], lanes)
    library.pack_projection(_pointer(weight), *sizes, _pointer(packed), ctypes.c_long(torch.get_num_threads()))
    return packed


def pack_kernel(kernel: Tensor, groups: int, lanes: int) -> Tensor:
    """Bring the convolution path's folded kernel (C, i, k, k) into the order in which it is read.

    Returns:
        (d / lanes, k, i, k, N, lanes): vector of groups, row of the kernel, map in, column, map out, group.
    """
    inputs, size = kernel.shape[1:3]
    return kernel.view(groups // lanes, lanes, -1, inputs, size, size).permute(0, 4, 3, 5, 2, 1).contiguous()


def _unpacked_kernel(packed: Tensor) -> Tensor:
    kernel_NV = packed.permute(0, 5, 4, 2, 1, 3)
    return kernel_NV.flatten(0, 1).flatten(0, 1)


def _local_attention(qkv: Tensor, position: Tensor, heads: int, window: int, stride: int) -> tuple[Tensor, Tensor]:
    batch, height, width, channels3 = qkv.shape
    out, statistics = _empty_attention(qkv, position, heads, window, stride)
    qkv, position = qkv.contiguous(), position.contiguous()
    depth = channels3 // 3 // heads
    sizes = (batch, height, width, channels3, heads, depth, window, 1, stride, torch.get_num_threads())
    tensors = (qkv, None, None, position, None, None, None, out, statistics)
    _library(qkv.dtype, depth).operator_forward(ctypes.byref(_Operator(*sizes, *map(_at, tensors))))
    return out, statistics


def _empty_attention(qkv: Tensor, position: Tensor, heads: int, window: int, stride: int) -> tuple[Tensor, Tensor]:
    batch, height, width, channels3 = qkv.shape
    h, w = _grid(height, width, stride)
    return qkv.new_empty(batch, h, w, channels3 // 3), qkv.new_empty(2, batch, heads, h, w)


def _local_attention_backward(
    gradient: Tensor, qkv: Tensor, position: Tensor, out: Tensor, statistics: Tensor, heads: int, window: int, stride: int
) -> tuple[Tensor, Tensor]:
    batch, height, width, channels3 = qkv.shape
    depth = channels3 // 3 // heads
    qkv, position, gradient = qkv.contiguous(), position.contiguous(), gradient.contiguous()
    result = torch.zeros_like(qkv)
    sizes = (batch, height, width, heads, depth, window, stride, torch.get_num_threads())
    tensors = (qkv, position, out, statistics, gradient, result)
    _library(qkv.dtype, depth).attention_backward(ctypes.byref(_AttentionGradient(*sizes, *map(_at, tensors))))
    # What is taken off every head's keys.
    key_BHWNd = result[..., channels3 // 3 : channels3 // 3 * 2].unflatten(-1, (heads, -1))
    return result, -key_BHWNd.sum((0, 3))


def _convolution_path(maps: Tensor, kernel: Tensor, stride: int) -> Tensor:
    out = _empty_convolution(maps, kernel, stride)
    groups = maps.shape[-1] // kernel.shape[1]
    packed = pack_kernel(kernel, groups, lanes_of(maps.dtype, groups))
    return _convolved(maps, packed, out, stride=stride, in_by_group=False, out_by_group=True)


def _empty_convolution(maps: Tensor, kernel: Tensor, stride: int) -> Tensor:
    return maps.new_empty(maps.shape[0], *_grid(*maps.shape[1:3], stride), kernel.shape[0])


def _convolved(
    maps: Tensor, packed: Tensor, out: Tensor, *, stride: int, in_by_group: bool, out_by_group: bool
) -> Tensor:
    maps = maps.contiguous()
    sizes = _sizes_of(maps, packed, stride=stride, in_by_group=in_by_group, out_by_group=out_by_group)
    library = build.load(SCALARS[maps.dtype], packed.shape[-1])
    library.convolution_forward(ctypes.byref(sizes), *map(_pointer, (maps, packed, None, out)))
    return out


def _sizes_of(maps: Tensor, packed: Tensor, *, stride: int, in_by_group: bool, out_by_group: bool) -> _Convolution:
    batch, height, width, channels = maps.shape
    vectors, size, inputs, _, outputs, lanes = packed.shape
    threads = torch.get_num_threads()
    counts = (batch, height, width, vectors * lanes, inputs, outputs, size, stride, threads)
    return _Convolution(*counts, channels, 0, in_by_group, out_by_group, 0)


def _pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(_at(tensor))


def _convolution_path_backward(gradient: Tensor, maps: Tensor, kernel: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    inputs = kernel.shape[1]
    groups = maps.shape[-1] // inputs
    lanes = lanes_of(maps.dtype, groups)
    maps, gradient = maps.contiguous(), gradient.contiguous()
    packed = torch.empty_like(pack_kernel(kernel, groups, lanes))
    sizes = _sizes_of(maps, packed, stride=stride, in_by_group=False, out_by_group=True)
    library = build.load(SCALARS[maps.dtype], lanes)
    library.convolution_backward(ctypes.byref(sizes), *map(_pointer, (maps, gradient, packed)))
    # The maps' gradient is a convolution too: taps turned round, maps in and out exchanged, zeros between the pixels of a
    # gradient that came from a stride.
    if stride > 1:
        spread = gradient.new_zeros(*maps.shape[:3], kernel.shape[0])
        spread[:, ::stride, ::stride] = gradient
        gradient = spread
    turned = kernel.unflatten(0, (groups, -1)).transpose(1, 2).flip(-1, -2).flatten(0, 1)
    turned = pack_kernel(turned.contiguous(), groups, lanes)
    to_maps = _convolved(gradient, turned, torch.empty_like(maps), stride=1, in_by_group=True, out_by_group=False)
    return to_maps, _unpacked_kernel(packed)


def _operator(
    x: Tensor,
    projection: Tensor,
    bias: Tensor,
    position: Tensor,
    factor: Tensor | None,
    path: Tensor | None,
    shift: Tensor | None,
    heads: int,
    window: int,
    stride: int,
) -> Tensor:
    out = _empty_operator(x, projection, bias, position, factor, path, shift, heads, window, stride)
    batch, height, width, inputs = x.shape
    depth = out.shape[-1] // heads
    kernel = 1 if path is None else path.shape[1]
    sizes = (batch, height, width, inputs, heads, depth, window, kernel, stride, torch.get_num_threads())
    tensors = [None if t is None else t.contiguous() for t in (x, projection, bias, position, factor, path, shift)]
    _library(x.dtype, depth).operator_forward(ctypes.byref(_Operator(*sizes, *map(_at, (*tensors, out, None)))))
    return out


def _empty_operator(x: Tensor, projection: Tensor, bias: Tensor, *more: Any) -> Tensor:
    return x.new_empty(x.shape[0], *_grid(*x.shape[1:3], more[-1]), bias.shape[0] // 3)


def _attention_macs(arguments: Any, _: Any) -> int:
    """Scores, and the weighted sum."""
    qkv, _position, _heads, window, stride = arguments
    h, w = _grid(*qkv.shape[1:3], stride)
    return int(2 * window**2 * qkv.shape[0] * h * w * qkv.shape[-1] // 3)


def _attention_backward_macs(arguments: Any, _: Any) -> int:
    """The scores once more, then the gradients of the weights, values, queries and keys: five products."""
    _gradient, qkv, position, _out, _statistics, *sizes = arguments
    return _attention_macs((qkv, position, *sizes), None) // 2 * 5


def _path_macs(arguments: Any, out: Tensor) -> int:
    kernel = arguments[1]
    return int(out.numel() * kernel[0].numel())


def _path_backward_macs(arguments: Any, _: Any) -> int:
    """The gradient of the weights takes what the forward pass took; that of the maps is computed at stride 1."""
    gradient, maps, kernel, _stride = arguments
    each = kernel[0].numel() * kernel.shape[0]
    pixels = maps.shape[0] * maps.shape[1] * maps.shape[2]
    return int(each * (gradient.shape[0] * gradient.shape[1] * gradient.shape[2] + pixels))


def _operator_macs(arguments: Any, out: Tensor) -> int:
    x, projection, _bias, position, _factor, path, _shift, heads, window, stride = arguments
    pixels = x.shape[0] * x.shape[1] * x.shape[2]
    queries = out.numel() // out.shape[-1]
    return int(projection.numel() * pixels + 2 * window**2 * out.numel() + (0 if path is None else path.numel() * queries))


MACS: dict[str, Callable[[Any, Any], int]] = {
    "local_attention": _attention_macs,
    "local_attention_backward": _attention_backward_macs,
    "convolution_path": _path_macs,
    "convolution_path_backward": _path_backward_macs,
    "operator": _operator_macs,
}
SCHEMAS = {
    "local_attention": "(Tensor qkv, Tensor position, int heads, int window, int stride) -> (Tensor, Tensor)",
    "local_attention_backward": "(Tensor gradient, Tensor qkv, Tensor position, Tensor out, Tensor statistics, int heads, "
    "int window, int stride) -> (Tensor, Tensor)",
    "convolution_path": "(Tensor maps, Tensor kernel, int stride) -> Tensor",
    "convolution_path_backward": "(Tensor gradient, Tensor maps, Tensor kernel, int stride) -> (Tensor, Tensor)",
    "pack_projection": "(Tensor weight, int lanes) -> Tensor",
    "operator": "(Tensor x, Tensor projection, Tensor bias, Tensor position, Tensor? factor, Tensor? path, Tensor? shift, "
    "int heads, int window, int stride) -> Tensor",
}
KERNELS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {  # on the CPU, and for shapes alone
    "local_attention": (_local_attention, _empty_attention),
    "local_attention_backward": (
        _local_attention_backward,
        lambda gradient, qkv, position, *_: (torch.empty_like(qkv), torch.empty_like(position)),
    ),
    "convolution_path": (_convolution_path, _empty_convolution),
    "convolution_path_backward": (
        _convolution_path_backward,
        lambda gradient, maps, kernel, _: (torch.empty_like(maps), torch.empty_like(kernel)),
    ),
    "pack_projection": (_pack_projection, lambda weight, _: weight.new_empty(weight.numel())),
    "operator": (_operator, _empty_operator),
}
_LIBRARY = torch.library.Library("acmix_bench", "FRAGMENT")  # noqa: TOR901 - the operators last as long as the process
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


torch.library.register_autograd("acmix_bench::local_attention", _attention_gradient, setup_context=_keep_attention)
torch.library.register_autograd("acmix_bench::convolution_path", _path_gradient, setup_context=_keep_path)
for _name in ("local_attention_backward", "convolution_path_backward", "pack_projection", "operator"):
    torch.library.register_autograd(f"acmix_bench::{_name}", _no_gradient)


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
        x: (B, H, W, C_in).
        projection: of q, k and v, packed by `pack_projection`; `bias` is (3C,).
        position: (H, W, d), the projected coordinates.
        factor: (C,) of the attention path, or None for 1.
        path: the convolution path's kernel, packed by `pack_kernel`, or None where there is no such path.
        shift: (d / lanes, N, lanes), added to the path, or None.

    Returns:
        (B, h, w, C).
    """
    out: Tensor = _ops.operator(x, projection, bias, position, factor, path, shift, heads, window, stride)
    return out
