"""Fit the tile rule's constant on a device: `GATHER_COST` in acmix_bench/ops/attention.py, told in docs/fast.md.

    python examples/fit_tile_rule.py --device cuda --dtype bfloat16 --batch 64

Times local attention with every tile edge, all edges of a case alternately. Then it says for each constant how much
slower the edges that it chooses are than the fastest ones. Less than two minutes; nothing is written.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time

import torch
from torch import Tensor

from acmix_bench.ops import attention

# Channels, edge of the map, stride: those of ResNet-50.
CASES = [(64, 56, 1), (128, 28, 1), (256, 14, 1), (128, 56, 2), (256, 28, 2)]
EDGES = (2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 28)
CONSTANTS = (0, 1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
HEADS, WINDOW = 4, 7
SAMPLE_SECONDS = 0.005  # that a sample takes at least

Times = dict[int, float]  # of an edge, in milliseconds


def seconds_of(query: Tensor, key: Tensor, value: Tensor, tile: int, stride: int, calls: int) -> float:
    """Seconds of one call among some in a row."""
    sizes = {"heads": HEADS, "window": WINDOW, "stride": stride}
    synchronize(query.device)
    begin = time.perf_counter()
    for _ in range(calls):
        if tile >= max(query.shape[1:3]):
            attention._whole_map(query, key, value, **sizes)
        else:
            attention._tiled(query, key, value, tile=tile, **sizes)
    synchronize(query.device)
    return (time.perf_counter() - begin) / calls


def synchronize(device: torch.device) -> None:
    """Wait until a device has done what it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def times_of(case: tuple[int, int, int], batch: int, device: torch.device, dtype: torch.dtype, seconds: float) -> Times:
    """Median milliseconds of every edge that the rule could choose, all timed in turns for so many seconds."""
    channels, size, stride = case
    grid = math.ceil(size / stride)
    maps = torch.randn(3, batch, size, size, channels, device=device, dtype=dtype)
    query, key, value = maps[0, :, ::stride, ::stride], maps[1], maps[2]
    calls, samples = {}, {}
    for tile in [edge for edge in EDGES if edge < grid] + [grid]:
        seconds_of(query, key, value, tile, stride, 1)  # masks and indices are made, kernels are loaded
        once = seconds_of(query, key, value, tile, stride, 1)
        calls[tile], samples[tile] = max(1, math.ceil(SAMPLE_SECONDS / once)), []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or not all(len(taken) > 2 for taken in samples.values()):
        for tile, taken in samples.items():
            taken.append(seconds_of(query, key, value, tile, stride, calls[tile]))
    return {tile: 1000 * statistics.median(taken) for tile, taken in samples.items()}


def loss_of(constant: int, measured: dict[tuple[int, int, int], Times], device: str) -> tuple[float, list[int]]:
    """How much longer than the fastest the edges take that a constant chooses (geometric mean), and these edges."""
    attention.GATHER_COST[device] = constant
    edges = [
        attention.tile_edge(size, size, window=WINDOW, stride=stride, device=device) for _, size, stride in measured
    ]
    ratios = [near(times, edge) / min(times.values()) for times, edge in zip(measured.values(), edges, strict=True)]
    return statistics.geometric_mean(ratios), edges


def near(times: Times, edge: int) -> float:
    """The time of an edge, or of the nearest one that was measured."""
    return times[min(times, key=lambda tile: abs(tile - edge))]


def main() -> None:
    """Measure, and print the ratios and the best constant."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--device", default="cpu")
    asked.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    asked.add_argument("--batch", type=int, default=4)
    asked.add_argument("--seconds", type=float, default=15.0, help="of each of five cases")
    given = asked.parse_args()
    device, dtype = torch.device(given.device), getattr(torch, given.dtype)
    with torch.inference_mode():
        measured = {case: times_of(case, given.batch, device, dtype, given.seconds) for case in CASES}
    for (channels, size, stride), times in measured.items():
        print(f"C {channels}, {size}x{size}, stride {stride}: ms by edge, and over the fastest")
        fastest = min(times.values())
        print("  " + ", ".join(f"{tile}: {took:.3f} ({took / fastest:.2f})" for tile, took in times.items()))
    losses = {constant: loss_of(constant, measured, device.type) for constant in CONSTANTS}
    for constant, (loss, edges) in losses.items():
        print(f"G {constant}: {loss:.3f} times the fastest, edges {edges}")
    best = min(losses, key=lambda constant: losses[constant][0])
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    print(
        f"GATHER_COST of {device.type}: {best} ({name}, {given.dtype}, batch {given.batch}, torch {torch.__version__})"
    )


if __name__ == "__main__":
    main()
