"""Calls of the C++ kernels on tensors, and the shapes of what they give.

Some have an `empty_...` beside them: the result without values, which is what torch asks of the meta device.
Shape letters as in `acmix_bench.ops.native.operators`.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from acmix_bench.errors import ShapeError, UserError
from acmix_bench.ops.native import build
from acmix_bench.ops.reflection import check_window

LARGEST_KERNEL = 15  # as in convolution.h
SCALARS = {torch.float32: "float", torch.float64: "double"}


@cache
def library(dtype: torch.dtype, depth: int) -> ctypes.CDLL:
    """The kernels for heads of `depth` channels."""
    return build.load(SCALARS[dtype], lanes_of(dtype, depth))


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def lanes_of(dtype: torch.dtype, depth: int) -> int:
    """Numbers in a vector where heads have `depth` channels.

    Raises:
        CannotBuild: where none is served.
    """
    return build.lanes_for(depth, dtype.itemsize)


def _check_types(*tensors: Tensor | None) -> None:
    """Kernels read every number as one of the library's type."""
    types = {tensor.dtype for tensor in tensors if tensor is not None}
    if len(types) > 1:
        names = sorted(str(one).removeprefix("torch.") for one in types)
        raise UserError(f"the native operator takes input and weights of one type, not {' and '.join(names)}")


def _struct(numbers: tuple[int, ...], *tensors: Tensor | None) -> bytes:
    """A C structure of whole numbers and then of tensors' addresses, as its header has them: all are of eight bytes."""
    _check_types(*tensors)
    addresses = [0 if tensor is None else tensor.data_ptr() for tensor in tensors]
    return struct.pack(f"{len(numbers) + len(addresses)}q", *numbers, *addresses)


def _run(kernel: Callable[..., int], sizes: bytes, window: int, stride: int) -> None:
    """Run a kernel that has some windows and strides alone."""
    if kernel(sizes):
        raise ShapeError(f"the native operator has no window {window} at stride {stride}")


NO_LAYER = _struct((0,), None, None)


def grid(height: int, width: int, stride: int) -> tuple[int, int]:
    """(h, w): every stride-th pixel."""
    return -(-height // stride), -(-width // stride)


def pack_projection(weight: Tensor, lanes: int) -> Tensor:
    """Bring a 1x1 convolution's weights (3C, C_in) into the order in which they are read.

    Returns:
        (3C * C_in,): blocks of four vectors of channels (two where a CPU has 16 registers), then of one, each
        [input][channel].
    """
    weight = weight.contiguous()
    packed = weight.new_empty(weight.numel())
    sizes = [ctypes.c_long(size) for size in weight.shape]
    built = build.load(SCALARS[weight.dtype], lanes)
    built.pack_projection(_pointer(weight), *sizes, _pointer(packed), ctypes.c_long(torch.get_num_threads()))
    return packed


def pack_path(
    kernel: Tensor, groups: int, lanes: int, layer: Tensor | None = None, factor: Tensor | None = None
) -> Tensor:
    """Bring the convolution path's kernel (C, m, k, k) into the order in which it is read.

    Args:
        layer: (m, i), the fully connected layer, which goes into the kernel; None where m is i.
        factor: of the layer, one number; None for 1.

    Returns:
        (d / lanes, k, i, k, N, lanes): vector of groups, row of the kernel, map in, column, map out, group.
    """
    _check_types(kernel, layer, factor)
    packed = empty_path(kernel, groups, lanes, layer)
    _, size, inputs, _, outputs, _ = packed.shape
    kernel, layer = kernel.contiguous(), None if layer is None else layer.contiguous()
    pointers = [None if t is None else _pointer(t) for t in (kernel, layer, factor)]
    sizes = [ctypes.c_long(n) for n in (groups, outputs, kernel.shape[1], inputs, size)]
    build.load(SCALARS[kernel.dtype], lanes).pack_path(*pointers, *sizes, _pointer(packed))
    return packed


def empty_path(
    kernel: Tensor, groups: int, lanes: int, layer: Tensor | None = None, factor: Tensor | None = None
) -> Tensor:
    """As `pack_path`, without values."""
    channels, inputs, size = kernel.shape[:3]
    if size > LARGEST_KERNEL:
        raise ShapeError(f"the native operator has kernels up to {LARGEST_KERNEL}, not {size}")
    inputs = inputs if layer is None else layer.shape[1]
    return kernel.new_empty(groups // lanes, size, inputs, size, channels // groups, lanes)


def unpack_projection(packed: Tensor, channels: int, lanes: int) -> Tensor:
    """The weights (channels, C_in) that `pack_projection` brought into order."""
    together = 4 if build.registers() == 32 else 3  # vectors, PROJECTED in projection.h
    inputs, block = len(packed) // channels, together * lanes
    whole = channels // block * block * inputs
    parts = packed[:whole].view(-1, inputs, block), packed[whole:].view(-1, inputs, lanes)
    return torch.cat([part.transpose(1, 2).reshape(-1, inputs) for part in parts])


def unpack_path(packed: Tensor) -> Tensor:
    """The kernel (C, i, k, k) that `pack_path` brought into order."""
    kernel_NV = packed.permute(0, 5, 4, 2, 1, 3)
    return kernel_NV.flatten(0, 1).flatten(0, 1)


def local_attention(qkv: Tensor, position: Tensor, heads: int, window: int, stride: int) -> tuple[Tensor, Tensor]:
    """The attention (B, h, w, C), and each query's largest score and one over its sum, (2, B, N, h, w)."""
    batch, height, width, channels3 = qkv.shape
    out, statistics = empty_attention(qkv, position, heads, window, stride)
    qkv, position = qkv.contiguous(), position.contiguous()
    depth = channels3 // 3 // heads
    sizes = (batch, height, width, channels3, heads, depth, window, 1, stride, torch.get_num_threads())
    fields = _struct(sizes, qkv, None, None, position, None, None, None, out, statistics)
    _run(library(qkv.dtype, depth).operator_forward, fields, window, stride)
    return out, statistics


def empty_attention(qkv: Tensor, position: Tensor, heads: int, window: int, stride: int) -> tuple[Tensor, Tensor]:
    """As `local_attention`, without values."""
    batch, height, width, channels3 = qkv.shape
    check_window(height, width, window)
    h, w = grid(height, width, stride)
    return qkv.new_empty(batch, h, w, channels3 // 3), qkv.new_empty(2, batch, heads, h, w)


def local_attention_backward(
    gradient: Tensor,
    qkv: Tensor,
    position: Tensor,
    out: Tensor,
    statistics: Tensor,
    heads: int,
    window: int,
    stride: int,
) -> tuple[Tensor, Tensor]:
    """The gradients of qkv and position."""
    batch, height, width, channels3 = qkv.shape
    depth = channels3 // 3 // heads
    qkv, position, gradient = qkv.contiguous(), position.contiguous(), gradient.contiguous()
    result = torch.zeros_like(qkv)
    sizes = (batch, height, width, heads, depth, window, stride, torch.get_num_threads())
    fields = _struct(sizes, qkv, position, out, statistics, gradient, result)
    _run(library(qkv.dtype, depth).attention_backward, fields, window, stride)
    # What is taken off every head's keys.
    key_BHWNd = result[..., channels3 // 3 : channels3 // 3 * 2].unflatten(-1, (heads, -1))
    return result, -key_BHWNd.sum((0, 3))


def convolution_path(maps: Tensor, kernel: Tensor, stride: int) -> Tensor:
    """(B, H, W, i * d) and (C, i, k, k) to (B, h, w, C), channels e-major."""
    out = empty_convolution(maps, kernel, stride)
    groups = maps.shape[-1] // kernel.shape[1]
    packed = pack_path(kernel, groups, lanes_of(maps.dtype, groups))
    return _convolved(maps, packed, out, stride=stride, in_by_group=False, out_by_group=True)


def empty_convolution(maps: Tensor, kernel: Tensor, stride: int) -> Tensor:
    """As `convolution_path`, without values."""
    _check_types(maps, kernel)
    batch, height, width, _ = maps.shape
    return maps.new_empty(batch, *grid(height, width, stride), kernel.shape[0])


def connected_path(maps: Tensor, weight: Tensor, bias: Tensor | None, kernel: Tensor, stride: int) -> Tensor:
    """(B, H, W, i * d), (m, i), (m,) and (C, m, k, k) to (B, h, w, C), channels e-major."""
    _check_types(maps, weight, bias, kernel)
    out = empty_connected(maps, weight, bias, kernel, stride)
    inputs, values = weight.shape
    groups = maps.shape[-1] // values
    packed = pack_path(kernel, groups, lanes_of(maps.dtype, groups))
    turned, bias = weight.t().contiguous(), maps.new_zeros(inputs) if bias is None else bias.contiguous()
    layer = _struct((values,), turned, bias)
    return _convolved(maps, packed, out, layer, stride=stride, in_by_group=False, out_by_group=True)


def empty_connected(maps: Tensor, weight: Tensor, bias: Tensor | None, kernel: Tensor, stride: int) -> Tensor:
    """As `connected_path`, without values."""
    return empty_convolution(maps, kernel, stride)


def _convolved(
    maps: Tensor,
    packed: Tensor,
    out: Tensor,
    layer: bytes = NO_LAYER,
    *,
    stride: int,
    in_by_group: bool,
    out_by_group: bool,
) -> Tensor:
    maps = maps.contiguous()
    sizes = _sizes_of(maps, packed, stride=stride, in_by_group=in_by_group, out_by_group=out_by_group)
    built = build.load(SCALARS[maps.dtype], packed.shape[-1])
    built.convolution_forward(sizes, layer, *map(_pointer, (maps, packed, out)))
    return out


def _sizes_of(maps: Tensor, packed: Tensor, *, stride: int, in_by_group: bool, out_by_group: bool) -> bytes:
    batch, height, width, channels = maps.shape
    vectors, size, inputs, _, outputs, lanes = packed.shape
    threads = torch.get_num_threads()
    counts = (batch, height, width, vectors * lanes, inputs, outputs, size, stride, threads)
    return _struct((*counts, channels, 0, in_by_group, out_by_group))


def _pointer(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def convolution_path_backward(gradient: Tensor, maps: Tensor, kernel: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """The gradients of maps and kernel."""
    inputs = kernel.shape[1]
    groups = maps.shape[-1] // inputs
    lanes = lanes_of(maps.dtype, groups)
    maps, gradient = maps.contiguous(), gradient.contiguous()
    packed = empty_path(kernel, groups, lanes)
    sizes = _sizes_of(maps, packed, stride=stride, in_by_group=False, out_by_group=True)
    built = build.load(SCALARS[maps.dtype], lanes)
    built.convolution_backward(sizes, *map(_pointer, (maps, gradient, packed)))
    # The maps' gradient is a convolution too: taps turned round, maps in and out exchanged, and zeros between pixels
    # where there is a stride.
    if stride > 1:
        spread = gradient.new_zeros(*maps.shape[:3], kernel.shape[0])
        spread[:, ::stride, ::stride] = gradient
        gradient = spread
    turned = kernel.unflatten(0, (groups, -1)).transpose(1, 2).flip(-1, -2).flatten(0, 1)
    turned = pack_path(turned.contiguous(), groups, lanes)
    to_maps = _convolved(gradient, turned, torch.empty_like(maps), stride=1, in_by_group=True, out_by_group=False)
    return to_maps, unpack_path(packed).contiguous()


def operator(
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
    """The whole operator: see `acmix_bench.ops.native.operators.operator`."""
    out = empty_operator(x, projection, bias, position, factor, path, shift, heads, window, stride)
    batch, inputs, height, width = x.shape
    depth = out.shape[1] // heads
    x = x.contiguous(memory_format=torch.channels_last)
    kernel = 1 if path is None else path.shape[1]
    sizes = (batch, height, width, inputs, heads, depth, window, kernel, stride, torch.get_num_threads())
    weights = [None if t is None else t.contiguous() for t in (projection, bias, position, factor, path, shift)]
    _run(library(x.dtype, depth).operator_forward, _struct(sizes, x, *weights, out, None), window, stride)
    return out


def empty_operator(x: Tensor, projection: Tensor, bias: Tensor, *more: Any) -> Tensor:
    """As `operator`, without values."""
    if x.dim() != 4:
        raise ShapeError(f"the native operator takes (B, C, H, W), not {x.dim()} dimensions")
    batch, inputs, height, width = x.shape
    wanted = projection.numel() // bias.shape[0]
    if inputs != wanted:
        raise ShapeError(f"the native operator's projection takes {wanted} channels, not {inputs}")
    *_, window, stride = more
    check_window(height, width, window)
    shape = batch, bias.shape[0] // 3, *grid(height, width, stride)
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
