"""The operator in C++ against the literal reference in float64: outputs and every gradient, in all that it serves."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from native_here import CLOSE, EXAMPLES, SERVED, apart, needs_compiler
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from acmix_bench.backbones.fuse import fuse
from acmix_bench.errors import ShapeError, UserError
from acmix_bench.meters.ledger import keep
from acmix_bench.ops import convolution, reference
from acmix_bench.ops.acmix import ACmix
from acmix_bench.ops.native import build
from acmix_bench.ops.native import operators as native


def compared(ours, literal, inputs: list[Tensor], dtype: torch.dtype) -> float:
    """The worst of the output and all gradients."""
    results = []
    for function, kind in ((ours, dtype), (literal, torch.float64)):
        given = [tensor.to(kind).requires_grad_() for tensor in inputs]
        out = function(*given)
        weight = torch.linspace(-1, 1, out.numel(), dtype=kind).view_as(out).sin()
        results.append([out, *torch.autograd.grad(out, given, weight)])
    assert all(a.shape == b.shape for a, b in zip(*results, strict=True))
    return max(apart(a, b) for a, b in zip(*results, strict=True))


@needs_compiler
@pytest.mark.parametrize(("dtype", "lanes"), SERVED)
@settings(deadline=None, max_examples=EXAMPLES)
@given(
    window=st.sampled_from(native.WINDOWS),
    stride=st.sampled_from(native.STRIDES),
    heads=st.integers(1, 3),
    vectors=st.integers(1, 3),
    height=st.integers(4, 24),
    width=st.integers(4, 40),
    batch=st.integers(1, 3),
)
@example(window=7, stride=1, heads=1, vectors=1, height=4, width=4, batch=1)
@example(window=7, stride=2, heads=2, vectors=3, height=23, width=33, batch=2)
def test_attention(dtype, lanes, window, stride, heads, vectors, height, width, batch) -> None:
    depth = lanes * vectors
    sizes = {"heads": heads, "window": window, "stride": stride}
    qkv = torch.randn(batch, height, width, 3 * heads * depth, dtype=torch.float64)
    position = torch.randn(height, width, depth, dtype=torch.float64)

    def literal(qkv: Tensor, position: Tensor) -> Tensor:
        return reference.local_attention(*qkv.chunk(3, -1), position, **sizes)

    assert build.lanes_for(depth, dtype.itemsize) >= lanes
    assert compared(lambda *x: native.local_attention(*x, **sizes), literal, [qkv, position], dtype) < CLOSE[dtype]


@needs_compiler
@pytest.mark.parametrize(("dtype", "lanes"), SERVED)
@settings(deadline=None, max_examples=EXAMPLES)
@given(
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.integers(1, 3),
    inputs=st.integers(1, 13),
    outputs=st.integers(1, 6),
    vectors=st.integers(1, 2),
    height=st.integers(1, 12),
    width=st.integers(1, 20),
)
@example(kernel=3, stride=1, inputs=12, outputs=4, vectors=2, height=7, width=7)
@example(kernel=3, stride=3, inputs=2, outputs=3, vectors=1, height=7, width=18)
def test_convolution_path(dtype, lanes, kernel, stride, inputs, outputs, vectors, height, width) -> None:
    groups = lanes * vectors
    maps = torch.randn(2, height, width, inputs * groups, dtype=torch.float64)
    weights = torch.randn(groups * outputs, inputs, kernel, kernel, dtype=torch.float64)

    def literal(maps: Tensor, weights: Tensor) -> Tensor:
        return convolution.convolve_groups(convolution.gather_groups(maps, inputs), weights, stride=stride)

    ours = compared(lambda *x: native.convolution_path(*x, stride=stride), literal, [maps, weights], dtype)
    assert ours < CLOSE[dtype]


def both(dtype: torch.dtype, *sizes: int, **axes: object) -> tuple[nn.Module, nn.Module]:
    """The native operator and the literal one in float64, with the same weights off their start."""
    ours = ACmix(*sizes, implementation="native", **axes)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    literal = ACmix(*sizes, implementation="reference", **axes).double()
    literal.load_state_dict(ours.state_dict())
    return ours.to(dtype), literal


@needs_compiler
@pytest.mark.parametrize(("dtype", "lanes"), SERVED)
@settings(deadline=None, max_examples=EXAMPLES)
@given(
    in_channels=st.sampled_from([1, 3, 20, 130]),
    heads=st.sampled_from([1, 2, 4]),
    window=st.sampled_from(native.WINDOWS),
    stride=st.sampled_from(native.STRIDES),
    kernel=st.sampled_from([1, 3, 9]),
    paths=st.sampled_from(["both", "attention", "conv"]),
    mix=st.sampled_from(["fixed", "alpha", "alpha-beta"]),
    shift=st.sampled_from(["group", "tensor"]),
    height=st.integers(4, 20),
    width=st.integers(4, 36),
    batch=st.integers(1, 3),
)
def test_operator(
    dtype, lanes, in_channels, heads, window, stride, kernel, paths, mix, shift, height, width, batch
) -> None:
    """In one call for inference, and in parts with gradients."""
    axes = {"heads": heads, "window": window, "stride": stride, "kernel_size": kernel, "paths": paths, "mix": mix}
    ours, literal = both(dtype, in_channels, heads * lanes, shift=shift, **axes)
    x = torch.randn(batch, in_channels, height, width, dtype=torch.float64)
    expected = literal(x)
    with torch.inference_mode():
        assert apart(ours(x.to(dtype)), expected) < 2 * CLOSE[dtype]
    # The position's bias has no gradient but rounding: the softmax cancels it.
    names = [name for name, _ in ours.named_parameters() if name != "position.bias"]

    def of(module: nn.Module):
        return lambda x, *values: torch.func.functional_call(module, dict(zip(names, values, strict=True)), x)

    inputs = [x, *(literal.get_parameter(name).detach() for name in names)]
    assert compared(of(ours), of(literal), inputs, dtype) < 3 * CLOSE[dtype]


@needs_compiler
@pytest.mark.parametrize("stride", native.STRIDES)
@pytest.mark.parametrize("window", native.WINDOWS)
@pytest.mark.parametrize("kernel", [1, 3, 9])
def test_a_map_that_is_kept_a_few_rows_at_a_time(window: int, stride: int, kernel: int) -> None:
    """Its q, k and v are too many for a core's cache: rows take the place of those that have been read."""
    ours, literal = both(torch.float32, 5, 64, window=window, stride=stride, kernel_size=kernel)
    x = torch.randn(1, 5, 43, 34)
    assert 3 * 64 * x[0, 0].numel() * x.itemsize > 640 << 10, "operator.h keeps smaller maps whole"
    with torch.inference_mode():
        assert apart(ours(x), literal(x.double())) < 2 * CLOSE[torch.float32]


@needs_compiler
def test_a_changed_sign_would_be_found() -> None:
    ours, literal = both(torch.float32, 8, 32)
    x = torch.randn(1, 8, 9, 9)
    with torch.inference_mode():
        ours.position.weight.neg_()
        assert apart(ours(x), literal(x.double())) > 1e-3


@needs_compiler
@pytest.mark.parametrize("threads", [1, 2, 3, 4])
@pytest.mark.parametrize("batch", [1, 3])
def test_threads_and_repeats_change_no_bit(threads: int, batch: int) -> None:
    ours, _ = both(torch.float32, 16, 64, stride=2)
    x = torch.randn(batch, 16, 27, 30)
    before = torch.get_num_threads()

    def results() -> list[Tensor]:
        with torch.inference_mode():
            at_once = ours(x)
        out = ours(x)
        return [at_once, out, *torch.autograd.grad(out.square().sum(), list(ours.parameters()))]

    try:
        torch.set_num_threads(1)
        expected = results()
        torch.set_num_threads(threads)
        for _ in range(100 if threads == 2 and batch == 1 else 3):
            assert all(map(torch.equal, results()[:2], expected[:2]))
        # torch's own 1x1 convolution may add its gradients in another order.
        for ours_, theirs in zip(results(), expected, strict=True):
            torch.testing.assert_close(ours_, theirs, rtol=1e-4, atol=1e-4)
    finally:
        torch.set_num_threads(before)


@needs_compiler
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_goes_where_the_reference_has_it(value: float) -> None:
    qkv = torch.randn(1, 9, 21, 96)
    qkv[0, 4, 10, 40] = value  # a key
    qkv[0, 8, 20, 70] = value  # a value, in the corner
    position = torch.randn(9, 21, 16)
    sizes = {"heads": 2, "window": 7, "stride": 1}
    ours = native.local_attention(qkv, position, **sizes)
    theirs = reference.local_attention(*qkv.chunk(3, -1), position, **sizes)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4, equal_nan=True)
    assert not ours.isfinite().all()


@needs_compiler
def test_large_scores_neither_overflow_nor_slow_down() -> None:
    """Weights that are almost nothing are no denormal numbers, which would take a hundred times as long."""
    qkv = torch.randn(1, 9, 9, 48) * 30
    ours = native.local_attention(qkv, torch.zeros(9, 9, 16), heads=1, window=7, stride=1)
    literal = reference.local_attention(
        *qkv.double().chunk(3, -1), torch.zeros(9, 9, 16).double(), heads=1, window=7, stride=1
    )
    assert apart(ours, literal) < 1e-3  # what float32 leaves of scores of thousands


@needs_compiler
def test_layouts_that_are_not_contiguous() -> None:
    ours, literal = both(torch.float32, 6, 32)
    wide = torch.randn(2, 12, 18, 22)
    for x in (wide[:, ::2, :, ::2], wide[:, :6].transpose(2, 3), wide[:1, :6].expand(3, -1, -1, -1)):
        with torch.inference_mode():
            assert apart(ours(x), literal(x.double())) < 1e-5
        assert apart(ours(x), literal(x.double())) < 1e-5


@needs_compiler
@torch.no_grad()
@pytest.mark.parametrize("is_fused", [False, True])
@pytest.mark.parametrize(
    ("x", "said"),
    [
        (torch.ones(1, 32, 9, 9), "takes 16 channels, not 32"),
        (torch.ones(1, 8, 9, 9), "takes 16 channels, not 8"),
        (torch.ones(1, 16, 2, 9), "a 2x9 map is too small"),
    ],
)
def test_an_input_that_does_not_fit_is_refused(x: Tensor, said: str, is_fused: bool) -> None:
    """Kernels get addresses, and would read what is no part of a tensor."""
    ours = ACmix(16, 16, implementation="native").eval()
    with pytest.raises(ShapeError, match=said):
        (fuse(ours) if is_fused else ours)(x)


@needs_compiler
def test_input_and_weights_are_of_one_type() -> None:
    ours = ACmix(16, 16, implementation="native").eval()
    with torch.no_grad(), pytest.raises(UserError, match="one type, not float32 and float64"):
        ours(torch.ones(1, 16, 9, 9, dtype=torch.float64))
    qkv, position = torch.ones(1, 9, 9, 48), torch.ones(9, 9, 16, dtype=torch.float64)
    with pytest.raises(UserError, match="one type"):
        native.local_attention(qkv, position, heads=1, window=7, stride=1)
    for kernel, maps in ((qkv.new_ones(48, 1, 3, 3).double(), qkv), (qkv.new_ones(48, 1, 3, 3), qkv.double())):
        with pytest.raises(UserError, match="one type"):
            native.convolution_path(maps, kernel, stride=1)


@needs_compiler
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # of torch's own check
def test_torch_sees_operators() -> None:
    """Schemas, shapes, gradients: torch's own checks of an operator."""
    qkv = torch.randn(1, 5, 6, 24, dtype=torch.float64, requires_grad=True)
    position = torch.randn(5, 6, 4, dtype=torch.float64, requires_grad=True)
    torch.library.opcheck(torch.ops.acmix_bench.local_attention.default, (qkv, position, 2, 3, 2))
    kernel = torch.randn(8, 6, 3, 3, dtype=torch.float64, requires_grad=True)
    torch.library.opcheck(torch.ops.acmix_bench.convolution_path.default, (qkv, kernel, 2))


@needs_compiler
def test_compiled_exported_copied_and_saved() -> None:
    ours, literal = both(torch.float32, 4, 32)
    x = torch.randn(2, 4, 9, 8)
    torch.compiler.reset()
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    assert apart(compiled(x), literal(x.double())) < 1e-5
    with torch.inference_mode():
        assert apart(compiled(x), literal(x.double())) < 1e-5
    with torch.no_grad():
        graph = torch.export.export(ours.eval(), (x,))
        assert "acmix_bench.operator" in str(graph.graph)
        assert apart(graph.module()(x), literal(x.double())) < 1e-5
        saved = io.BytesIO()
        torch.save(ours, saved)
        saved.seek(0)
        for other in (copy.deepcopy(ours), torch.load(saved, weights_only=False)):
            assert torch.equal(other(x), ours(x))


@needs_compiler
@pytest.mark.parametrize("stride", [1, 2])
def test_counters_see_what_the_formula_says(stride: int) -> None:
    """At once and in parts: all multiply-adds, of the path as it runs, folded, and of the fold, once a batch."""
    ours = ACmix(16, 64, stride=stride, implementation="native").eval()
    x = torch.randn(2, 16, 14, 14)
    stages = ours.macs(x)
    path = 12 * 9 * 64 * (14 // stride) ** 2
    expected = 2 * (stages["stage_1"] + stages["attention"] + stages["rest"] + path)
    books = keep(ours, x)
    assert books.macs == expected + 64 * 12 * 9 * 9
    assert not books.unknown
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        ours(x)
    assert counter.get_flop_counts()["Global"][torch.ops.acmix_bench.operator] == 2 * expected
    back = keep(ours, x, backward=True)
    assert back.counted["local_attention_backward"] == 5 * stages["attention"]
    assert not back.unknown
