"""How much of a core's peak does each part of the operator reach in C++, and how does its time grow?

    python tests/benchmarks/shares.py FOLDER

Prints the shares, and draws how the time of the operator, in C++ and in torch, and of a 3x3 convolution grows with
the map, the channels, the window and the heads, each with its fitted exponent, to FOLDER/growth.svg. Threads are
torch's; the shares are of one thread. About 2 minutes on x86-64; nothing else may run on the machine.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import torch
from torch import nn

from acmix_bench.meters.conditions import hold, use_threads
from acmix_bench.ops.acmix import ACmix
from acmix_bench.ops.native import build
from acmix_bench.ops.plain import Convolution

matplotlib.use("Agg")
from matplotlib import pyplot as plt

STAGES = [(64, 56), (128, 28), (256, 14)]
USUAL = {"size": 56, "channels": 64, "window": 7, "heads": 4}
GROWTH = {
    "size": [28, 56, 112, 224],
    "channels": [64, 128, 256, 512],
    "window": [3, 5, 7],
    "heads": [1, 2, 4],
}
TITLES = {"size": "map, pixels a side", "channels": "channels", "window": "window", "heads": "heads"}
KINDS = {"C++": "native", "torch": "production", "3x3 convolution": None}
SECONDS = 1.5  # a point


def medians(steps: dict[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """Milliseconds of each step, in turns."""
    names, taken = list(steps), {name: [] for name in steps}
    with torch.inference_mode():
        for step in steps.values():
            step()
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(taken[names[0]]) < 3:
            for name in random.sample(names, len(names)):
                start = time.perf_counter()
                steps[name]()
                taken[name].append((time.perf_counter() - start) * 1e3)
    return {name: float(np.median(times)) for name, times in taken.items()}


def layer_and_input(implementation: str | None, *, size: int, channels: int, **axes: int) -> Callable[[], object]:
    """One layer, channels to channels, at batch 4 in channels-last."""
    x = torch.randn(4, channels, size, size).contiguous(memory_format=torch.channels_last)
    layer: nn.Module = Convolution(channels, channels)
    if implementation:
        layer = ACmix(channels, channels, implementation=implementation, **axes)
    layer = layer.to(memory_format=torch.channels_last).eval()
    return lambda: layer(x)


def shares() -> None:
    """Print each part's rate in its place, and its share of the peak."""
    lanes = build.lanes_for(16, 4)
    here = Path(__file__).parent
    flags = [flag for flag in build.FLAGS if flag not in ("-shared", "-fPIC")]
    flags += ["-DSCALAR=float", f"-DLANES={lanes}", "-DWINDOWS(CASE)=CASE(7)", f"-I{Path(build.__file__).parent}"]
    use_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        program = str(Path(folder) / "parts")
        subprocess.run([build.compiler(), *flags, str(here / "parts.cpp"), "-o", program], check=True)
        for channels, size in STAGES:
            told = subprocess.run([program, str(channels), str(size), "3"], check=True, capture_output=True, text=True)
            rates = {name: float(rate) for name, rate in (line.split() for line in told.stdout.splitlines())}
            convolution = layer_and_input(None, size=size, channels=channels)
            took = medians({"convolution": convolution}, SECONDS)["convolution"]
            rates["convolution"] = 4 * 9 * channels**2 * size**2 / took / 1e6
            print(f"{channels} channels, {size}x{size}: peak {rates['peak']:.0f} G multiply-adds/s a core")
            for part in ("projection", "path", "scores", "values", "convolution"):
                print(f"  {part:12} {rates[part]:5.1f}  {rates[part] / rates['peak']:4.0%}")
            print(f"  softmax {rates['softmax_ms']:.2f} ms, bringing into order {rates['order_ms']:.2f} ms")


def growth(path: Path) -> None:
    """Draw time over each size, logarithmic, with the exponent of its fit."""
    figure, panels = plt.subplots(1, len(GROWTH), figsize=(13, 3.6), layout="constrained")
    for panel, (what, values) in zip(panels, GROWTH.items(), strict=True):
        usual = USUAL | ({"size": 28} if what == "channels" else {})
        points = []
        for value in values:
            sizes = usual | {what: value}
            points.append(medians({name: layer_and_input(kind, **sizes) for name, kind in KINDS.items()}, SECONDS))
        for name in KINDS:
            times = [point[name] for point in points]
            exponent = np.polyfit(np.log(values), np.log(times), 1)[0]
            print(
                f"{what:9} {name:16} ^{exponent:.2f}  "
                + "  ".join(f"{v}: {t:.2f}" for v, t in zip(values, times, strict=True))
            )
            panel.loglog(values, times, "o-", label=f"{name}, ^{exponent:.2f}")
        panel.set_xticks(values, [str(value) for value in values])
        panel.minorticks_off()
        panel.set_xlabel(TITLES[what])
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8)
    panels[0].set_ylabel("milliseconds, batch 4")
    figure.savefig(path)


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    threads = torch.get_num_threads()
    hold({"threads": threads, "allocator": "keep"})
    growth(folder / "growth.svg")
    shares()


if __name__ == "__main__":
    main()
