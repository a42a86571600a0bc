"""ACmix on window, global and vector attention: production against the literal reference, costs against what runs."""

from __future__ import annotations

import pytest
import timm
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from multiplied import multiplied
from operator_pairs import AXES, At, pair, worst_difference

from acmix_bench.backbones.build import build
from acmix_bench.errors import ShapeError, UserError
from acmix_bench.ops.global_attention import GlobalACmix
from acmix_bench.ops.patchwise import PatchwiseACmix
from acmix_bench.ops.window import WindowACmix
from acmix_bench.spec import library


@given(
    axes=AXES,
    kernel_size=st.sampled_from([1, 3, 5]),
    heads=st.sampled_from([1, 2, 3]),
    window=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    height=st.integers(2, 9),
    width=st.integers(2, 9),
    masked=st.booleans(),
)
def test_window_production_equals_reference(axes, kernel_size, heads, window, height, width, masked) -> None:
    production, literal = pair(WindowACmix, 4 * heads, heads, window, kernel_size=kernel_size, **axes)
    pixels = window[0] * window[1]
    windows = -(-height // window[0]) * -(-width // window[1])
    mask = torch.randn(windows, pixels, pixels, dtype=torch.float64) if masked else None
    x = torch.randn(2, height, width, 4 * heads, dtype=torch.float64)
    if axes["paths"] == "conv":
        mask = None
    assert worst_difference(At(production, mask), At(literal, mask), x) < 1e-10


@given(
    axes=AXES,
    heads=st.sampled_from([1, 2, 3]),
    reduction=st.sampled_from([1, 2, 3]),
    rows=st.integers(1, 3),
    columns=st.integers(1, 3),
    class_token=st.booleans(),
)
def test_global_production_equals_reference(axes, heads, reduction, rows, columns, class_token) -> None:
    class_token = class_token and reduction == 1
    height, width = rows * reduction, columns * reduction
    production, literal = pair(GlobalACmix, 4 * heads, heads, reduction, **axes)
    x = torch.randn(2, height * width + class_token, 4 * heads, dtype=torch.float64)
    assert worst_difference(At(production, height, width), At(literal, height, width), x) < 1e-10


def literal_vector_attention(layer: PatchwiseACmix, x: torch.Tensor) -> torch.Tensor:
    """SAN's attention pixel by pixel: weights from the patch (or from each pair), shared by every g-th channel."""
    q, k, v = layer.q(x), layer.k(x), layer.v(x)
    pad, (batch, _, height, width) = layer.window // 2, x.shape
    columns = torch.linspace(-1, 1, width, dtype=x.dtype)
    rows = torch.linspace(-1, 1, height, dtype=x.dtype)
    grid = torch.stack([columns.expand(height, width), rows[:, None].expand(height, width)])[None]
    out = torch.zeros_like(v)
    relations = []
    if layer.relation == "pairwise":
        p = layer.position(grid.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).expand(batch, -1, -1, -1)
    padded_k, padded_v = (F.pad(t, [pad] * 4, mode="reflect") for t in (k, v))
    padded_p = F.pad(p, [pad] * 4, mode="reflect") if layer.relation == "pairwise" else None
    taps = [(dy, dx) for dy in range(layer.window) for dx in range(layer.window)]
    for dy, dx in taps:
        near = padded_k[:, :, dy : dy + height, dx : dx + width]
        if padded_p is None:
            relations.append(near)
        else:
            offset = p - padded_p[:, :, dy : dy + height, dx : dx + width]
            relations.append(torch.cat([q - near, offset], dim=1))
    if layer.relation == "patchwise":
        patch = torch.stack(relations, dim=2).flatten(1, 2)  # channel-major, as an unfolding gives it
        weights = layer.weigh(torch.cat([q, patch], dim=1)).unflatten(1, (layer.groups, len(taps)))
    else:
        together = layer.weigh(torch.cat(relations, dim=2))  # one normalisation over all taps
        weights = torch.stack(together.split(height, dim=2), dim=2).softmax(2)
    for channel in range(v.shape[1]):
        for number, (dy, dx) in enumerate(taps):
            value = padded_v[:, channel, dy : dy + height, dx : dx + width]
            out[:, channel] += weights[:, channel % layer.groups, number] * value
    return out


@pytest.mark.parametrize("relation", ["patchwise", "pairwise"])
@pytest.mark.parametrize(("window", "height", "width"), [(3, 4, 5), (5, 7, 3)])
def test_vector_attention_is_its_formula(relation: str, window: int, height: int, width: int) -> None:
    layer = PatchwiseACmix(64, window, relation=relation, paths="attention").double()
    x = torch.randn(2, 64, height, width, dtype=torch.float64)
    torch.testing.assert_close(layer(x), literal_vector_attention(layer, x), rtol=0, atol=1e-10)


@pytest.mark.parametrize("relation", ["patchwise", "pairwise"])
@pytest.mark.parametrize("axes", [{}, {"shift": "tensor"}, {"paths": "conv"}, {"mix": "alpha", "init": "random"}])
def test_vector_production_equals_reference(relation: str, axes: dict[str, str]) -> None:
    production, literal = pair(PatchwiseACmix, 64, 3, relation=relation, **axes)
    x = torch.randn(2, 64, 5, 6, dtype=torch.float64)
    assert worst_difference(production.eval(), literal.eval(), x) < 1e-10


@pytest.mark.parametrize("paths", ["both", "attention", "conv"])
@pytest.mark.parametrize("shift", ["tensor", "group"])
def test_costs_are_what_is_multiplied(paths: str, shift: str) -> None:
    axes = {"paths": paths, "shift": shift, "mix": "fixed", "implementation": "reference"}
    window = At(WindowACmix(8, 2, (2, 3), **axes))
    x = torch.randn(1, 5, 7, 8)
    assert sum(window.layer.macs(x).values()) == multiplied(window, x)
    for reduction, tokens in ((2, 24), (1, 25)):
        layer = GlobalACmix(8, 2, reduction, **axes)
        x = torch.randn(1, tokens, 8)
        assert sum(layer.macs(x, 4, 6).values()) == multiplied(At(layer, 4, 6), x)
    for relation in ("patchwise", "pairwise"):
        vector = PatchwiseACmix(64, 3, relation=relation, **axes).eval()
        x = torch.randn(1, 64, 5, 6)
        assert sum(vector.macs(x).values()) == multiplied(vector, x)


@pytest.mark.parametrize("size", [64, 96, 224])
def test_the_attention_path_alone_is_swins_own_attention(size: int) -> None:
    """Sizes that do not divide into windows included: the same weights give timm's own output."""
    plain = timm.create_model("swin_tiny_patch4_window7_224", img_size=size, num_classes=10).eval()
    variant = library.load_variant("attention-only")
    ours = build("swin-t", variant, in_channels=3, num_classes=10, image_size=size).eval()
    ours.load_state_dict(plain.state_dict())
    x = torch.randn(1, 3, size, size)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), plain(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("variant", ["plain", "acmix"])
def test_paths_are_dropped_at_rates_that_rise_to_the_last_block(variant: str) -> None:
    sizes = {"in_channels": 3, "num_classes": 10, "image_size": 64, "drop_path": 0.22}
    swin = build("swin-t", library.load_variant(variant), **sizes)
    pvt = build("pvt-t", library.load_variant(variant), **sizes)
    drops = [
        [getattr(block.drop_path1, "drop_prob", 0) for stage in swin.layers for block in stage.blocks],
        [getattr(block.drop_path, "drop_prob", 0) for stage in pvt.stages for block in stage.blocks],
    ]
    for rates in drops:
        assert rates == pytest.approx(torch.linspace(0, 0.22, len(rates)).tolist())
    with pytest.raises(UserError, match=r"nano has no stochastic depth; drop_path=0\.22 does not fit it"):
        build("nano", library.load_variant(variant), **sizes)


def test_half_precision_keeps_the_coordinates_of_pairwise_attention_exact() -> None:
    layer = PatchwiseACmix(32, 3, relation="pairwise", paths="attention")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(torch.randn(2, 32, 6, 5)).isfinite().all()
    half = PatchwiseACmix(32, 3, relation="pairwise").bfloat16()
    assert half(torch.randn(2, 32, 6, 5, dtype=torch.bfloat16)).isfinite().all()


@pytest.mark.parametrize(
    ("model", "variant", "message"),
    [
        ("swin-t", "attention=local", "swin-t has window attention; attention=local does not fit it"),
        ("resnet26", "attention=window", "resnet26 has local attention; attention=window does not fit it"),
        ("pvt-t", "heads=2", "pvt-t sets its own heads"),
        ("san10", "window=3", "san10 sets its own window"),
        ("san10", "operator=conv", "san10 has patchwise attention; operator=conv does not fit it"),
    ],
)
def test_what_does_not_fit_a_backbone_is_said(model: str, variant: str, message: str) -> None:
    (chosen,) = library.expand(variant, library.load_variant("acmix"))
    with pytest.raises(UserError, match=message):
        build(model, chosen, in_channels=3, num_classes=10, image_size=224)


def test_channels_that_do_not_share_weights_are_refused() -> None:
    with pytest.raises(ShapeError, match="48 channels do not divide by 32"):
        PatchwiseACmix(48, 3)
