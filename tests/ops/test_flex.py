"""Local attention in other kernels than torch's products: flex_attention, and NATTEN by its documented definition.

flex_attention is compiled for each size, in seconds; so it runs few times here. What it is made of, the padded map and
the windows, is checked by the dense form, in float64 and with gradients; its kernels on a GPU by tests/gpu.
"""

from __future__ import annotations

import sys
import types

import pytest
import torch
import torch.nn.functional as F
from cells import QUICK, cell_of
from hypothesis import given
from hypothesis import strategies as st
from native_here import apart
from operator_pairs import worst_difference
from torch import Tensor

from acmix_bench.backbones.build import build
from acmix_bench.errors import ShapeError, UserError
from acmix_bench.meters import latency, steps
from acmix_bench.meters.macs import measure as count
from acmix_bench.meters.parity import measure as compare
from acmix_bench.meters.subject import Subject, try_out
from acmix_bench.ops import flex, natten, padded
from acmix_bench.ops.acmix import ACmix
from acmix_bench.spec import library

CPU = torch.device("cpu")
can_compile = pytest.mark.skipif(
    flex.why_not("cpu", torch.float32, trains=False) is not None, reason="torch.compile needs a C++ compiler on a CPU"
)
SIZES = [(14, 13, 7, 1), (15, 14, 5, 2), (9, 8, 3, 3), (131, 7, 3, 1), (7, 150, 7, 2), (40, 41, 7, 1), (4, 4, 7, 1)]


def pair_of(implementation: str, channels: int = 32, **axes: object) -> tuple[ACmix, ACmix]:
    """The same operator in a kernel, in float32, and its literal reference in float64."""
    ours = ACmix(8, channels, implementation=implementation, **axes)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    literal = ACmix(8, channels, implementation="reference", **axes).double()
    literal.load_state_dict(ours.state_dict())
    return ours, literal


@pytest.mark.parametrize("implementation", ["flex", "natten"])
@given(
    height=st.integers(4, 17),
    width=st.integers(4, 17),
    window=st.sampled_from([1, 3, 5, 7]),
    stride=st.sampled_from([1, 2, 3]),
    heads=st.sampled_from([1, 2, 4]),
)
def test_padded_map_and_windows_are_the_operators(implementation, height, width, window, stride, heads) -> None:
    ours, literal = pair_of(implementation, 8, heads=heads, window=window, stride=stride)
    x = torch.randn(2, 8, height, width, dtype=torch.float64)
    assert worst_difference(ours.double(), literal, x) < 1e-9


@pytest.mark.parametrize(("height", "width", "window", "stride"), SIZES)
def test_a_block_mask_holds_every_window_and_little_more(height: int, width: int, window: int, stride: int) -> None:
    from torch.nn.attention.flex_attention import create_block_mask, create_mask

    ours = flex.block_mask(height, width, window, stride, CPU)
    windows = padded.window_mask(height, width, window, stride, CPU)
    assert torch.equal(create_mask(ours.mask_mod, 1, 1, *windows.shape, device="cpu")[0, 0], windows)
    needed = create_block_mask(ours.mask_mod, 1, 1, *windows.shape, device="cpu").to_dense().bool()
    taken = ours.to_dense().bool()
    assert taken.shape == needed.shape
    assert (taken | ~needed).all()
    assert taken.sum() <= 1.2 * needed.sum()


@can_compile
def test_flex_attention_is_the_reference() -> None:
    """Odd sizes at stride 2, and half types; 8 channels a head, which a GPU's kernel would need padded."""
    ours, literal = pair_of("flex", stride=2)
    x = torch.randn(2, 8, 15, 14)
    with torch.no_grad():
        assert apart(ours(x), literal(x.double())) < 1e-5
    half, literal = pair_of("flex", heads=2)
    x = torch.randn(2, 8, 13, 9).bfloat16()
    with torch.inference_mode():
        assert apart(half.bfloat16()(x), literal(x.double())) < 0.03


@can_compile
def test_a_timing_says_which_kernel_ran() -> None:
    subjects = [
        Subject.of(cell_of(variant, "inference", "operator-8", 9)) for variant in ("implementation=flex", "production")
    ]
    ours, torchs = latency.alternate(subjects, steps.inference)
    assert ours["kernels"] == ["flex_attention"]
    assert torchs["kernels"] == ["scaled_dot_product_attention: flash_attention"]
    assert ours["peak_bytes"] is None  # nobody sees into compiled code
    assert len(ours["seconds"]) > 2


def test_parity_and_counts_are_of_the_same_function() -> None:
    for name in ("flex", "natten"):
        assert compare(Subject.of(cell_of(f"implementation={name}", "parity", "operator-8", 9)))["difference"] < 1e-9
    counted = [
        count(Subject.of(cell_of(variant, "macs", "nano", 16))) for variant in ("implementation=flex", "production")
    ]
    assert counted[0] == counted[1]


@pytest.mark.parametrize(
    ("implementation", "meter", "protocol", "message"),
    [
        ("flex", "training", {}, "implementation=flex does not serve this: .* no backward pass on the CPU"),
        ("flex", "inference", {"dtype": "float64"}, "implementation=flex does not serve this: .* no float64"),
        ("natten", "inference", {}, "implementation=natten does not serve this: NATTEN is not installed"),
        ("flex", "accuracy", {}, "implementation=flex says nothing about accuracy"),
    ],
)
def test_what_a_kernel_cannot_is_said_before_anything_is_measured(
    implementation, meter, protocol, message, monkeypatch
) -> None:
    monkeypatch.setattr(natten, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=message) as raised:
        try_out(cell_of(f"implementation={implementation}", meter, protocol=QUICK.model_copy(update=protocol)))
    assert "\n" not in str(raised.value)


@can_compile
def test_what_can_be_is_tried_without_running_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flex, "_run", lambda *_: pytest.fail("compiled"))
    try_out(cell_of("implementation=flex", "inference"))
    for meter in ("params", "macs", "parity"):
        try_out(cell_of("implementation=flex", meter))


def test_an_operator_insists(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(1, 8, 9, 9)
    with pytest.raises(ShapeError, match=r"implementation=flex does not serve this: .* no backward pass on the CPU"):
        ACmix(8, 16, implementation="flex")(x)
    monkeypatch.setattr(natten, "find_spec", lambda name: None)
    with pytest.raises(ShapeError, match="implementation=natten does not serve this: NATTEN is not installed"):
        ACmix(8, 16, implementation="natten")(x)
    monkeypatch.setattr(flex.shutil, "which", lambda name: None)
    assert flex.why_not("cpu", torch.float32, trains=False) == "torch.compile found no C++ compiler (g++ or clang++)"
    (variant,) = library.expand("implementation=flex", library.load_variant("acmix"))
    with pytest.raises(UserError, match="swin-t has window attention; implementation=flex is for local attention"):
        build("swin-t", variant, in_channels=3, num_classes=10, image_size=224)


def na2d_as_documented(query: Tensor, key: Tensor, value: Tensor, kernel_size: int, scale: float) -> Tensor:
    """NATTEN's neighbourhood attention: (B, H, W, N, d); a window that would cross an edge is moved back."""
    inside = []
    for size in query.shape[1:3]:
        start = (torch.arange(size) - kernel_size // 2).clamp(0, size - kernel_size)[:, None]
        inside.append((torch.arange(size) >= start) & (torch.arange(size) < start + kernel_size))
    mask = (inside[0][:, None, :, None] & inside[1][None, :, None, :]).flatten(2).flatten(0, 1)
    q, k, v = (x.flatten(1, 2).transpose(1, 2) for x in (query, key, value))
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
    return out.transpose(1, 2).unflatten(1, query.shape[1:3])


@pytest.mark.parametrize(
    ("axes", "size"), [({}, (9, 11)), ({"stride": 2, "heads": 2}, (12, 7)), ({"window": 3}, (5, 4))]
)
def test_natten_as_documented_is_the_reference(axes, size, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its package is not here: a stand-in has its layout, and its windows at the edges."""
    stand_in = types.ModuleType("natten")
    stand_in.na2d = na2d_as_documented
    monkeypatch.setitem(sys.modules, "natten", stand_in)
    monkeypatch.setattr(natten, "why_not", lambda *_, **__: None)
    ours, literal = pair_of("natten", 16, **axes)
    x = torch.randn(2, 8, *size)
    results = []
    for layer, image in ((ours, x.clone().requires_grad_()), (literal, x.double().requires_grad_())):
        out = layer(image)
        results.append([out, *torch.autograd.grad(out.sin().sum(), [image, *layer.parameters()])])
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine.double(), theirs, rtol=1e-4, atol=1e-4)
