"""The operators on a real GPU: against the reference in float64, in bounds of memory, in the layout that they came in.

pytest tests/gpu/test_gpu_operators.py -s
ACMIX_BENCH_GPU_TIMES=times.json pytest tests/gpu/test_gpu_operators.py -k times -s     # all sizes, a few minutes
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from operator_pairs import At
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from acmix_bench.backbones.fuse import fuse
from acmix_bench.ops import attention, natten, ran, sdpa
from acmix_bench.ops.acmix import ACmix
from acmix_bench.ops.global_attention import GlobalACmix
from acmix_bench.ops.patchwise import PatchwiseACmix
from acmix_bench.ops.window import WindowACmix

DEVICE = torch.device("cuda")
pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: torch.cuda.is_available() is false"),
    pytest.mark.filterwarnings("default"),  # what torch.compile says of tensor cores
]
LAST = torch.channels_last
# Of outputs and of gradients, over the largest value.
CLOSE = {torch.float32: (2e-5, 2e-4), torch.bfloat16: (0.03, 0.2), torch.float16: (5e-3, 0.04)}
# Gradients in which the whole map's terms cancel, or rectifiers switch: ten times.
SUMS = ("mix.alpha", "mix.beta", "position.weight", "weigh.0.bias")
Make = Callable[..., nn.Module]

LOCAL: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "tiles": ({}, (2, 16, 56, 56)),
    "odd tiles": ({"heads": 2, "window": 5}, (3, 16, 41, 39)),
    "strided tiles": ({"stride": 2}, (2, 16, 57, 55)),
    "whole map": ({"heads": 8}, (2, 16, 14, 13)),
    "strided map": ({"stride": 2, "window": 3}, (2, 16, 9, 7)),
    "attention alone": ({"paths": "attention"}, (2, 16, 30, 31)),
    "convolution alone": ({"paths": "conv"}, (2, 16, 13, 14)),
    "tensors shifted": ({"shift": "tensor"}, (2, 16, 13, 14)),
    "apart": ({"heads": 16, "kernel_size": 5, "init": "random"}, (2, 16, 13, 14)),
    "fixed kernel": ({"kernel": "fixed", "stride": 2, "mix": "alpha"}, (2, 16, 13, 14)),
}


def _local(axes: dict[str, Any]) -> Make:
    return lambda **more: ACmix(16, 64, **axes, **more)


CASES: dict[str, tuple[Make, tuple[int, ...]]] = {
    **{name: (_local(axes), shape) for name, (axes, shape) in LOCAL.items()},
    "windows": (lambda **more: At(WindowACmix(64, 4, (7, 7), **more)), (2, 14, 21, 64)),
    "shifted windows": (lambda **more: At(WindowACmix(64, 4, (7, 7), **more), (3, 3)), (2, 14, 15, 64)),
    "global": (lambda **more: At(GlobalACmix(64, 4, 2, **more), 14, 12), (2, 168, 64)),
    "patchwise": (lambda **more: PatchwiseACmix(64, 7, **more).eval(), (2, 64, 14, 13)),
    "pairwise": (lambda **more: PatchwiseACmix(64, 3, relation="pairwise", **more).eval(), (2, 64, 14, 13)),
}


@pytest.fixture(autouse=True)
def _float32_is_float32() -> Iterator[None]:
    """Without TensorFloat32 in convolutions, which are compared to 2e-5."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.backends.cudnn.allow_tf32 = False
        yield
        torch.backends.cudnn.allow_tf32 = True  # as torch starts


def moved(layer: nn.Module) -> nn.Module:
    """With every parameter off its start, on the device."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return layer.to(DEVICE)


def literal_of(make: Make, ours: nn.Module) -> nn.Module:
    """The reference in float64, with the weights as `ours` has them rounded."""
    literal = make(implementation="reference").to(DEVICE, torch.float64)
    literal.load_state_dict(ours.state_dict())
    return literal


def results(layer: nn.Module, x: Tensor, parameters: list[nn.Parameter]) -> list[Tensor]:
    """The output, and the gradients of the input and of the parameters.

    Outputs weigh from 0 to 1, at random: signs would cancel in the gradient of a bias, and leave rounding.
    """
    image = x.clone().requires_grad_()
    out = layer(image)
    weight = torch.rand(out.shape, generator=torch.Generator().manual_seed(1)).to(out)
    return [out, *torch.autograd.grad((out * weight).sum(), [image, *parameters])]


def check(layer: nn.Module, literal: nn.Module, x: Tensor, parameters: nn.Module | None = None) -> None:
    """Compare a layer with its reference, forward and backward."""
    named = dict((parameters or layer).named_parameters())
    ours = results(layer, x, list(named.values()))
    theirs = results(literal, x.double(), list(literal.parameters()))
    for_out, for_gradients = CLOSE[x.dtype]
    largest = max(exact.abs().max() for exact in theirs)
    for name, mine, exact in zip(("output", "input", *named), ours, theirs, strict=True):
        assert mine.isfinite().all(), name
        if exact.abs().max() > 1e-9 * largest:  # else a softmax cancels it, and its gradient is what rounding leaves
            share = for_out if name == "output" else for_gradients * (10 if name.endswith(SUMS) else 1)
            # In half types a rectifier that switches moves a number by as much as it is: norms then say more.
            size = Tensor.norm if x.dtype != torch.float32 else lambda tensor: tensor.abs().max()
            assert size(mine.double() - exact) <= share * size(exact), name


@pytest.mark.parametrize("dtype", CLOSE, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_an_operator_is_the_reference(name: str, dtype: torch.dtype) -> None:
    make, shape = CASES[name]
    ours = moved(make()).to(dtype)
    check(ours, literal_of(make, ours), torch.randn(shape, device=DEVICE).to(dtype))


@pytest.mark.parametrize("name", ["tiles", "whole map", "windows"])
def test_an_operator_under_autocast_is_close_to_the_reference(name: str) -> None:
    make, shape = CASES[name]
    ours = moved(make())
    x = torch.randn(shape, device=DEVICE)
    with torch.no_grad():
        exact = literal_of(make, ours)(x.double())
        with torch.autocast("cuda", dtype=torch.bfloat16):
            out = ours(x)
    assert (out.double() - exact).abs().max() <= 0.05 * exact.abs().max()


@pytest.mark.parametrize("name", ["tiles", "strided map", "tensors shifted", "apart", "windows", "patchwise"])
def test_fused_is_the_reference(name: str) -> None:
    make, shape = CASES[name]
    ours = moved(make()).eval()
    literal, x = literal_of(make, ours).eval(), torch.randn(shape, device=DEVICE)
    fused = fuse(ours)
    with torch.inference_mode():
        exact = literal(x.double())
        assert (fused(x).double() - exact).abs().max() <= 5e-5 * exact.abs().max()


@pytest.mark.parametrize("name", ["odd tiles", "shifted windows"])
def test_compiled_is_the_reference(name: str) -> None:
    make, shape = CASES[name]
    ours = moved(make())
    torch.compiler.reset()
    compiled = torch.compile(ours, fullgraph=True)
    check(compiled, literal_of(make, ours), torch.randn(shape, device=DEVICE), parameters=ours)


@pytest.mark.parametrize(
    ("dtype", "axes", "size"),
    [
        (torch.float32, {}, (29, 30)),
        (torch.bfloat16, {"stride": 2, "heads": 8}, (15, 14)),  # 8 channels a head: padded to 16
        (torch.float16, {"window": 3, "heads": 2}, (14, 13)),
    ],
)
def test_flex_attention_is_the_reference(dtype: torch.dtype, axes: dict[str, Any], size: tuple[int, int]) -> None:
    make = _local(axes)
    ours = moved(make(implementation="flex")).to(dtype)
    with ran.watched() as kernels:
        check(ours, literal_of(make, ours), torch.randn(2, 16, *size, device=DEVICE).to(dtype))
    assert kernels == {"flex_attention"}


@pytest.mark.skipif(natten.find_spec("natten") is None, reason="NATTEN is not installed")
@pytest.mark.parametrize("dtype", CLOSE, ids=str)
@pytest.mark.parametrize("axes", [{}, {"stride": 2, "heads": 2}, {"window": 3, "heads": 16}], ids=str)
def test_natten_is_the_reference(dtype: torch.dtype, axes: dict[str, Any]) -> None:
    make = _local(axes)
    ours = moved(make(implementation="natten")).to(dtype)
    check(ours, literal_of(make, ours), torch.randn(2, 16, 15, 14, device=DEVICE).to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", LOCAL)
def test_channels_last_goes_through(name: str, dtype: torch.dtype) -> None:
    axes, shape = LOCAL[name]
    layer = ACmix(16, 64, **axes).to(DEVICE, dtype)
    x = torch.randn(shape, device=DEVICE, dtype=dtype).contiguous(memory_format=LAST).requires_grad_()
    out = layer(x)
    assert out.is_contiguous(memory_format=LAST)
    out.sum().backward()
    assert x.grad.is_contiguous(memory_format=LAST)
    with torch.inference_mode():
        assert layer(x).is_contiguous(memory_format=LAST)


def test_compiled_code_keeps_channels_last() -> None:
    layer = ACmix(16, 64, paths="conv").to(DEVICE)
    x = torch.randn(2, 16, 13, 14, device=DEVICE).contiguous(memory_format=LAST)
    torch.compiler.reset()
    with torch.no_grad():
        assert torch.compile(layer, fullgraph=True)(x).is_contiguous(memory_format=LAST)


class Names(TorchDispatchMode):
    """The operations that run under it, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def peak_of(run: Callable[[], object]) -> int:
    """Bytes that a call allocates at one time."""
    run()  # what is remembered by size, and the libraries' workspaces
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


@pytest.mark.parametrize("dtype", CLOSE, ids=str)
def test_a_mask_is_not_copied(dtype: torch.dtype) -> None:
    """Swin's at batch 64, whose rows are of 49: a copy after the expansion would be larger than the output."""
    q, k, v = torch.randn(3, 4096, 3, 49, 32, device=DEVICE, dtype=dtype)
    mask = sdpa.aligned(torch.randn(3, 49, 49, device=DEVICE, dtype=dtype))[None].expand(4096, -1, -1, -1)
    with torch.inference_mode():
        assert peak_of(lambda: sdpa.attend(q, k, v, mask)) < 1.3 * q.nbytes
        with Names() as names:
            sdpa.attend(q, k, v, mask)
    assert not names.seen & {"constant_pad_nd", "copy_", "clone", "bmm"}, names.seen


@pytest.mark.parametrize("name", ["tiles", "strided tiles", "whole map", "windows", "shifted windows"])
def test_a_fused_kernel_of_torch_runs(name: str) -> None:
    """And not the products of whole matrices that torch falls back to."""
    make, shape = CASES[name]
    for dtype in CLOSE:
        with ran.watched() as kernels, torch.inference_mode():
            make().to(DEVICE, dtype)(torch.randn(shape, device=DEVICE, dtype=dtype))
        assert kernels
        assert not [kernel for kernel in kernels if "math" in kernel], (dtype, kernels)


@pytest.mark.parametrize("grad", [False, True])
def test_more_tiles_than_a_grid_holds(grad: bool) -> None:
    """400 images of 196 tiles; those at either end are what they are alone."""
    q, k, v = (torch.randn(400, 56, 56, 8, device=DEVICE).requires_grad_(grad) for _ in "qkv")
    position, sizes = torch.randn(56, 56, 8, device=DEVICE), {"heads": 1, "window": 7, "stride": 1}
    tile = attention.tile_edge(56, 56, window=7, stride=1, device="cuda")
    assert 400 * (56 // tile) ** 2 > sdpa.MOST_BLOCKS
    with ran.watched() as kernels:
        out = attention.local_attention(q, k, v, position, **sizes)
    assert not [kernel for kernel in kernels if "math" in kernel], kernels
    for image in (0, 399):
        alone = attention.local_attention(*(x[image : image + 1] for x in (q, k, v)), position, **sizes)
        torch.testing.assert_close(out[image : image + 1], alone, rtol=1e-4, atol=1e-5)
    if grad:
        out.sum().backward()
        assert k.grad[399].isfinite().all()
        assert k.grad[399].abs().max() > 0


def test_what_is_gathered_is_bounded() -> None:
    """All tiles' keys and values would be 2.5 GB, and a map is 0.2 GB."""
    q, k, v = torch.randn(3, 512, 56, 56, 64, device=DEVICE, dtype=torch.float16)
    position = torch.zeros(56, 56, 16, device=DEVICE, dtype=torch.float16)
    with torch.inference_mode():
        peak = peak_of(lambda: attention.local_attention(q, k, v, position, heads=4, window=7, stride=1))
    assert peak < 2 * attention.GATHERED_ELSEWHERE + 7 * q.nbytes
