"""The production operator against the literal reference: forward and every gradient, in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, note
from hypothesis import strategies as st
from operator_pairs import CHOICES, worst_difference

from acmix_bench.errors import ShapeError
from acmix_bench.meters.memory import LiveMemory
from acmix_bench.ops import attention, convolution, cost, reference
from acmix_bench.ops.acmix import ACmix


def pair(in_channels: int, channels: int, **axes: object) -> tuple[ACmix, ACmix]:
    """The same operator in both implementations, in float64, with every parameter off its start."""
    production = ACmix(in_channels, channels, implementation="production", **axes).double()
    with torch.no_grad():
        for parameter in production.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    literal = ACmix(in_channels, channels, implementation="reference", **axes).double()
    literal.load_state_dict(production.state_dict())
    return production, literal


@st.composite
def settings_of_operator(draw: st.DrawFn) -> dict[str, object]:
    axes: dict[str, object] = {axis: draw(st.sampled_from(values)) for axis, values in CHOICES.items()}
    axes["window"] = draw(st.sampled_from([1, 3, 5, 7, 9]))
    axes["kernel_size"] = draw(st.sampled_from([1, 3, 5]))
    axes["heads"] = draw(st.sampled_from([1, 2, 3, 4, 6]))
    axes["stride"] = draw(st.sampled_from([1, 2]))
    return axes


@given(
    axes=settings_of_operator(),
    head_dim=st.integers(1, 4),
    height=st.integers(5, 27),
    width=st.integers(5, 27),
    in_channels=st.integers(1, 5),
    batch=st.integers(1, 3),
)
def test_production_equals_reference(axes, head_dim, height, width, in_channels, batch) -> None:
    production, literal = pair(in_channels, axes["heads"] * head_dim, **axes)
    x = torch.randn(batch, in_channels, height, width, dtype=torch.float64)
    difference = worst_difference(production, literal, x)
    note(f"difference {difference}")
    assert difference < 1e-10


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("window", "size"), [(3, 40), (5, 33), (7, 36), (9, 41)])
def test_tiled_attention_equals_reference(window: int, size: int, stride: int) -> None:
    """Large maps take the tiled path, whole maps the dense one; both are met in this file."""
    assert attention.tile_edge(size, size - 3, window=window, stride=stride) < -(-size // stride)
    production, literal = pair(3, 8, window=window, stride=stride, heads=2)
    assert worst_difference(production, literal, torch.randn(1, 3, size, size - 3, dtype=torch.float64)) < 1e-10


@given(
    tile=st.integers(1, 12),
    window=st.sampled_from([1, 3, 5, 7, 9]),
    stride=st.sampled_from([1, 2, 3]),
    height=st.integers(5, 24),
    width=st.integers(5, 24),
)
def test_every_tile_edge_gives_the_same_result(tile, window, stride, height, width) -> None:
    """The rule only moves the speed: any edge that it could choose is exact."""
    q, k, v = torch.randn(3, 2, height, width, 6, dtype=torch.float64)
    position = torch.randn(height, width, 3, dtype=torch.float64)
    sizes = {"heads": 2, "window": window, "stride": stride}
    key = (k.unflatten(-1, (2, 3)) - position[:, :, None]).flatten(-2)
    tiled = attention._tiled(q[:, ::stride, ::stride], key, v, tile=tile, **sizes)
    whole = attention._whole_map(q[:, ::stride, ::stride], key, v, **sizes)
    literal = reference.local_attention(q, k, v, position, **sizes)
    torch.testing.assert_close(tiled, literal, rtol=0, atol=1e-12)
    torch.testing.assert_close(whole, literal, rtol=0, atol=1e-12)


@pytest.mark.parametrize("heads", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_folding_is_exact_and_chosen_by_its_cost(heads: int, kernel_size: int, stride: int) -> None:
    apart = cost.operator_macs(
        1, heads, 8, 8, heads=heads, window=1, kernel_size=kernel_size, stride=stride, paths="conv", shift="group"
    )
    folded = 3 * heads * kernel_size**2 * heads * (8 // stride) ** 2
    pays = folded <= apart["fully_connected"] + apart["grouped_convolution"]
    assert convolution.folding_pays(3 * heads, heads, kernel_size, stride) == pays
    sizes = {"heads": heads, "kernel_size": kernel_size, "stride": stride}
    production, literal = pair(2, 2 * heads, paths="conv", init="random", **sizes)
    assert worst_difference(production, literal, torch.randn(2, 2, 9, 8, dtype=torch.float64)) < 1e-10


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel_size", [3, 5])
@pytest.mark.parametrize("implementation", ["production", "reference"])
def test_three_ways_to_shift_are_one_function(kernel_size: int, stride: int, implementation: str) -> None:
    ways = [{"shift": "tensor"}, {"kernel": "fixed"}, {"kernel": "learned"}]
    sizes = {"heads": 2, "stride": stride, "kernel_size": kernel_size, "implementation": implementation}
    first, *others = [ACmix(3, 8, **sizes, **way).double() for way in ways]
    x = torch.randn(2, 3, 11, 10, dtype=torch.float64, requires_grad=True)
    out = first(x)
    weight = torch.randn_like(out)
    (gradient,) = torch.autograd.grad((out * weight).sum(), x)
    for other in others:
        other.load_state_dict(first.state_dict(), strict=False)
        theirs = other(x)
        torch.testing.assert_close(theirs, out, rtol=0, atol=1e-12)
        torch.testing.assert_close(torch.autograd.grad((theirs * weight).sum(), x)[0], gradient, rtol=0, atol=1e-12)


def test_learning_separates_the_outputs_of_a_group() -> None:
    """At shift initialisation the N outputs of a group are equal; a step makes them differ."""
    module = ACmix(4, 8, heads=4, paths="conv")
    x = torch.randn(2, 4, 8, 8)
    before = module(x).unflatten(1, (2, 4))
    torch.testing.assert_close(before, before[:, :, :1].expand_as(before))
    (module(x) * torch.randn(2, 8, 8, 8)).sum().backward()
    torch.optim.SGD(module.parameters(), lr=0.1).step()
    after = module(x).unflatten(1, (2, 4))
    assert (after - after[:, :, :1]).abs().max() > 1e-3


def test_channel_orders_are_those_of_the_released_code() -> None:
    """Attention is head-major (n * d + e), the convolution path e-major (e * N + n)."""
    heads, d = 2, 3
    module = ACmix(1, heads * d, heads=heads, window=3, paths="attention").double()
    x = torch.randn(1, 1, 6, 6, dtype=torch.float64)
    before = module(x)
    with torch.no_grad():
        module.qkv.bias[2 * heads * d + 1 * d + 2] += 1  # the value of head 1, channel e = 2 of it
    changed = (module(x) - before).abs().amax((0, 2, 3)) > 1e-6
    assert changed.nonzero().flatten().tolist() == [1 * d + 2]

    module = ACmix(1, heads * d, heads=heads, paths="conv").double()
    before = module(x)
    with torch.no_grad():
        module.convolution.kernel[2 * heads + 1] += 1  # e = 2, n = 1
    changed = (module(x) - before).abs().amax((0, 2, 3)) > 1e-6
    assert changed.nonzero().flatten().tolist() == [2 * heads + 1]


@pytest.mark.parametrize("mix", ["fixed", "alpha", "alpha-beta"])
def test_mix_adds_the_paths_with_its_weights(mix: str) -> None:
    both = ACmix(3, 8, mix=mix).double()
    parts = {path: ACmix(3, 8, paths=path).double() for path in ("attention", "conv")}
    for part in parts.values():
        part.load_state_dict({key: value for key, value in both.state_dict().items() if key in part.state_dict()})
    with torch.no_grad():
        for scalar, value in (("alpha", 0.3), ("beta", 0.9)):
            if hasattr(both.mix, scalar):
                getattr(both.mix, scalar).fill_(value)
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    alpha, beta = {"fixed": (1, 1), "alpha": (0.3, 0.7), "alpha-beta": (0.3, 0.9)}[mix]
    expected = alpha * parts["attention"](x) + beta * parts["conv"](x)
    torch.testing.assert_close(both(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("axes", [{}, {"shift": "tensor"}, {"window": 3}, {"heads": 16}, {"stride": 2}])
def test_half_types_run_and_are_close(dtype: torch.dtype, axes: dict[str, object]) -> None:
    for size in (8, 30):
        exact = ACmix(8, 16, **axes)
        module = ACmix(8, 16, **axes)
        module.load_state_dict(exact.state_dict())
        x = torch.randn(2, 8, size, size)
        x_half = x.to(dtype).requires_grad_()
        out = module.to(dtype)(x_half)
        out.float().square().mean().backward()
        assert out.dtype == dtype
        assert all(p.grad.isfinite().all() for p in module.parameters())
        assert x_half.grad.isfinite().all()
        torch.testing.assert_close(out.float(), exact(x), rtol=0.05, atol=0.05)


PATHS = [{}, {"shift": "tensor"}, {"stride": 2}, {"heads": 1}, {"heads": 16}, {"paths": "conv"}, {"paths": "attention"}]


@pytest.mark.parametrize("axes", PATHS, ids=str)
@pytest.mark.parametrize("size", [9, 14, 40])
def test_float32_is_close_to_the_reference_on_every_path(size: int, axes: dict[str, object]) -> None:
    """Whole maps and tiles, folded and apart; gradients of the mean square, whose size is that of the output."""
    production, literal = (ACmix(16, 32, implementation=kind, **axes) for kind in ("production", "reference"))
    literal.load_state_dict(production.state_dict())
    x = torch.randn(2, 16, size, size)
    results = []
    for module in (production, literal):
        x_ = x.clone().requires_grad_()
        out = module(x_)
        results.append([out, *torch.autograd.grad(out.square().mean(), [x_, *module.parameters()])])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * max(1.0, theirs.abs().max().item()))


@pytest.mark.parametrize("stride", [1, 2])
def test_images_are_gathered_in_parts_without_a_trace(stride: int, monkeypatch: pytest.MonkeyPatch) -> None:
    production, literal = pair(3, 8, heads=2, stride=stride)
    x = torch.randn(3, 3, 36, 33, dtype=torch.float64)
    monkeypatch.setitem(attention.GATHERED_BYTES, "cpu", 1)
    assert worst_difference(production, literal, x) < 1e-10
    with torch.inference_mode():  # tile by tile
        torch.testing.assert_close(production(x), literal(x), rtol=1e-10, atol=1e-10)


def test_memory_is_a_tenth_of_the_reference() -> None:
    """At the shapes of ResNet-50's stages, forward and with backward. Counted bytes: the same on every machine."""
    for channels, size in ((64, 56), (128, 28), (256, 14)):
        for grad in (False, True):
            peaks = []
            for implementation in ("production", "reference"):
                module = ACmix(channels, channels, implementation=implementation)
                x = torch.randn(4, channels, size, size)
                with torch.set_grad_enabled(grad), LiveMemory() as memory:
                    out = module(x)
                    if grad:
                        out.square().mean().backward()
                peaks.append(memory.peak)
            assert 10 * peaks[0] <= peaks[1], (channels, grad)


def test_autocast_keeps_the_coordinates_exact() -> None:
    """On a wide map neighbouring coordinates differ by less than bfloat16 can tell."""
    module = ACmix(4, 8, paths="attention")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        positions = attention.project_coordinates(module.position, 4, 1000)
        out = module(torch.randn(1, 4, 9, 9))
    assert positions.dtype == torch.float32
    assert len(positions[0, :, 0].unique()) == 1000
    assert out.isfinite().all()


@pytest.mark.parametrize("axes", [{}, {"shift": "tensor"}, {"stride": 2}, {"implementation": "reference"}])
def test_memory_format_does_not_matter(axes: dict[str, object]) -> None:
    module = ACmix(4, 8, **axes)
    x = torch.randn(2, 4, 9, 13)
    torch.testing.assert_close(module(x.contiguous(memory_format=torch.channels_last)), module(x))


@pytest.mark.parametrize("paths", ["both", "attention", "conv"])
@pytest.mark.parametrize("size", [9, 40])
def test_meta_device_gives_the_shape(paths: str, size: int) -> None:
    module = ACmix(4, 8, stride=2, paths=paths).to("meta")
    assert module(torch.empty(2, 4, size, size, device="meta")).shape == (2, 8, (size + 1) // 2, (size + 1) // 2)


def test_training_after_inference_mode_works() -> None:
    """Nothing that is made under inference mode may be kept for a later backward pass."""
    module = ACmix(4, 8)
    x = torch.randn(1, 4, 30, 30)
    with torch.inference_mode():
        module(x)
    module(x).sum().backward()
    assert module.qkv.weight.grad is not None


@pytest.mark.parametrize("implementation", ["production", "reference"])
def test_a_map_smaller_than_its_padding_is_refused_with_both_numbers(implementation: str) -> None:
    module = ACmix(4, 8, window=7, implementation=implementation)
    with pytest.raises(ShapeError, match=r"3x9 map .* window 7.*padding by 3 needs at least 4"):
        module(torch.randn(1, 4, 3, 9))
    assert module(torch.randn(1, 4, 4, 9)).shape == (1, 8, 4, 9)


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ShapeError, match="10 channels do not divide into 4 heads"):
        ACmix(4, 10)
    with pytest.raises(ShapeError, match="attention window is 6"):
        ACmix(4, 8, window=6)
    with pytest.raises(ShapeError, match="kernel size is 2"):
        ACmix(4, 8, kernel_size=2)


def test_identity_convolution_is_shifted_projections() -> None:
    for k in (1, 3, 5):
        x = torch.randn(2, 3, 7, 9, dtype=torch.float64)
        weight = torch.randn(4, 3, k, k, dtype=torch.float64)
        direct = torch.nn.functional.conv2d(x, weight, padding=k // 2)
        torch.testing.assert_close(reference.convolution_by_taps(x, weight), direct, rtol=0, atol=1e-12)


def test_identity_attention_is_projections_then_aggregation() -> None:
    for window in (3, 5):
        x = torch.randn(2, 3, 5, 6, dtype=torch.float64)
        weights = torch.randn(3, 8, 3, dtype=torch.float64)
        sizes = {"heads": 2, "window": window}
        staged = reference.attention_by_stages(x, *weights, **sizes)
        torch.testing.assert_close(staged, reference.attention_by_pixels(x, *weights, **sizes), rtol=0, atol=1e-12)


def test_a_query_never_sees_beyond_its_window() -> None:
    module = ACmix(2, 4, heads=2, window=3, paths="attention").double()
    x = torch.randn(1, 2, 40, 40, dtype=torch.float64, requires_grad=True)
    module(x)[0, :, 20, 20].sum().backward()
    seen = x.grad[0].abs().sum(0) > 0
    assert seen[19:22, 19:22].all()
    assert seen.sum() == 9


def test_initialisation_is_restored() -> None:
    model = torch.nn.Sequential(ACmix(4, 8), ACmix(8, 8, init="random"), ACmix(8, 8, kernel="fixed"))
    before = model[0].convolution.kernel.clone()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    for module in model.modules():
        if hasattr(module, "restore_initialisation"):
            module.restore_initialisation()
    one_hot = convolution.shift_kernel(8, 3)
    torch.testing.assert_close(model[0].convolution.kernel.data, one_hot)
    torch.testing.assert_close(model[2].convolution.kernel, one_hot)
    assert model[1].convolution.kernel.abs().max() < 1
    assert model[1].convolution.kernel.std() > 0.01
    assert model[0].mix.alpha == model[0].mix.beta == 0.5
    torch.testing.assert_close(before, one_hot)
