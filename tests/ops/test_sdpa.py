"""What torch's attention kernels are given: masks that they need not copy, calls that fit a grid, gathers in bounds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from operator_pairs import At, pair, worst_difference
from torch import Tensor

from acmix_bench.meters.memory import LiveMemory
from acmix_bench.ops import attention, remember, sdpa, shifted
from acmix_bench.ops.acmix import ACmix
from acmix_bench.ops.window import WindowACmix, relative_positions

CPU = torch.device("cpu")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[Tensor, Tensor | None]]]:
    """The queries and masks of every call of torch's attention."""
    seen: list[tuple[Tensor, Tensor | None]] = []
    honest = F.scaled_dot_product_attention

    def watched(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        seen.append((query, attn_mask))
        return honest(query, key, value, attn_mask=attn_mask)

    monkeypatch.setattr(F, "scaled_dot_product_attention", watched)
    yield seen


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rules of any other device than a CPU, with 256 KiB to gather."""
    monkeypatch.setattr(attention, "GATHERED_BYTES", {})
    monkeypatch.setattr(attention, "GATHERED_ELSEWHERE", 256 << 10)
    monkeypatch.setattr(attention, "_takes_rows", lambda device: False)
    monkeypatch.setattr(remember, "KEPT", remember.Tensors())


def is_taken_as_it_is(mask: Tensor) -> bool:
    """`aligned_tensor<8>` of torch's transformers/attention.cpp."""
    return mask.stride(-1) == 1 and all(stride % 8 == 0 for stride in mask.stride()[:-1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("layer", "shape", "more"),
    [
        (ACmix(4, 8, implementation="production"), (2, 4, 33, 40), ()),  # tiles
        (ACmix(4, 8, window=5, stride=2, implementation="production"), (2, 4, 41, 39), ()),
        (ACmix(4, 8, implementation="production"), (2, 4, 13, 9), ()),  # the whole map
        (WindowACmix(8, 2, (7, 7)), (2, 14, 21, 8), ((0, 0),)),
        (WindowACmix(8, 2, (7, 7)), (2, 14, 21, 8), ((3, 3),)),
        (WindowACmix(8, 2, (4, 2)), (2, 8, 8, 8), ((2, 1),)),
    ],
    ids=["tiles", "strided tiles", "whole map", "windows", "shifted windows", "windows of 8"],
)
def test_no_mask_needs_a_copy(layer, shape, more, dtype, calls) -> None:
    layer.to(dtype)(torch.randn(shape, dtype=dtype), *more)
    layer.float()
    assert calls
    for query, mask in calls:
        assert is_taken_as_it_is(mask)
        assert mask.dtype == query.dtype == dtype
        images = len(query) if mask.ndim == 4 else 1
        assert images == 1 or mask.stride(0) == 0  # one for the batch


@pytest.mark.parametrize("keys", [1, 7, 8, 49, 100, 169])
def test_an_aligned_mask_is_the_same_mask(keys: int) -> None:
    mask = torch.randn(3, 5, keys)
    ours = sdpa.aligned(mask)
    assert torch.equal(ours, mask)
    assert is_taken_as_it_is(ours)


def test_bias_and_mask_of_windows_hold_what_they_did() -> None:
    index = relative_positions((2, 3), CPU)
    assert index.shape == (6, 8)
    rows = [[(a // 3 - b // 3 + 1) * 5 + a % 3 - b % 3 + 2 for b in range(6)] for a in range(6)]
    assert index[:, :6].tolist() == rows
    mask = shifted.mask_of(torch.empty(1, 4, 6, 1), (2, 3), (1, 1))
    assert mask.shape == (4, 6, 8)
    assert mask[0, :, :6].eq(0).all()  # of the window in which nothing meets that was apart
    assert mask[3, 0, :6].tolist() == [0, 0, -100, -100, -100, -100]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_counts_are_rounded_once(dtype: torch.dtype) -> None:
    """Reflection brings a pixel in three times, twice across: the logarithm of 6 is rounded, not those of 3 and 2."""
    sizes = (4, 5, 7, 1)
    exact = attention._map_mask(*sizes, torch.float64, CPU)
    assert torch.equal(attention._map_mask(*sizes, dtype, CPU), exact.to(dtype))
    assert len(exact.exp().round().unique()) > 3


@pytest.mark.parametrize("kind", ["none", "shared", "each"])
def test_many_sequences_are_attended_to_in_several_calls(kind: str, monkeypatch, calls) -> None:
    q, k, v = torch.randn(3, 11, 2, 4, 8)
    mask = {"none": None, "shared": torch.randn(4, 4), "each": torch.randn(1, 2, 4, 4).expand(11, -1, -1, -1)}[kind]
    whole = sdpa.attend(q, k, v, mask)
    monkeypatch.setattr(sdpa, "MOST_BLOCKS", 9)
    torch.testing.assert_close(sdpa.attend(q, k, v, mask), whole)
    assert [len(query) for query, _ in calls] == [11, 4, 4, 3]


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(("height", "width", "stride"), [(36, 33, 1), (37, 40, 2), (61, 62, 1)])
def test_another_device_computes_the_same(height: int, width: int, stride: int, monkeypatch) -> None:
    """In parts of several images, and of one."""
    monkeypatch.setattr(sdpa, "MOST_BLOCKS", 50)
    production, literal = pair(ACmix, 3, 16, heads=2, stride=stride)
    x = torch.randn(3, 3, height, width, dtype=torch.float64)
    assert worst_difference(production, literal, x) < 1e-9  # gradients of a weight are sums over the map
    with torch.inference_mode():
        torch.testing.assert_close(production(x), literal(x), rtol=1e-10, atol=1e-10)


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("batch", [1, 16])
def test_what_is_gathered_is_bounded_on_every_device(batch: int, grad: bool) -> None:
    """Some maps, and keys and values of 256 KiB each; all tiles of one image would take 1.2 MiB of either."""
    q, k, v = torch.randn(3, batch, 28, 28, 64).requires_grad_(grad).unbind()
    sizes = {"heads": 4, "window": 7, "stride": 1}
    position = torch.zeros(28, 28, 16)
    with torch.set_grad_enabled(grad), LiveMemory() as memory:
        attention.local_attention(q, k, v, position, **sizes)
    assert memory.peak < 2 * (256 << 10) + 9 * q.nbytes
    assert memory.peak > 2 * q.nbytes


@pytest.mark.usefixtures("elsewhere")
def test_one_images_pixels_serve_the_batch() -> None:
    q, k, v = torch.randn(3, 7, 28, 28, 8)
    kept = []
    for images in (1, 7):
        attention.local_attention(*(x[:images] for x in (q, k, v)), torch.zeros(28, 28, 2), heads=4, window=7, stride=1)
        kept.append(remember.KEPT.bytes)
    assert kept[0] == kept[1] > 0


def test_the_tile_rule_is_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(attention.GATHER_COST, "other", 1000)
    sizes = {"window": 7, "stride": 1}
    cpu, other, new = (attention.tile_edge(56, 56, device=device, **sizes) for device in ("cpu", "other", "new"))
    assert cpu == new < other


@pytest.mark.parametrize("shift", [(0, 0), (3, 3)])
def test_window_attention_in_several_calls_is_the_same(shift, monkeypatch) -> None:
    monkeypatch.setattr(sdpa, "MOST_BLOCKS", 10)
    production, literal = pair(WindowACmix, 8, 2, (7, 7))
    x = torch.randn(3, 14, 14, 8, dtype=torch.float64)
    assert worst_difference(At(production, shift), At(literal, shift), x) < 1e-10


def test_cudnn_attends_under_no_mask() -> None:
    """Its backward pass gives NaN there."""

    class OnGpu:
        device = torch.device("cuda")

    query: Any = OnGpu()
    before = torch.backends.cuda.cudnn_sdp_enabled()
    with sdpa._without_cudnn(query, torch.zeros(8, 8)):
        assert not torch.backends.cuda.cudnn_sdp_enabled()
        assert torch.backends.cuda.mem_efficient_sdp_enabled()
    for where, mask in ((query, None), (torch.zeros(1), torch.zeros(8, 8))):
        with sdpa._without_cudnn(where, mask):
            assert torch.backends.cuda.cudnn_sdp_enabled() == before
    assert torch.backends.cuda.cudnn_sdp_enabled() == before
