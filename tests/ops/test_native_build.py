"""Where the operator in C++ is built, where it is not, and what runs then."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from full import full
from native_here import MISSING, needs_compiler
from typer.testing import CliRunner

from acmix_bench.cli import app
from acmix_bench.errors import ShapeError
from acmix_bench.ops.acmix import ACmix
from acmix_bench.ops.native import build


@pytest.mark.parametrize(
    ("axes", "why"),
    [
        ({"window": 9}, "windows 3, 5, 7, not 9"),
        ({"stride": 3}, "strides 1 and 2, not 3"),
        ({"heads": 32}, "heads of 1 channels"),
    ],
)
def test_what_it_does_not_serve_runs_in_torch_or_says_why(axes: dict[str, int], why: str) -> None:
    x = torch.randn(1, 4, 12, 12)
    alone = ACmix(4, 32, **axes)
    literal = ACmix(4, 32, implementation="reference", **axes)
    literal.load_state_dict(alone.state_dict())
    torch.testing.assert_close(alone(x), literal(x), rtol=1e-5, atol=1e-5)
    with pytest.raises(ShapeError, match="|".join(re.escape(reason) for reason in (why, MISSING) if reason)):
        ACmix(4, 32, implementation="native", **axes)(x)


@needs_compiler
def test_called_by_its_name_it_refuses_what_it_has_not() -> None:
    """Not through a layer, which asks before: memory would be read that is not there."""
    qkv, position = torch.randn(1, 9, 9, 48), torch.randn(9, 9, 16)
    with pytest.raises(ShapeError, match="no window 9 at stride 1"):
        torch.ops.acmix_bench.local_attention(qkv, position, 1, 9, 1)
    with pytest.raises(ShapeError, match="too small for attention window 7"):
        torch.ops.acmix_bench.local_attention(qkv[:, :3], position[:3], 1, 7, 1)
    with pytest.raises(ShapeError, match="kernels up to 15, not 17"):
        torch.ops.acmix_bench.convolution_path(qkv, torch.randn(16, 3, 17, 17), 1)


@needs_compiler
def test_a_map_smaller_than_its_padding_is_told_as_ever() -> None:
    ours = ACmix(4, 32, implementation="native")
    for mode in (torch.inference_mode(), torch.enable_grad()):
        with mode, pytest.raises(ShapeError, match="3x9 map is too small for attention window 7"):
            ours(torch.randn(1, 4, 3, 9))


def ended(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    whole = {**os.environ, **environment}
    return subprocess.run([sys.executable, "-c", script], env=whole, capture_output=True, text=True, check=False)


def test_show_says_what_it_is_built_with() -> None:
    shown = CliRunner().invoke(app, ["show", "implementation"]).stdout
    assert f"C++ on this machine: {build.told()}" in shown
    assert all(name in shown for name in ("auto: ", "native: ", "production: "))


SCRIPT = """
import torch
from acmix_bench.ops.acmix import ACmix
from acmix_bench.ops.native import build
auto = ACmix(4, 16)
assert torch.isfinite(auto(torch.randn(1, 4, 9, 9))).all()
print(build.told())
ACmix(4, 16, implementation="native")(torch.randn(1, 4, 9, 9))
"""


def test_without_a_compiler_torch_runs(tmp_path: Path) -> None:
    done = ended(SCRIPT, PATH=str(tmp_path), CXX="", ACMIX_BENCH_CACHE=str(tmp_path / "cache"))
    assert "none (no C++ compiler (g++ or clang++) is on the PATH)" in done.stdout
    assert "implementation=native does not serve this: no C++ compiler" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "cache").exists()


@needs_compiler
def test_a_broken_build_is_told_once_and_torch_runs(tmp_path: Path) -> None:
    broken = tmp_path / "g++"
    broken.write_text(f'#!/bin/sh\ncase "$*" in *-dM*) exec {shutil.which("g++") or "g++"} "$@";; esac\nexit 1\n')
    broken.chmod(0o755)
    for expected in (1, 0):
        done = ended(SCRIPT, CXX=str(broken), ACMIX_BENCH_CACHE=str(tmp_path / "cache"))
        assert done.stderr.count("the build failed, so torch's operations run instead") == expected
        assert "implementation=native does not serve this: its build failed" in done.stderr.splitlines()[-1]
    assert not list((tmp_path / "cache").glob("*.so"))


@needs_compiler
@full
def test_processes_that_build_at_once_build_once(tmp_path: Path) -> None:
    script = "from acmix_bench.ops.native import build; build.load('float', 4)"
    whole = {**os.environ, "ACMIX_BENCH_CACHE": str(tmp_path)}
    started = [subprocess.Popen([sys.executable, "-c", script], env=whole, stderr=subprocess.PIPE) for _ in range(3)]
    told = [process.communicate()[1].decode() for process in started]
    assert not any(process.returncode for process in started)
    assert sum("builds its native operator" in text for text in told) == 1
    assert len(list(tmp_path.glob("*.so"))) == 1
