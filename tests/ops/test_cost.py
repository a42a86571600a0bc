"""The closed form against what is really multiplied, and against what counters say."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from multiplied import multiplied

from acmix_bench.meters import macs
from acmix_bench.ops import cost
from acmix_bench.ops.acmix import ACmix
from acmix_bench.ops.plain import Convolution


@given(
    paths=st.sampled_from(["both", "attention", "conv"]),
    shift=st.sampled_from(["tensor", "group"]),
    window=st.sampled_from([3, 5, 7]),
    kernel_size=st.sampled_from([1, 3, 5]),
    stride=st.sampled_from([1, 2]),
    heads=st.sampled_from([1, 2, 4]),
    head_dim=st.integers(1, 4),
    height=st.integers(5, 12),
    width=st.integers(5, 12),
    in_channels=st.integers(1, 5),
)
def test_closed_form_is_what_the_reference_multiplies(
    paths, shift, window, kernel_size, stride, heads, head_dim, height, width, in_channels
) -> None:
    axes = {"window": window, "kernel_size": kernel_size, "stride": stride, "paths": paths, "shift": shift}
    module = ACmix(in_channels, heads * head_dim, heads=heads, mix="fixed", implementation="reference", **axes)
    x = torch.randn(1, in_channels, height, width)
    assert sum(module.macs(x).values()) == multiplied(module, x)


@given(stride=st.sampled_from([1, 2]), kernel_size=st.sampled_from([1, 3, 5]), size=st.integers(3, 12))
def test_plain_convolution_costs_what_it_multiplies(stride: int, kernel_size: int, size: int) -> None:
    module = Convolution(3, 5, stride=stride, kernel_size=kernel_size)
    x = torch.randn(1, 3, size, size + 1)
    assert module.macs(x) == dict.fromkeys(cost.STAGES, 0) | {"stage_1": multiplied(module, x)}


@pytest.mark.parametrize(("channels", "parameters"), [(64, 17_822), (128, 60_110), (256, 218_414), (512, 829_934)])
def test_parameters_of_a_single_operator(channels: int, parameters: int) -> None:
    module = ACmix(channels, channels)
    assert sum(p.numel() for p in module.parameters()) == parameters
    axes = {"paths": "both", "mix": "alpha-beta", "shift": "group", "kernel": "learned"}
    assert cost.operator_parameters(channels, channels, heads=4, kernel_size=3, **axes) == parameters


@given(
    paths=st.sampled_from(["both", "attention", "conv"]),
    mix=st.sampled_from(["fixed", "alpha", "alpha-beta"]),
    shift=st.sampled_from(["tensor", "group"]),
    kernel=st.sampled_from(["fixed", "learned"]),
    kernel_size=st.sampled_from([1, 3, 5]),
    heads=st.sampled_from([1, 2, 4]),
    in_channels=st.integers(1, 9),
)
def test_parameters_are_the_closed_form(paths, mix, shift, kernel, kernel_size, heads, in_channels) -> None:
    axes = {"heads": heads, "kernel_size": kernel_size, "paths": paths, "mix": mix, "shift": shift, "kernel": kernel}
    module = ACmix(in_channels, 8, **axes)
    assert sum(p.numel() for p in module.parameters()) == cost.operator_parameters(in_channels, 8, **axes)


def test_counters_miss_the_attention_products() -> None:
    """24.6 % of the operator at C 64, 28x28; the closed form decides."""
    module = ACmix(64, 64, implementation="reference").eval()
    image = torch.randn(1, 64, 28, 28)
    true = sum(module.macs(image).values())
    for counted in (
        macs.count_with_fvcore(module, image)["fvcore"],
        macs.count_with_flop_counter(module, image)["flop_counter"],
    ):
        assert true - counted == module.macs(image)["attention"]
        assert round(100 * (true - counted) / true, 1) == 24.6


def test_what_the_counters_leave_out_is_named() -> None:
    module = ACmix(8, 8, implementation="reference").eval()
    image = torch.randn(1, 8, 8, 8)
    assert {"aten::mul", "aten::softmax"} <= set(macs.count_with_fvcore(module, image)["fvcore_not_counted"])
    left_out = macs.count_with_flop_counter(module, image)["flop_counter_not_counted"]
    assert {"aten::mul", "aten::_softmax"} <= set(left_out)
