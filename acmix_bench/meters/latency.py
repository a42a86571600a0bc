"""Seconds a batch and peak memory. One call is one process: all subjects are timed in it, alternately.

In every block each subject is timed once, in an order drawn anew, so that what slows the machine for a while slows all
of them, and none always runs after the same other. The control, a second copy of the first subject, is timed with them:
what differs between the two is noise.

On CUDA, time is taken by events and memory by torch's counters. They have run on one GPU (an H100); their
timings there are not checked yet.
"""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from acmix_bench import stats
from acmix_bench.errors import UserError
from acmix_bench.meters.memory import LiveMemory
from acmix_bench.meters.subject import Subject
from acmix_bench.meters.turns import Token, Turns
from acmix_bench.ops import ran
from acmix_bench.train import devices

Clock = Callable[[], float]
Step = Callable[[], None]
Prepare = Callable[[Subject, int], tuple[Step, Step] | Step]
Values = dict[str, Any]

SAMPLE_SECONDS = 0.005  # fast steps are repeated until a sample takes this long
MIN_BLOCKS, BLOCKS_TO_STOP = 3, 12
STABLE = 0.1  # the warm-up ends when three steps in a row differ by less than this share


@dataclass
class _Timed:
    """A subject that is ready to be timed, and what was sampled of it."""

    subject: Subject
    step: Step
    first_seconds: float
    kernels: list[str]
    stable: bool
    calls: int
    peak_bytes: int | None
    seconds: list[float] = field(default_factory=list)


def alternate(
    subjects: Sequence[Subject], prepare: Prepare, clock: Clock = time.perf_counter, turns: Turns | None = None
) -> list[Values | Exception]:
    """Time all subjects, block by block, until the intervals are narrow or the time is up.

    With `turns`, these warm up, and each block is timed, while the subject of another process waits.
    """
    token = turns.join() if turns else None
    if token:
        token.take()
    control = [subjects[0]] if len(subjects) > 1 else []
    halved_by: list[str] = []

    def made(batch: int) -> tuple[int, list[_Timed | Exception]]:
        return batch, [_ready(subject, prepare, batch, clock, halved_by) for subject in (*subjects, *control)]

    batch, ready = devices.halving(made, subjects[0].protocol["batch"])
    if token:
        token.give()
    timed = [one for one in ready if isinstance(one, _Timed)]
    with _no_collection():
        stopped = _sample(timed, subjects[0], clock, token)
    second = ready.pop() if control else None
    results: list[Values | Exception] = []
    for number, one in enumerate(ready):
        if isinstance(one, Exception):
            results.append(one)
            continue
        values = {"seconds": one.seconds, "calls": one.calls, "batch": batch, "stopped": stopped}
        values |= {"kernels": one.kernels}  # of the operators' attention
        values |= {"first_seconds": one.first_seconds, "warmed_up": one.stable, "peak_bytes": one.peak_bytes}
        values |= {"halved_by": list(dict.fromkeys(halved_by))} if halved_by else {}
        if number == 0 and isinstance(second, _Timed):
            values["again_seconds"] = second.seconds
        results.append(values)
    return results


def _ready(subject: Subject, prepare: Prepare, batch: int, clock: Clock, halved_by: list[str]) -> _Timed | Exception:
    """Build and warm up, until three steps in a row take alike or half the subject's time is spent; measure memory.

    What a variant's own code raises is its result, and ends none of the others, but for memory that runs out, whose
    row is entered in `halved_by`, and a device that is lost.
    """
    try:
        made = prepare(subject, batch)
        step, release = made if isinstance(made, tuple) else (made, lambda: None)
        if not callable(step) or not callable(release):
            raise UserError(f"a timing must give a step to be called, and gave {made!r:.40}")
        with ran.watched() as kernels:
            first = seconds_of(step, 1, subject.device, clock)
        limit = clock() + subject.protocol["seconds"] / 2
        warm_up = [seconds_of(step, 1, subject.device, clock)]
        while clock() < limit and not _is_stable(warm_up):
            warm_up.append(seconds_of(step, 1, subject.device, clock))
        peak_bytes = _peak_bytes(subject, step, release)
    except Exception as error:
        devices.refuse_lost(subject.device, subject.label, error)
        if devices.ran_out_of_memory(error):
            halved_by.append(subject.label)
            raise
        return error
    calls = max(1, math.ceil(SAMPLE_SECONDS / max(min(warm_up), 1e-9)))
    return _Timed(
        subject=subject,
        step=step,
        first_seconds=first,
        kernels=sorted(kernels),
        stable=_is_stable(warm_up),
        calls=calls,
        peak_bytes=peak_bytes,
    )


def _is_stable(seconds: list[float]) -> bool:
    """Whether the last three steps took alike."""
    return len(seconds) > 2 and max(seconds[-3:]) < (1 + STABLE) * min(seconds[-3:])


def _sample(timed: list[_Timed], first: Subject, clock: Clock, token: Token | None) -> str:
    """Sample in blocks; `narrow`, `budget` or `other` (it ended in the other process) says why it stopped."""
    order, shuffle = list(timed), random.Random(first.seed)
    if token and not token.take():
        return "other"
    end = clock() + first.protocol["seconds"] * len(timed) * (2 if token else 1)
    blocks, stopped = 0, ""
    while timed and not stopped:
        shuffle.shuffle(order)
        for one in order:
            one.step()  # not timed: it pays for the caches and the memory that the one before left behind
            one.seconds.append(seconds_of(one.step, one.calls, one.subject.device, clock) / one.calls)
        blocks += 1
        if not token and blocks % BLOCKS_TO_STOP == 0 and _is_narrow(timed, first.protocol["precision"]):
            stopped = "narrow"
        elif blocks >= MIN_BLOCKS and clock() >= end:
            stopped = "budget"
        if token and not (token.give() and (stopped or token.take())):
            stopped = "other"
    if token:
        token.end()
    return stopped


def _is_narrow(timed: list[_Timed], precision: float) -> bool:
    """Whether every ratio to the first subject, or a lone subject's time, is known to within the precision."""
    base = timed[0].seconds
    ratios = [[ours / theirs for ours, theirs in zip(one.seconds, base, strict=True)] for one in timed[1:]]
    estimates = [stats.median(samples) for samples in ratios or [base]]
    return all(one.margin is not None and one.margin <= precision * one.value for one in estimates)


def seconds_of(step: Step, calls: int, device: torch.device, clock: Clock) -> float:
    """Time some calls in a row."""
    if device.type == "cuda":
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(calls):
            step()
        end.record()
        torch.cuda.synchronize(device)
        return float(begin.elapsed_time(end)) / 1000
    before = clock()
    for _ in range(calls):
        step()
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return clock() - before


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep Python's garbage collector out of the samples."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _peak_bytes(subject: Subject, step: Step, release: Step) -> int | None:
    """Most memory that torch holds at one time in a step, above what it held before; None where torch does not tell.

    On the CPU one more step is run, and its tensors are watched. What an operation takes for itself is not seen, and
    nothing at all of compiled code.
    """
    release()
    device = subject.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        return torch.cuda.max_memory_allocated(device) - before
    if device.type != "cpu" or subject.variant.runs.compiles:
        return None
    with LiveMemory() as memory:
        step()
    release()
    return memory.peak
