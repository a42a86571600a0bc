"""Does the clock of this device tell lengths, the same for the same, whatever ran before?"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from math import log

import torch

from acmix_bench import stats
from acmix_bench.doctor.operators import subject
from acmix_bench.meters import steps
from acmix_bench.meters.clock import larger_than_cache, sample_of, seconds_of
from acmix_bench.meters.latency import alternate
from acmix_bench.runs.contract import Broken, NotPromised, Promise, tried

KNOWN_SECONDS, TOLERANCE = 0.01, 0.05
BLOCKS = 15
BUSY = "close what else runs here"


def promises(device: torch.device) -> Iterator[Promise]:
    """Known lengths, twice the work, A against A, what ran before, the caches."""
    yield tried("known length", lambda: _known_length(device))
    yield tried("twice the work", lambda: _twice(device))
    yield tried("A against A", lambda: _again(device))
    yield tried("order", lambda: _order(device))
    yield tried("cold and warm", lambda: _cold(device))


def _known_length(device: torch.device) -> str:
    """A wait of the host, or on CUDA of a kernel: twice as many cycles take twice as long."""
    if device.type == "cuda":
        cycles = 10_000_000
        ratio = _ratio(lambda: torch.cuda._sleep(2 * cycles), lambda: torch.cuda._sleep(cycles), device)
        return _within(ratio, 2.0, "a kernel of twice the cycles takes {} times as long")
    waited = _median(lambda: time.sleep(KNOWN_SECONDS), device)
    return _within(waited / KNOWN_SECONDS, 1.0, "a wait of 10 ms takes {} times 10 ms")


def _twice(device: torch.device) -> str:
    product = _product(device, 1024 if device.type == "cpu" else 4096)

    def twice() -> None:
        product()
        product()

    return _within(_ratio(twice, product, device), 2.0, "two matrix products take {} times as long as one")


def _order(device: torch.device) -> str:
    """The same work right after itself, and after another that fills the caches."""
    on_gpu = device.type != "cpu"
    product, other = _product(device, 2048 if on_gpu else 512), _product(device, 4096 if on_gpu else 2048)
    after_itself: list[float] = []
    after_other: list[float] = []
    for _ in range(BLOCKS):
        for before, samples in ((product, after_itself), (other, after_other)):
            before()
            product()  # not timed, as in every block of a timing
            samples.append(seconds_of(product, 20, device, time.perf_counter))
    ratios = [b / a for a, b in zip(after_itself, after_other, strict=True)]
    return _within(stats.median(ratios).value, 1.0, "after another work it takes {} times as long as after itself")


def _again(device: torch.device) -> str:
    """An operator against a second copy of itself, timed as a row of a table is against its baseline."""
    row = subject(device, seconds=1.0, precision=0.0001)
    found = alternate([row, row], steps.inference)
    first = found[0]
    if isinstance(first, Exception):
        raise first
    ratio = stats.median([a / b for a, b in zip(first["again_seconds"], first["seconds"], strict=True)])
    floor = stats.farthest_from_one(ratio)
    told = (
        f"a copy takes {ratio.value:.3f} times as long [{ratio.low:.3f}, {ratio.high:.3f}]"
        if floor
        else "too few samples"
    )
    if floor is None or abs(log(ratio.value)) > TOLERANCE:
        raise Broken(f"{told}; {BUSY}")
    return f"{told}: what differs by less than {100 * floor:.1f} % in one process is noise"


def _cold(device: torch.device) -> str:
    """A copy of what fits into a GPU's L2 cache, from there and from memory."""
    if device.type != "cuda":
        raise NotPromised("cache=cold is of CUDA")
    source = torch.ones(larger_than_cache(device).numel() // 8, dtype=torch.uint8, device=device)  # a quarter of it
    target = torch.empty_like(source)

    def copy() -> None:
        target.copy_(source)

    samples: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(BLOCKS):
        for cold, found in samples.items():
            found.append(sample_of(copy, 5, device, time.perf_counter, cold=cold).seconds)
    ratio = stats.median([cold / warm for cold, warm in zip(samples[True], samples[False], strict=True)]).value
    if ratio < 1:
        raise Broken(f"a cold copy takes {ratio:.2f} times as long as a warm one: the cache is not overwritten")
    return f"a copy of {source.numel() >> 20} MiB takes {ratio:.2f} times as long from memory as from the cache"


def _product(device: torch.device, edge: int) -> Callable[[], None]:
    a, b = (torch.randn(edge, edge, device=device) for _ in range(2))
    out = torch.empty_like(a)

    def step() -> None:
        torch.mm(a, b, out=out)

    return step


def _median(step: Callable[[], None], device: torch.device) -> float:
    step()
    return stats.median([seconds_of(step, 1, device, time.perf_counter) for _ in range(BLOCKS)]).value


def _ratio(step: Callable[[], None], other: Callable[[], None], device: torch.device) -> float:
    """How many times as long one step takes, both timed alternately."""
    ratios = []
    for _ in range(BLOCKS):
        ours, theirs = (_once(each, device) for each in (step, other))
        ratios.append(ours / theirs)
    return stats.median(ratios).value


def _once(step: Callable[[], None], device: torch.device) -> float:
    step()
    return seconds_of(step, 1, device, time.perf_counter)


def _within(found: float, wanted: float, told: str) -> str:
    line = told.format(f"{found:.3f}")
    if not abs(found / wanted - 1) <= TOLERANCE:
        raise Broken(f"{line}, where {wanted:g} is right to {100 * TOLERANCE:g} %; {BUSY}")
    return line
