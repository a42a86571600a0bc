"""torch.compile takes every operator whole, forward and backward, and computes the same."""

from __future__ import annotations

import os
import shutil

import pytest
import torch
import torch._dynamo.testing
from torch import nn

from acmix_bench.ops.acmix import ACmix
from acmix_bench.ops.global_attention import GlobalACmix
from acmix_bench.ops.patchwise import PatchwiseACmix
from acmix_bench.ops.window import WindowACmix

CASES = {
    "local": (lambda: ACmix(8, 32), (2, 8, 30, 31), ()),  # in C++ where a compiler is
    "local, tiled": (lambda: ACmix(8, 16, implementation="production"), (2, 8, 30, 31), ()),
    "local, whole map": (lambda: ACmix(8, 16, stride=2, implementation="production"), (2, 8, 14, 13), ()),
    "local, apart": (lambda: ACmix(8, 16, heads=16), (2, 8, 9, 9), ()),
    "local, tensor shift": (lambda: ACmix(8, 16, shift="tensor", mix="alpha"), (2, 8, 9, 9), ()),
    "window": (lambda: WindowACmix(12, 3, (7, 7)), (2, 14, 14, 12), ()),
    "global": (lambda: GlobalACmix(16, 2, 2), (2, 64, 16), (8, 8)),
    "patchwise": (lambda: PatchwiseACmix(64, 7), (2, 64, 8, 8), ()),
    "pairwise": (lambda: PatchwiseACmix(64, 7, relation="pairwise"), (2, 64, 8, 8), ()),
}
INDUCTOR = bool(os.environ.get("ACMIX_BENCH_FULL")) and shutil.which("g++") is not None


def gradients(module: nn.Module, x: torch.Tensor, sizes: tuple[int, ...]) -> list[torch.Tensor]:
    x = x.clone().requires_grad_()
    out = module(x, *sizes)
    return [out, *torch.autograd.grad(out.square().mean(), [x, *module.parameters()])]


@pytest.mark.parametrize("name", CASES)
def test_no_graph_breaks(name: str) -> None:
    make, shape, sizes = CASES[name]
    module, x = make().eval(), torch.randn(shape)
    expected = gradients(module, x, sizes)
    torch.compiler.reset()
    graphs = torch._dynamo.testing.CompileCounterWithBackend("inductor" if INDUCTOR else "aot_eager")
    compiled = torch.compile(module, fullgraph=True, backend=graphs)
    for ours, theirs in zip(gradients(compiled, x, sizes), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert graphs.frame_count == 1
    with torch.inference_mode():
        torch.testing.assert_close(compiled(x, *sizes), expected[0], rtol=1e-5, atol=1e-5)
