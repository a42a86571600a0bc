"""Times of local attention on a real GPU, for information.

ACMIX_BENCH_GPU_TIMES=times.json pytest tests/gpu/test_gpu_operator_times.py -s     # a few minutes; else half a minute
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from acmix_bench.ops import attention, flex

DEVICE, LAST = torch.device("cuda"), torch.channels_last
pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: torch.cuda.is_available() is false"),
    pytest.mark.filterwarnings("default"),  # what torch.compile says of tensor cores
]


def rounds(runs: dict[str, Callable[[], object]], blocks: int = 15) -> dict[str, float]:
    """Median milliseconds of each, block by block in turns, by events."""
    samples: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(blocks):
        for name, run in runs.items():
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            run()
            begin.record()
            for _ in range(5):
                run()
            end.record()
            end.synchronize()
            samples[name].append(begin.elapsed_time(end) / 5)
    return {name: statistics.median(taken) for name, taken in samples.items()}


def times_of(channels: int, size: int, dtype: torch.dtype, with_flex: bool) -> dict[str, float]:
    """Milliseconds of attention, and of the convolution that it replaces, at batch 64."""
    q, k, v = torch.randn(3, 64, size, size, channels, device=DEVICE, dtype=dtype)
    position = torch.randn(size, size, channels // 4, device=DEVICE, dtype=dtype)
    kernel = torch.randn(channels, channels, 3, 3, device=DEVICE, dtype=dtype).contiguous(memory_format=LAST)
    sizes: dict[str, int] = {"heads": 4, "window": 7, "stride": 1}
    runs: dict[str, Callable[[], object]] = {
        "gather and attend": lambda: attention.local_attention(q, k, v, position, **sizes),
        "3x3 convolution": lambda: F.conv2d(q.permute(0, 3, 1, 2), kernel, padding=1),
    }
    if with_flex:
        runs["flex_attention"] = lambda: flex.local_attention(q, k, v, position, **sizes)
    with torch.inference_mode():
        return rounds(runs)


def test_times_for_information() -> None:
    """Attention of ResNet-50's stages beside a 3x3 convolution, batch 64, forward. Nothing is asserted but a number."""
    file = os.environ.get("ACMIX_BENCH_GPU_TIMES")
    end, table = time.monotonic() + (300 if file else 30), []
    for dtype in (torch.bfloat16, torch.float32):
        for channels, size in ((64, 56), (128, 28), (256, 14), (512, 7)):
            taken = times_of(channels, size, dtype, with_flex=time.monotonic() < end)  # which takes seconds to compile
            assert all(milliseconds > 0 for milliseconds in taken.values())
            table.append({"channels": channels, "size": size, "dtype": str(dtype).removeprefix("torch."), **taken})
            print(json.dumps(table[-1]))
    if file:
        told = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "batch": 64, "milliseconds": table}
        Path(file).write_text(json.dumps(told, indent=1) + "\n")
