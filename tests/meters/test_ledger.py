"""The ledger: equal to the closed form, complete on every backbone, and right where counters are not."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from acmix_bench import cli
from acmix_bench.backbones.build import build
from acmix_bench.meters import macs
from acmix_bench.meters.ledger import keep
from acmix_bench.ops.acmix import ACmix
from acmix_bench.spec import library


@given(
    paths=st.sampled_from(["both", "attention", "conv"]),
    shift=st.sampled_from(["tensor", "group"]),
    mix=st.sampled_from(["fixed", "alpha", "alpha-beta"]),
    window=st.sampled_from([3, 5]),
    kernel_size=st.sampled_from([1, 3, 5]),
    stride=st.sampled_from([1, 2]),
    heads=st.sampled_from([1, 2, 4]),
    head_dim=st.integers(2, 4),
    size=st.tuples(st.integers(5, 12), st.integers(5, 12)),
)
def test_the_sum_is_the_closed_form(paths, shift, mix, window, kernel_size, stride, heads, head_dim, size) -> None:
    axes = {"window": window, "kernel_size": kernel_size, "stride": stride, "paths": paths, "shift": shift, "mix": mix}
    module = ACmix(3, heads * head_dim, heads=heads, implementation="reference", **axes)
    x = torch.randn(1, 3, *size)
    ledger = keep(module, x)
    assert ledger.macs == sum(module.macs(x).values())
    assert not ledger.unknown


@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_of_grouped_convolutions_cost_twice_the_forward_pass(groups: int, stride: int) -> None:
    """FlopCounterMode takes the weight's gradient for that of a dense convolution."""
    module, x = nn.Conv2d(8, 16, 3, stride, 1, groups=groups, bias=False), torch.randn(1, 8, 9, 9)
    forward, backward = keep(module, x).macs, keep(module, x, backward=True).macs
    assert backward == 2 * forward
    loss = module(x.requires_grad_()).sum()
    with FlopCounterMode(display=False) as counter:
        loss.backward()
    assert counter.get_total_flops() // 2 == forward + groups * forward


@pytest.mark.parametrize("module", [nn.Linear(6, 5), nn.Linear(6, 5, bias=False), nn.Conv2d(6, 5, 1)])
def test_a_layer_backward_is_twice_its_forward(module: nn.Module) -> None:
    x = torch.randn(3, 6, 4, 4) if isinstance(module, nn.Conv2d) else torch.randn(3, 6)
    assert keep(module, x, backward=True).macs == 2 * keep(module, x).macs


def test_attention_is_two_products_forward_and_five_backward() -> None:
    class Attention(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.scaled_dot_product_attention(x, x, x)

    x = torch.randn(2, 3, 7, 4)
    assert keep(Attention(), x).macs == 2 * (2 * 3 * 7 * 7 * 4)
    assert keep(Attention(), x, backward=True).macs == 5 * (2 * 3 * 7 * 7 * 4)


def test_what_no_book_knows_is_unknown_and_not_zero() -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.fft.fft(x).real + torch.erfinv(x.clamp(-0.5, 0.5))

    assert {"aten::erfinv"} < set(keep(Odd(), torch.randn(4, 8)).unknown)


CASES = [("nano", name, 16) for name in library.known("variant")]
CASES += [
    ("resnet26", "acmix", 64),
    ("resnet26", "plain", 64),
    ("san10", "acmix", 256),
    ("san10-pairwise", "plain", 256),
]
CASES += [("pvt-t", "acmix", 64), ("pvt-t", "plain", 64), ("swin-t", "acmix", 112), ("swin-t", "plain", 112)]


@pytest.mark.parametrize(("backbone", "variant", "size"), CASES)
def test_every_operation_of_every_backbone_is_in_a_book(backbone: str, variant: str, size: int) -> None:
    """Forward and backward; the algorithm's sum is within rounding of the closed form of the whole model."""
    channels = 1 if backbone == "nano" else 3
    sizes = {"in_channels": channels, "num_classes": 10, "image_size": size}
    row = library.load_variant(variant)
    image = torch.randn(1, channels, size, size)
    model = build(backbone, row, **sizes).eval()
    layers, unlisted = macs.count_layers(build(backbone, row, **sizes).eval(), image)
    literal = build(backbone, row.model_copy(update={"implementation": "reference"}), **sizes).eval()
    algorithm, executed, backward = keep(literal, image), keep(model, image), keep(model, image, backward=True)
    assert not unlisted
    assert not algorithm.unknown | executed.unknown | backward.unknown
    closed = sum(sum(layer["macs"].values()) for layer in layers)
    assert algorithm.macs == pytest.approx(closed, rel=1e-3)
    assert backward.macs > executed.macs


def test_attention_that_torch_does_not_fuse_is_known() -> None:
    class Attention(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with sdpa_kernel(SDPBackend.MATH):
                return F.scaled_dot_product_attention(x, x, x, attn_mask=torch.ones(5, 5, dtype=torch.bool))

    book = keep(Attention(), torch.randn(2, 3, 5, 4))
    assert not book.unknown
    assert book.macs == 2 * 3 * 2 * 5 * 5 * 4


def test_strict_fails_on_what_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    from pathlib import Path

    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    good = CliRunner().invoke(cli.app, ["flops", "operator-8-acmix@8", "--strict"])
    assert good.exit_code == 0
    bad = CliRunner().invoke(cli.app, ["flops", "--variant", "operator=operators_of_mine:Unknown", "--strict"])
    assert bad.exit_code == 1
    assert "no cost is known of" in bad.stderr
    assert "aten::erfinv" in bad.stderr


@pytest.mark.parametrize("write", [torch.Tensor.mul, torch.Tensor.mul_])
def test_a_product_in_place_is_a_product(write) -> None:
    class Weighs(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return write(write(x + 0, x), 2.0)

    assert keep(Weighs(), torch.randn(2, 3)).macs == 6
