"""Run a model for its shapes alone: every operation gives a tensor of the right size, and computes nothing.

The tensors stay on the CPU. So whatever chooses by device or layout (how attention is computed, whether a copy is
needed) chooses as it does where numbers are computed, other libraries' tracers see what they always see, and an empty
tensor's memory is reserved and never touched. Sizes come from torch's meta kernels; `RULES` has its own for
operations whose CPU kernel lays its result out in another way than they say, which the next choice may depend on, and
for those that are slow there.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch._prims_common import suggest_memory_format
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
_UNWATCHED = ThreadPoolExecutor(1)


class ShapesDoNotSuffice(Exception):
    """A model looks at the values of a tensor, or an operation has no kernel that knows sizes alone."""


class ShapesOnly(TorchDispatchMode):
    """Whatever depends on the weights of some models, or on their input, is not computed: it has a size alone.

    All else is computed as ever, so that nothing without values stays behind: neither in a cache of what every run
    shares (a mask, an index), nor where a tracer has sizes as tensors.

    Args:
        hollow: the tensors whose values are not to be read.

    Raises:
        ShapesDoNotSuffice: where a value is asked for that is not there.
    """

    def __init__(self, hollow: Iterable[Tensor]) -> None:
        super().__init__()
        self._hollow: set[int] = set()
        self._mark(hollow)

    def _mark(self, tensors: Iterable[Any]) -> None:
        for tensor in _tensors(tensors):
            storage = tensor.untyped_storage()
            if storage._cdata not in self._hollow:
                self._hollow.add(storage._cdata)
                weakref.finalize(storage, self._hollow.discard, storage._cdata)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in RULES and _is_composite(func):
            with self:  # inference mode hands over what it is made of as a whole
                return func.decompose(*args, **kwargs)
        if _keeps_values(func):
            return func(*args, **kwargs)
        if not any(tensor.untyped_storage()._cdata in self._hollow for tensor in _tensors((*args, *kwargs.values()))):
            return func(*args, **kwargs)
        if func is aten._local_scalar_dense.default:
            raise ShapesDoNotSuffice("the value of a tensor is asked for")
        made = partial(RULES[func], *args, **kwargs) if func in RULES else partial(_as_on_meta, func, args, kwargs)
        # A tracer watches its own thread: in another one, sizes are plain numbers.
        out = _UNWATCHED.submit(made).result() if torch._C._is_tracing() else made()
        self._mark(out if isinstance(out, tuple | list) else (out,))
        return out


class Unwritten(TorchDispatchMode):
    """Nothing is written into tensors of the meta device, which hold nothing: initialising a model takes no time."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        writes = func.overloadpacket.__name__.endswith("_") and torch.Tag.inplace_view not in func.tags
        if writes and isinstance(args[0], Tensor) and args[0].is_meta:
            return args[0]
        return func(*args, **(kwargs or {}))


class ConvolutionsAsTraced(TorchFunctionMode):
    """Calls a convolution as a trace holds it; else a dispatch mode takes it before the tracer has seen it."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        return _traced_conv2d(*args, **kwargs) if func is torch.conv2d else func(*args, **kwargs)


def _traced_conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    if isinstance(padding, str):
        raise ShapesDoNotSuffice(f"padding={padding!r}")
    stride, padding, dilation = ((one, one) if isinstance(one, int) else one for one in (stride, padding, dilation))
    # Not transposed, not benchmarked, by any library.
    more = (False, (0, 0), groups, False, False, True, True)
    return torch._convolution(input, weight, bias, stride, padding, dilation, *more)


@contextmanager
def traced_shapes(hollow: Iterable[Tensor]) -> Iterator[None]:
    """As `ShapesOnly`, for a tracer that watches."""
    with ShapesOnly(hollow), ConvolutionsAsTraced():
        yield


@cache
def _is_composite(func: Any) -> bool:
    """Whether an operation only calls others."""
    return torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd")


@cache
def _keeps_values(func: Any) -> bool:
    """Whether the result shows the same memory: it may be made as ever."""
    return bool(func.is_view or torch.Tag.inplace_view in func.tags)


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """Those among an operation's arguments or results, which are tensors, lists of them, or neither."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _as_on_meta(func: Any, args: Any, kwargs: Any) -> Any:
    """What the meta kernel gives, as empty tensors on the CPU; what an operation changes in place is what it was.

    A kernel that was asked once is not asked again for the same sizes: many take a millisecond.
    """
    if func._schema.is_mutable:
        return _ask_meta(func, args, kwargs)
    key = func, _layout_of(args), _layout_of(tuple(kwargs.items()))
    if key not in _ASKED:
        _ASKED[key] = _layout_of(_ask_meta(func, args, kwargs))
    return _empty(_ASKED[key])


@dataclass(frozen=True)
class _Layout:
    """All of a tensor but its values."""

    size: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype


_ASKED: dict[Any, Any] = {}


def _layout_of(value: Any) -> Any:
    """An operation's arguments or results, hashable: tensors by their layout, numbers with their type."""
    if isinstance(value, Tensor):
        return _Layout(value.size(), value.stride(), value.dtype)
    if isinstance(value, list | tuple):
        return tuple(map(_layout_of, value))
    return (type(value), value) if isinstance(value, int | float) else value


def _empty(layout: Any) -> Any:
    if isinstance(layout, _Layout):
        return torch.empty_strided(layout.size, layout.stride, dtype=layout.dtype, device="cpu")
    return tuple(map(_empty, layout)) if isinstance(layout, tuple) else layout


def _ask_meta(func: Any, args: Any, kwargs: Any) -> Any:
    ours: dict[int, tuple[Tensor, Tensor]] = {}

    def on_meta(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [on_meta(one) for one in value]
        if not isinstance(value, Tensor):
            return value
        like = torch.empty_strided(value.size(), value.stride(), dtype=value.dtype, device="meta")
        ours[id(like)] = like, value
        return like

    def on_cpu(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [on_cpu(one) for one in value]
        if not isinstance(value, Tensor):
            return value
        return ours[id(value)][1] if id(value) in ours else _empty(_layout_of(value))

    placed = {key: "meta" if key == "device" else on_meta(value) for key, value in kwargs.items()}
    try:
        return on_cpu(func(*on_meta(args), **placed))
    except (NotImplementedError, RuntimeError) as error:
        raise ShapesDoNotSuffice(f"{func.overloadpacket}: {(str(error).splitlines() or [''])[0]}") from error


def _format(*tensors: Tensor) -> torch.memory_format:
    """The layout that torch's kernels read off strides, which tell more than `is_contiguous` of a size of one."""
    formats = [suggest_memory_format(tensor) for tensor in tensors if tensor.ndim == 4]
    return torch.channels_last if torch.channels_last in formats else torch.contiguous_format


def _convolution(x: Tensor, weight: Tensor, *options: Any) -> Any:
    """Channels-last where the image or the kernel is, which the meta kernel asks of both."""
    out = _as_on_meta(aten.convolution.default, (x, weight, *options[:7]), {})
    return out.contiguous(memory_format=_format(x, weight)) if x.ndim == 4 else out


def _convolution_backward(gradient: Tensor, x: Tensor, weight: Tensor, *options: Any) -> Any:
    """The gradients of image and kernel in the layout of the result; older meta kernels keep that of the gradient."""
    made = _as_on_meta(aten.convolution_backward.default, (gradient, x, weight, *options), {})
    layout = _format(x, weight)
    return [one.contiguous(memory_format=layout) if isinstance(one, Tensor) and one.ndim == 4 else one for one in made]


def _batch_norm_backward(gradient: Tensor, x: Tensor, weight: Tensor, *_: Any) -> Any:
    """In the layout of the input, not of the gradient."""
    return torch.empty(x.shape, dtype=x.dtype).to(memory_format=_format(x)), *(
        weight.new_empty(x.shape[1]) for _ in "wb"
    )


def _layer_norm_backward(gradient: Tensor, x: Tensor, shape: Any, *_: Any) -> Any:
    return x.new_empty(x.shape), x.new_empty(shape), x.new_empty(shape)


def _batch_norm(x: Tensor, *_: Any) -> Any:
    """Of inference, which keeps no statistics."""
    return torch.empty_like(x), x.new_empty(0), x.new_empty(0)


def _layer_norm(x: Tensor, shape: Any, *_: Any) -> Any:
    statistics = (*x.shape[: x.ndim - len(shape)], *(1 for _ in shape))
    return x.new_empty(x.shape), x.new_empty(statistics), x.new_empty(statistics)


def _biased_product(bias: Tensor, x: Tensor, weight: Tensor, **_: Any) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[1])


def _same_size(x: Tensor, *_: Any, **__: Any) -> Tensor:
    return torch.empty_like(x)


RULES: dict[Any, Callable[..., Any]] = {
    aten.convolution.default: _convolution,
    aten._convolution.default: _convolution,
    aten.convolution_backward.default: _convolution_backward,
    aten.channel_shuffle.default: _same_size,
    aten.native_channel_shuffle.default: _same_size,
    aten.native_batch_norm_backward.default: _batch_norm_backward,
    aten.native_layer_norm_backward.default: _layer_norm_backward,
    # The meta kernels of these say the same, in a millisecond each.
    aten._native_batch_norm_legit_no_training.default: _batch_norm,
    aten.native_layer_norm.default: _layer_norm,
    aten.addmm.default: _biased_product,
    aten.gelu.default: _same_size,
    aten.gelu_backward.default: lambda gradient, x, **_: torch.empty_like(x),
}
