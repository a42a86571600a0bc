"""The cost ledger: every operation that a model executes is in one of four books.

counted     matrix products, convolutions and fused attention, by the sizes of their operands
formula     products that are written as multiply-and-sum: one multiply-add for each pair of elements
zero        costs nothing by the field's convention: normalisation, activations, softmax, additions, scaling by a
            number, and whatever only moves or makes elements
unknown     everything else: listed, and never a zero
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from acmix_bench.ops.native import operators as native

MACs = Callable[[Any, Any], int]

# Operations that move or make numbers and do no arithmetic on them; the views among them know that themselves.
MOVES = {
    *("clone", "copy_", "_to_copy", "cat", "stack", "index", "index_select", "gather", "roll", "repeat", "im2col"),
    *("constant_pad_nd", "reflection_pad2d", "max_pool2d_with_indices", "embedding", "native_channel_shuffle"),
    *("channel_shuffle", "upsample_nearest2d", "masked_fill", "split", "split_with_sizes", "unbind", "detach"),
    *("empty", "empty_like", "new_empty", "zeros", "zeros_like", "new_zeros", "ones", "ones_like", "full", "fill_"),
    *("full_like", "arange", "linspace", "eye", "scalar_tensor", "lift_fresh", "_unsafe_view", "_reshape_copy"),
    *("empty_strided", "new_empty_strided", "zero_", "resize_", "expand_copy", "flip", "where", "_local_scalar_dense"),
    # Their backward passes put numbers back where they came from.
    *("select_backward", "slice_backward", "col2im", "reflection_pad2d_backward", "max_pool2d_with_indices_backward"),
    *("upsample_nearest2d_backward", "index_add", "index_add_", "index_put", "index_put_", "_index_put_impl_"),
    *("new_full", "nonzero"),
    *("scatter_add", "scatter_add_", "scatter", "as_strided_", "_unsafe_index", "_unsafe_index_put"),
    "pack_projection",  # of the operator in C++
}
# Arithmetic that the field counts as nothing, forward and backward.
FREE = {
    *("add", "add_", "sub", "sub_", "rsub", "neg", "div", "div_", "sum", "mean", "abs", "pow", "sqrt", "rsqrt", "log"),
    *(
        "exp",
        "addcmul",
        "addcmul_",
        "addcdiv",
        "maximum",
        "minimum",
        "clamp",
        "clamp_min",
        "clamp_min_",
    ),
    *("relu", "relu_", "gelu", "silu", "sigmoid", "tanh", "hardtanh", "threshold_backward", "gelu_backward"),
    *("native_batch_norm", "native_layer_norm", "native_group_norm", "native_batch_norm_backward"),
    *("native_layer_norm_backward", "_softmax", "_softmax_backward_data", "_log_softmax", "bernoulli_", "dropout"),
    *("cudnn_batch_norm", "_native_batch_norm_legit_no_training", "_native_batch_norm_legit", "batch_norm_backward"),
    *("_adaptive_avg_pool2d", "avg_pool2d", "_adaptive_avg_pool2d_backward", "avg_pool2d_backward", "lerp"),
    *("_safe_softmax", "amax", "eq", "ne", "lt", "le", "gt", "ge", "logical_not", "bitwise_and"),
    *("bitwise_not", "__and__", "log2", "floor"),
    # What interpolates: maps, and regions of them.
    *("upsample_bilinear2d", "upsample_bilinear2d_backward", "roi_align", "_roi_align_backward"),
}


def _product(arguments: Any, out: Any) -> int:
    """Each element of the result is a dot product along the first operand's last dimension."""
    return int(out.numel() * arguments[0].shape[-1])


def _biased_product(arguments: Any, out: Any) -> int:
    return int(out.numel() * arguments[1].shape[-1])


def _convolution(arguments: Any, out: Any) -> int:
    weight, transposed = arguments[1], arguments[6]
    return int((arguments[0] if transposed else out).numel() * prod(weight.shape[1:]))


def _convolution_backward(arguments: Any, _: Any) -> int:
    """The gradients of input and weight each take what the forward pass took, in any number of groups."""
    gradient, x, weight, transposed, wanted = arguments[0], arguments[1], arguments[2], arguments[7], arguments[10]
    return int((x if transposed else gradient).numel() * prod(weight.shape[1:]) * sum(wanted[:2]))


def _attention(arguments: Any, _: Any) -> int:
    """Scores, then the weighted sum: (B, N, L, d), (B, N, S, d) and (B, N, S, d)."""
    query, key, value = arguments[:3]
    return int(prod(query.shape[:3]) * key.shape[2] * (query.shape[3] + value.shape[3]))


def _attention_backward(arguments: Any, _: Any) -> int:
    """The scores once more, then the gradients of the weights, values, queries and keys: five products."""
    query, key, value = arguments[1:4]
    return int(prod(query.shape[:3]) * key.shape[2] * (3 * query.shape[3] + 2 * value.shape[3]))


COUNTED: dict[str, MACs] = {
    **native.MACS,
    "mm": _product,
    "bmm": _product,
    "mv": _product,
    "dot": lambda arguments, _: int(arguments[0].numel()),
    "addmm": _biased_product,
    "addmv": _biased_product,
    "baddbmm": _biased_product,
    "convolution": _convolution,
    "_convolution": _convolution,
    "convolution_backward": _convolution_backward,
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
    "_scaled_dot_product_flash_attention": _attention,
    "_scaled_dot_product_efficient_attention": _attention,
    "_scaled_dot_product_cudnn_attention": _attention,
    "_scaled_dot_product_flash_attention_for_cpu_backward": _attention_backward,
    "_scaled_dot_product_flash_attention_backward": _attention_backward,
    "_scaled_dot_product_efficient_attention_backward": _attention_backward,
    "_scaled_dot_product_cudnn_attention_backward": _attention_backward,
}


@dataclass
class Ledger:
    """What was executed: multiply-adds by operation, and how often the rest ran. `activations` are elements."""

    counted: Counter[str] = field(default_factory=Counter)
    formula: Counter[str] = field(default_factory=Counter)
    zero: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    activations: int = 0

    @property
    def macs(self) -> int:
        """All multiply-adds that are known."""
        return self.counted.total() + self.formula.total()


class Bookkeeper(TorchDispatchMode):
    """Enters every operation that runs under it into its ledger."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with self:  # composites are entered by their parts
            decomposed = func.decompose(*args, **(kwargs or {})) if _name(func) not in COUNTED else NotImplemented
        if decomposed is not NotImplemented:
            return decomposed
        out = func(*args, **(kwargs or {}))
        self._enter(func, args, out)
        return out

    def _enter(self, func: Any, args: Any, out: Any) -> None:
        name, books = _name(func), self.ledger
        if name in COUNTED:
            first = out[0] if isinstance(out, tuple | list) else out
            books.counted[name] += COUNTED[name](args, first)
            books.activations += first.numel() if isinstance(first, Tensor) else 0
        elif name in ("mul", "mul_") and isinstance(args[1], Tensor) and min(map(Tensor.numel, (*args[:2], out))) > 1:
            # Two tensors are multiplied, and not one scaled by a number.
            books.formula[name] += out.numel()
        elif name in ("mul", "mul_", *FREE, *MOVES) or func.is_view:
            books.zero[name] += 1
        else:
            books.unknown[f"aten::{name}"] += 1


def keep(
    model: nn.Module,
    image: Tensor,
    *more: Any,
    backward: bool = False,
    beside: AbstractContextManager[Any] | None = None,
) -> Ledger:
    """Run a model once, or its backward pass from the sum of what it gives, and keep the books of that.

    Args:
        more: what it takes beside the image.
        beside: another counter of the backward pass.
    """
    if not backward:
        with torch.no_grad(), Bookkeeper() as keeper:
            model(image, *more)
        return keeper.ledger
    first, *others = (one.sum() for one in tree_leaves(model(image.clone().requires_grad_(), *more)))
    loss = sum(others, first)
    with beside or nullcontext(), Bookkeeper() as keeper:
        loss.backward()
    model.zero_grad(set_to_none=True)
    return keeper.ledger


def _name(func: Any) -> str:
    name: str = func.overloadpacket.__name__
    return name


def arithmetic(ledger: Ledger) -> set[str]:
    """The operations that compute: no moves and no views, and one name for all ways to write a matrix product."""
    products = {name for name, macs in COUNTED.items() if macs in (_product, _biased_product)}
    named = {"matrix product" if name in products else name for name in ledger.counted}
    return named.union(ledger.formula, ledger.unknown, FREE.intersection(ledger.zero))
