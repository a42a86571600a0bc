"""Channels-last goes through: maps lie in memory pixel by pixel from the input to the output."""

from __future__ import annotations

import shutil

import pytest
import torch

from acmix_bench.ops import convolution
from acmix_bench.ops.acmix import ACmix
from acmix_bench.ops.convolution import ConvolutionPath
from acmix_bench.ops.patchwise import PatchwiseACmix

LAST = torch.channels_last
WAYS = [{}, {"shift": "tensor"}, {"heads": 1}, {"heads": 16}, {"stride": 2}, {"kernel_size": 1}, {"kernel": "fixed"}]
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++ on a CPU")


@pytest.mark.parametrize("axes", WAYS, ids=str)
@pytest.mark.parametrize("paths", ["attention", "conv", "both"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_an_operator_keeps_channels_last(axes: dict[str, object], paths: str, dtype: torch.dtype) -> None:
    layer = ACmix(8, 32, paths=paths, implementation="production", **axes).to(dtype)
    x = torch.randn(2, 8, 30, 31, dtype=dtype).contiguous(memory_format=LAST).requires_grad_()
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            assert layer(x).is_contiguous(memory_format=LAST)
    layer(x).sum().backward()
    assert x.grad.is_contiguous(memory_format=LAST)


def test_vector_attention_keeps_channels_last_in_its_convolution_path() -> None:
    x = torch.randn(2, 64, 9, 11).contiguous(memory_format=LAST)
    assert PatchwiseACmix(64, 3, paths="conv")(x).is_contiguous(memory_format=LAST)


@pytest.mark.parametrize("inputs", [1, 3, 12])
def test_groups_are_gathered_alike_on_every_device(inputs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    maps = torch.randn(2, 5, 7, 24)
    ours = convolution.gather_groups(maps, inputs)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    elsewhere = convolution.gather_groups(maps, inputs)
    assert torch.equal(ours, elsewhere)
    assert ours.is_contiguous()
    assert elsewhere.is_contiguous()
    monkeypatch.undo()
    assert convolution.gather_groups(maps.to("meta"), inputs).is_contiguous()


@needs_compiler
def test_compiled_code_keeps_channels_last() -> None:
    path = ConvolutionPath(4, 12, 4, implementation="production")
    maps = torch.randn(2, 9, 11, 48)
    torch.compiler.reset()
    with torch.no_grad():
        out = torch.compile(path, fullgraph=True)(maps)
        assert out.permute(0, 3, 1, 2).is_contiguous(memory_format=LAST)
        torch.testing.assert_close(out, path(maps), rtol=1e-5, atol=1e-5)
