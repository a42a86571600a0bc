"""Meters: each takes a subject (a built variant in its case) and gives raw values.

To add one, write a module with `measure(subject) -> dict` and enter it here. The values must be JSON: samples as
lists, units in the key. A timing meter takes all subjects of a case at once, and gives a list. Nothing is imported
until a cell runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Meter:
    """Where a meter's code is, how often it runs, and what of the protocol its number depends on."""

    summary: str
    function: str
    reads: tuple[str, ...]
    repeats: Literal["once", "processes", "seeds"] = "once"

    @property
    def is_timing(self) -> bool:
        """Whether all rows are measured together, alternately in one process."""
        return self.repeats == "processes"


_MACHINE = ("device", "dtype", "threads")
_TIMING = (*_MACHINE, "allocator", "layout", "batch", "seconds", "precision")
_TRAINING = (*_MACHINE, "data_root", "epochs", "train_batch", "learning_rate", "weight_decay")

METERS: dict[str, Meter] = {
    "params": Meter(
        summary="parameters that train",
        function="acmix_bench.meters.params:measure",
        reads=(),
    ),
    "macs": Meter(
        summary="multiply-adds of one image by stage, from the closed form, beside what two counters say",
        function="acmix_bench.meters.macs:measure",
        reads=(),
    ),
    "parity": Meter(
        summary="parameters, operations, and whether the variant is the function that it claims to be",
        function="acmix_bench.meters.parity:measure",
        reads=(),
    ),
    "inference": Meter(
        summary="seconds a batch and peak memory, forward",
        function="acmix_bench.meters.latency:inference",
        reads=_TIMING,
        repeats="processes",
    ),
    "training": Meter(
        summary="seconds a batch and peak memory, forward, backward and update",
        function="acmix_bench.meters.latency:training",
        reads=_TIMING,
        repeats="processes",
    ),
    "product": Meter(
        summary="seconds of one dense matrix product with as many multiply-adds: what the machine could reach",
        function="acmix_bench.meters.latency:product",
        reads=_TIMING,
        repeats="processes",
    ),
    "accuracy": Meter(
        summary="top-1 on held-out images after a short training",
        function="acmix_bench.meters.accuracy:measure",
        reads=_TRAINING,
        repeats="seeds",
    ),
}
