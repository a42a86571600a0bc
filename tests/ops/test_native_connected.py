"""The convolution path in C++ where its fully connected layer does not fold: Swin's, whose layer has a bias."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from native_here import CLOSE, EXAMPLES, SERVED, apart, needs_compiler
from torch.utils.flop_counter import FlopCounterMode

from acmix_bench.backbones.fuse import fuse
from acmix_bench.ops import reference
from acmix_bench.ops.native import operators as native
from acmix_bench.ops.window import WindowACmix


@needs_compiler
@pytest.mark.parametrize(("dtype", "lanes"), SERVED)
@settings(deadline=None, max_examples=EXAMPLES)
@given(
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.integers(1, 3),
    values=st.integers(1, 13),
    outputs=st.integers(1, 7),
    vectors=st.integers(1, 2),
    height=st.integers(1, 12),
    width=st.integers(1, 20),
    biased=st.booleans(),
)
@example(kernel=3, stride=1, values=9, outputs=3, vectors=2, height=8, width=7, biased=True)
def test_connected_path(dtype, lanes, kernel, stride, values, outputs, vectors, height, width, biased) -> None:
    groups, taps = lanes * vectors, kernel**2
    maps = torch.randn(2, height, width, values * groups, dtype=torch.float64)
    weight, bias = torch.randn(taps, values, dtype=torch.float64), torch.randn(taps, dtype=torch.float64)
    weights = torch.randn(groups * outputs, taps, kernel, kernel, dtype=torch.float64)
    sizes = {"outputs": outputs, "kernel_size": kernel, "stride": stride}

    literal = reference.convolution_path(maps, weight, bias if biased else None, weights, **sizes)
    maps, weight, bias, weights = (tensor.to(dtype) for tensor in (maps, weight, bias, weights))
    ours = native.connected_path(maps, weight, bias if biased else None, weights, stride=stride)
    assert apart(ours, literal) < 2 * CLOSE[dtype]


@needs_compiler
@pytest.mark.parametrize("fused", [False, True], ids=["as it is", "fused"])
def test_the_path_of_swin(fused: bool) -> None:
    """In C++ for inference, in torch with gradients: the layer's bias keeps it out of the kernel."""
    ours = WindowACmix(64, 2, (7, 7)).eval()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    literal = WindowACmix(64, 2, (7, 7), implementation="reference").double()
    literal.load_state_dict(ours.state_dict())
    x = torch.randn(2, 9, 12, 64)
    expected = literal(x.double())
    if fused:
        ours = fuse(ours)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        assert apart(ours(x), expected) < 1e-5
    counted = counter.get_flop_counts()["Global"]
    assert counted[torch.ops.acmix_bench.connected_path] == 2 * sum(literal.convolution.cost(9, 12).values()) * 2
    assert apart(ours(x), expected) < 1e-5


@needs_compiler
def test_torch_sees_an_operator() -> None:
    maps, weight, bias = torch.randn(1, 5, 6, 24), torch.randn(9, 3), torch.randn(9)
    torch.library.opcheck(
        torch.ops.acmix_bench.connected_path.default, (maps, weight, bias, torch.randn(16, 9, 3, 3), 2)
    )
