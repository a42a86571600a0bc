"""Fusing for inference: the same output, from one copy of the weights."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from operator_pairs import AXES, At, pair
from torch import nn

from acmix_bench.backbones.build import build
from acmix_bench.backbones.fuse import FusedAway, FusedOperator, FusedPath, fuse
from acmix_bench.errors import UserError
from acmix_bench.ops.acmix import ACmix
from acmix_bench.ops.window import WindowACmix
from acmix_bench.spec import library

MODELS = [
    *(("nano", name) for name in library.known("variant") if not library.load_variant(name).runs.compiles),
    ("san10", "acmix"),
    ("pvt-t", "acmix"),
    ("swin-t", "acmix"),
    ("resnet26", "acmix"),
]


def off_their_start(model: nn.Module) -> nn.Module:
    """Every parameter and every running statistic moved, so that nothing is 1 or 0."""
    torch.manual_seed(0)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point():
            noise = torch.rand_like(tensor)
            tensor.data = tensor + (noise if name.endswith("var") else 0.2 * (noise - 0.5))
    return model.eval()


@pytest.mark.parametrize(("backbone", "variant"), MODELS)
def test_a_fused_model_is_the_same_and_no_larger(backbone: str, variant: str) -> None:
    size = 16 if backbone == "nano" else 112 if backbone == "swin-t" else 128
    channels = 1 if backbone == "nano" else 3
    row = library.load_variant(variant)
    model = build(backbone, row, in_channels=channels, num_classes=10, image_size=size)
    off_their_start(model)
    x = torch.randn(2, channels, size, size)
    parameters = sum(tensor.numel() for tensor in model.state_dict().values())
    with torch.inference_mode():
        expected = model(x)
        model = fuse(model)
        folds = row.operator == "acmix" and row.paths != "attention" and row.implementation != "reference"
        kinds = [type(module) for module in model.modules()]
        assert bool({FusedPath, FusedOperator}.intersection(kinds)) == folds
        if backbone == "resnet26" or (backbone == "nano" and folds):
            assert FusedAway in kinds
            assert nn.BatchNorm2d not in kinds
        scale = expected.abs().max().item()
        torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-5 * scale)
    assert sum(tensor.numel() for tensor in model.state_dict().values()) < 1.5 * parameters  # a second copy would be 2


@given(axes=AXES)
def test_a_fused_operator_is_exact(axes: dict[str, object]) -> None:
    """In float64, with and without a bias in the fully connected layer, folded and apart."""
    x = torch.randn(2, 6, 6, 12, dtype=torch.float64)
    for heads in (1, 6):
        production, literal = pair(WindowACmix, 12, heads, (3, 3), **axes)
        local = ACmix(12, 12, heads=heads, window=3, **axes).double().eval()
        expected = local(x.permute(0, 3, 1, 2))
        production, local = fuse(production.eval()), fuse(local)
        torch.testing.assert_close(At(production)(x), literal(x), rtol=0, atol=1e-10)
        torch.testing.assert_close(local(x.permute(0, 3, 1, 2)), expected, rtol=0, atol=1e-10)


def test_what_may_do_more_than_its_parent_is_left_alone() -> None:
    class Activated(nn.BatchNorm2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).relu()

    model = nn.Sequential(nn.Conv2d(3, 4, 1), Activated(4)).eval()
    x = torch.randn(2, 3, 5, 5)
    expected = model(x)
    assert torch.equal(fuse(model)(x), expected)


def test_another_type_is_refused_or_right() -> None:
    """Weights in the order of one type's vectors are nonsense in another's."""
    model, x = ACmix(16, 64).eval(), torch.randn(1, 16, 9, 9, dtype=torch.float64)
    expected = copy.deepcopy(model).double()(x)
    fused = fuse(model).double()
    if isinstance(fused, FusedOperator):
        with pytest.raises(RuntimeError, match="fuse again"):
            fused(x)
    else:
        torch.testing.assert_close(fused(x), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("is_inference", [True, False])
def test_an_input_of_another_type_is_refused(is_inference: bool) -> None:
    """As it is unfused; only autocast mixes types."""
    fused, x = fuse(ACmix(16, 64).eval()), torch.randn(1, 16, 9, 9, dtype=torch.float64)
    with torch.inference_mode(is_inference), pytest.raises((UserError, RuntimeError), match="type"):
        fused(x)


@pytest.mark.parametrize("is_inference", [True, False])
def test_it_runs_under_autocast(is_inference: bool) -> None:
    """Which lowers what goes into a kernel that has no such type."""
    model, x = ACmix(16, 64).eval(), torch.randn(1, 16, 9, 9)
    expected = model(x)
    fused = fuse(model)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode(is_inference):
        out = fused(x).float()
    torch.testing.assert_close(out, expected, rtol=0, atol=0.05 * expected.abs().max().item())


def test_fusing_is_for_inference() -> None:
    model = ACmix(4, 8)
    with pytest.raises(RuntimeError, match=r"call model\.eval\(\) first"):
        fuse(model)
    with pytest.raises(RuntimeError, match="fuse a copy"):
        fuse(model.eval()).train()
