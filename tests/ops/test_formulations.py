"""ACmix on window, global and vector attention: production against the literal reference, costs against what runs."""

from __future__ import annotations

from itertools import pairwise, product

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
    shift=st.tuples(st.integers(0, 3), st.integers(0, 3)),
)
def test_window_production_equals_reference(axes, kernel_size, heads, window, height, width, shift) -> None:
    production, literal = pair(WindowACmix, 4 * heads, heads, window, kernel_size=kernel_size, **axes)
    shift = tuple(min(by, edge - 1) for by, edge in zip(shift, window, strict=True))
    x = torch.randn(2, height, width, 4 * heads, dtype=torch.float64)
    assert worst_difference(At(production, shift), At(literal, shift), x) < 1e-10


@pytest.mark.parametrize("paths", ["attention", "both"])
@pytest.mark.parametrize("shift", [(0, 0), (3, 3), (3, 0)])
def test_window_attention_is_swins_on_a_map_that_is_padded(paths: str, shift: tuple[int, int]) -> None:
    """Cut by hand out of the padded map: a shifted grid begins with a part of a window and ends with the rest."""
    layer = WindowACmix(8, 2, (7, 7), paths=paths).double()
    x = torch.randn(2, 10, 16, 8, dtype=torch.float64)
    q, k, v = layer.qkv(F.pad(x, (0, 0, 0, 5, 0, 4))).unflatten(-1, (3, 2, 4)).unbind(3)
    table = layer.relative_position_bias_table.view(13, 13, 2)
    attended = torch.empty(2, 14, 21, 8, dtype=torch.float64)
    rows, columns = (
        list(pairwise(sorted({0, *range(by, size, 7), size}))) for size, by in zip((14, 21), shift, strict=True)
    )
    for (top, bottom), (left, right) in product(rows, columns):
        here = [(y, x_) for y in range(top, bottom) for x_ in range(left, right)]
        bias = torch.stack([torch.stack([table[a - c + 6, b - d + 6] for c, d in here]) for a, b in here])
        q_, k_, v_ = (t[:, top:bottom, left:right].flatten(1, 2) for t in (q, k, v))
        weights = (torch.einsum("blne,bmne->blmn", q_, k_) / 2 + bias).softmax(2)
        out = torch.einsum("blmn,bmne->blne", weights, v_)
        attended[:, top:bottom, left:right] = out.reshape(2, bottom - top, right - left, 8)
    wanted = layer.proj(attended[:, :10, :16])
    if paths == "both":
        alpha, beta = layer.mix.weights()
        convolved = layer.convolution(layer.qkv(x.roll((-shift[0], -shift[1]), (1, 2)))).roll(shift, (1, 2))
        wanted = alpha * wanted + beta * convolved
    torch.testing.assert_close(layer(x, shift), wanted, rtol=0, atol=1e-10)


@given(
    axes=AXES,
    heads=st.sampled_from([1, 2, 3]),
    reduction=st.sampled_from([1, 2, 3]),
    rows=st.integers(1, 3),
    columns=st.integers(1, 3),
    class_token=st.booleans(),
    left_over=st.integers(0, 2),
)
def test_global_production_equals_reference(axes, heads, reduction, rows, columns, class_token, left_over) -> None:
    class_token = class_token and reduction == 1
    height, width = rows * reduction, columns * reduction + min(left_over, reduction - 1)
    production, literal = pair(GlobalACmix, 4 * heads, heads, reduction, **axes)
    x = torch.randn(2, height * width + class_token, 4 * heads, dtype=torch.float64)
    assert worst_difference(At(production, height, width), At(literal, height, width), x) < 1e-10


def test_the_convolution_path_sees_each_pixels_own_patch_of_the_reduced_map() -> None:
    layer = GlobalACmix(8, 2, 3, paths="conv").double()
    q, kv = torch.randn(2, 7 * 11, 8, dtype=torch.float64), torch.randn(2, 2 * 3, 16, dtype=torch.float64)
    maps = layer._maps(q, kv, 7, 11)
    for y, x in product(range(7), range(11)):
        patch = min(y // 3, 1) * 3 + min(x // 3, 2)
        assert torch.equal(maps[:, y, x], torch.cat([q[:, y * 11 + x], kv[:, patch]], dim=1))


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


@pytest.mark.parametrize("size", [56, 112, 224])
def test_the_attention_path_alone_is_swins_own_attention(size: int) -> None:
    """Where sizes divide into windows, the same weights give timm's own output; timm rolls a padded map otherwise."""
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
