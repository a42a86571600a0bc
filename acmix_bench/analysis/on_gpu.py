"""What a timing on a GPU says beside its seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True, kw_only=True)
class OnGpu:
    """What a timing on a GPU says beside its seconds, of all its processes.

    `host_share` is the time in which the host handed out a step's work, over the step's own; about 1 means that the GPU
    waited for it. Blocks are counted that were seen throttled, and those of them that were left out. `clock_mhz` is the
    lowest and highest seen, `unsettled` counts those of its processes in which it had not settled when timing began.
    """

    host_share: float
    reserved_bytes: int | None
    throttled: int
    left_out: int
    blocks: int
    clock_mhz: tuple[float, float] | None
    unsettled: int
    processes: int


def on_gpu(values: Sequence[Mapping[str, Any]]) -> OnGpu | None:
    """Of the processes of a timing; None on a CPU, and of older versions."""
    shares = [median(one["host_seconds"]) / median(one["seconds"]) for one in values if one.get("host_seconds")]
    if not shares:
        return None
    states = [state for one in values for state in one.get("gpu_states", [])]
    clocks = [state["clock_mhz"] for state in states if state.get("clock_mhz")]
    reserved = [one["reserved_bytes"] for one in values if one.get("reserved_bytes") is not None]
    left_out = sum(one.get("left_out_blocks", 0) for one in values)
    return OnGpu(
        host_share=median(shares),
        reserved_bytes=max(reserved, default=None),
        throttled=sum(one.get("throttled_blocks", 0) for one in values),
        left_out=left_out,
        blocks=left_out + sum(len(one["seconds"]) for one in values),
        clock_mhz=(min(clocks), max(clocks)) if clocks else None,
        unsettled=sum(one.get("clock_settled") is False for one in values),
        processes=len(values),
    )
