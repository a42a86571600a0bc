"""Seconds a batch and peak memory. One call is one process: all subjects are timed in it, alternately.

In every block each subject is timed once, in an order drawn anew, so that what slows the machine for a while slows all
of them, and none always runs after the same other. The control, a second copy of the first subject, is timed with them:
what differs between the two is noise.

On a GPU, blocks at whose end it was throttled are left out. How seconds are taken on a device says `meters.clock`.
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
from acmix_bench.meters import gpu, graph, memory, warm
from acmix_bench.meters.clock import Clock, Sample, Step, sample_of, seconds_of
from acmix_bench.meters.subject import Subject
from acmix_bench.meters.turns import Token, Turns
from acmix_bench.ops import ran
from acmix_bench.train import devices

Prepare = Callable[[Subject, int], tuple[Step, Step] | Step]
Values = dict[str, Any]

SAMPLE_SECONDS = 0.005  # fast steps are repeated until a sample takes this long
MIN_BLOCKS, BLOCKS_TO_STOP = 3, 12


@dataclass(eq=False)
class _Timed:
    """A subject that is ready to be timed."""

    subject: Subject
    step: Step
    first_seconds: float
    kernels: list[str]
    stable: bool
    calls: int
    peaks: dict[str, int | None]

    def sample(self, clock: Clock) -> Sample:
        """Seconds of one call."""
        self.step()  # not timed: it pays for the caches and the memory that the one before left behind
        cold = self.subject.protocol.get("cache") == "cold"
        taken, host = sample_of(self.step, self.calls, self.subject.device, clock, cold=cold)
        return Sample(taken / self.calls, None if host is None else host / self.calls)


@dataclass(frozen=True)
class _Block:
    """A sample of each subject, in their order, and what the GPU said at the end, where it says anything."""

    samples: list[Sample]
    state: dict[str, Any]


@dataclass
class _Sampled:
    """What came of sampling; `stopped` is `narrow`, `budget` or `other` (it ended in the other process)."""

    blocks: list[_Block] = field(default_factory=list)
    stopped: str = ""
    settled: bool | None = None

    def kept(self, *, in_turns: bool) -> list[_Block]:
        """The blocks that count: those without throttling, or all where these are too few to say anything.

        In turns all: the blocks of the two processes lie side by side, and what slows one slows the other.
        """
        free = [block for block in self.blocks if not block.state.get("throttled")]
        return self.blocks if in_turns or len(free) < MIN_BLOCKS else free


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
        torch.clear_autocast_cache()  # of what did not fit
        return batch, [_ready(subject, prepare, batch, clock, halved_by) for subject in (*subjects, *control)]

    batch, ready = devices.halving(made, subjects[0].protocol["batch"])
    if token:
        token.give()
    timed = [one for one in ready if isinstance(one, _Timed)]
    with _no_collection():
        sampled = _sample(timed, subjects[0], clock, token)
    blocks = sampled.kept(in_turns=token is not None)
    second = ready[-1] if control else None
    results: list[Values | Exception] = []
    for number, one in enumerate(ready[: len(subjects)]):
        if isinstance(one, Exception):
            results.append(one)
            continue
        values = _taken(blocks, timed.index(one)) | {"calls": one.calls, "batch": batch, "stopped": sampled.stopped}
        values |= {"kernels": one.kernels}  # of the operators' attention
        values |= {"first_seconds": one.first_seconds, "warmed_up": one.stable, **one.peaks}
        values |= {"halved_by": list(dict.fromkeys(halved_by))} if halved_by else {}
        if number == 0 and isinstance(second, _Timed):
            values["again_seconds"] = _taken(blocks, timed.index(second))["seconds"]
        results.append(values | _told_by_gpu(sampled, blocks))
    return results


def _taken(blocks: list[_Block], number: int) -> Values:
    """One subject's seconds in each block, and of them those in which this machine handed out work to a device."""
    samples = [block.samples[number] for block in blocks]
    host = [sample.host_seconds for sample in samples if sample.host_seconds is not None]
    return {"seconds": [sample.seconds for sample in samples]} | ({"host_seconds": host} if host else {})


def _told_by_gpu(sampled: _Sampled, blocks: list[_Block]) -> Values:
    """What the GPU said at the end of each block that counts, and how many were throttled; nothing of a CPU."""
    states = [block.state for block in blocks if block.state]
    told: Values = {} if sampled.settled is None else {"clock_settled": sampled.settled}
    if states:
        throttled = sum(bool(block.state.get("throttled")) for block in sampled.blocks)
        left_out = len(sampled.blocks) - len(blocks)
        told |= {"gpu_states": states, "throttled_blocks": throttled, "left_out_blocks": left_out}
    return told


def _ready(subject: Subject, prepare: Prepare, batch: int, clock: Clock, halved_by: list[str]) -> _Timed | Exception:
    """Build and warm up, until three steps in a row take alike or half the subject's time is spent; measure memory.

    What a variant's own code raises is its result, and ends none of the others, but for memory that runs out, whose
    row is entered in `halved_by`, a device that is lost, and a graph that cannot be: each is then tried alone.
    """
    device, protocol = subject.device, subject.protocol
    try:
        made = prepare(subject, batch)
        step, release = made if isinstance(made, tuple) else (made, lambda: None)
        if not callable(step) or not callable(release):
            raise UserError(f"a timing must give a step to be called, and gave {made!r:.40}")
        with ran.watched() as kernels:
            first = seconds_of(step, 1, device, clock)
        warm_up = warm.until_alike(step, device, clock, protocol["seconds"] / 2)
        peaks = memory.peaks_of(step, release, device, compiles=bool(subject.variant.runs.compiles))
        if protocol.get("launch") == "graph":
            step = graph.captured(step, release, device)
            warm_up = warm.until_alike(step, device, clock, protocol["seconds"] / 2)
    except Exception as error:
        devices.refuse_lost(device, subject.label, error)
        if devices.ran_out_of_memory(error):
            halved_by.append(subject.label)
            raise
        if isinstance(error, graph.CannotCapture):
            raise
        return error
    return _Timed(
        subject=subject,
        step=step,
        first_seconds=first,
        kernels=sorted(kernels),
        stable=warm.are_alike(warm_up),
        calls=max(1, math.ceil(SAMPLE_SECONDS / max(min(warm_up), 1e-9))),
        peaks=peaks,
    )


def _sample(timed: list[_Timed], first: Subject, clock: Clock, token: Token | None) -> _Sampled:
    """Sample in blocks, on a GPU once its clock has settled."""
    order, shuffle, sampled = list(range(len(timed))), random.Random(first.seed), _Sampled()
    if token and not token.take():
        sampled.stopped = "other"
        return sampled
    if timed and first.device.type != "cpu":
        sampled.settled = warm.until_clock_settles([one.step for one in timed], first.device, clock)
    end = clock() + first.protocol["seconds"] * len(timed) * (2 if token else 1)
    while timed and not sampled.stopped:
        shuffle.shuffle(order)
        samples = {number: timed[number].sample(clock) for number in order}
        state = gpu.state(first.device) if first.device.type == "cuda" else {}
        sampled.blocks.append(_Block([samples[number] for number in range(len(timed))], state))
        blocks = sampled.kept(in_turns=token is not None)
        if not token and len(blocks) % BLOCKS_TO_STOP == 0 and _is_narrow(blocks, first.protocol["precision"]):
            sampled.stopped = "narrow"
        elif len(sampled.blocks) >= MIN_BLOCKS and clock() >= end:
            sampled.stopped = "budget"
        if token and not (token.give() and (sampled.stopped or token.take())):
            sampled.stopped = "other"
    if token:
        token.end()
    return sampled


def _is_narrow(blocks: list[_Block], precision: float) -> bool:
    """Whether every ratio to the first subject, or a lone subject's time, is known to within the precision."""
    base, *others = zip(*([sample.seconds for sample in block.samples] for block in blocks), strict=True)
    ratios = [[ours / theirs for ours, theirs in zip(seconds, base, strict=True)] for seconds in others]
    estimates = [stats.median(samples) for samples in ratios or [list(base)]]
    return all(one.margin is not None and one.margin <= precision * one.value for one in estimates)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep Python's garbage collector out of the samples."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
