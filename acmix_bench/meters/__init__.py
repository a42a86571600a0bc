"""Meters: what is measured. A table of contents: nothing is imported until a cell runs.

To add one, write a function and declare it: here, or in a module of your own, as `Meter(...)` (`acmix_bench.spec.meter`
says what each field means). Its raw values must be JSON: numbers, texts, lists and mappings, units in the key.
"""

from __future__ import annotations

from typing import Any

from acmix_bench.spec import plugins
from acmix_bench.spec.meter import Meter, Metric
from acmix_bench.spec.recipe import DenseRecipe, Recipe


def _params(subject: Any) -> dict[str, Any]:
    from acmix_bench.meters.params import measure

    return measure(subject)


def _macs(subject: Any) -> dict[str, Any]:
    from acmix_bench.meters.macs import measure

    return measure(subject)


def _parity(subject: Any) -> dict[str, Any]:
    from acmix_bench.meters.parity import measure

    return measure(subject)


def _as_timed(subject: Any) -> dict[str, Any]:
    from acmix_bench.meters.as_timed import measure

    return measure(subject)


def _inference(subject: Any, batch: int) -> Any:
    from acmix_bench.meters.steps import inference

    return inference(subject, batch)


def _training(subject: Any, batch: int) -> Any:
    from acmix_bench.meters.steps import training

    return training(subject, batch)


def _matmul(subject: Any, batch: int) -> Any:
    from acmix_bench.meters.matmul import matmul

    return matmul(subject, batch)


def _accuracy(subject: Any) -> dict[str, Any]:
    from acmix_bench.meters.accuracy import measure

    return measure(subject)


def _miou(subject: Any) -> dict[str, Any]:
    from acmix_bench.meters.dense import miou

    return miou(subject)


def _ap(subject: Any) -> dict[str, Any]:
    from acmix_bench.meters.dense import ap

    return ap(subject)


_ARITHMETIC = ("device", "dtype", "products", "cudnn_benchmark")
_MACHINE = (*_ARITHMETIC, "threads")
_TIMING = (*_MACHINE, "cache", "launch", "allocator", "layout", "batch", "seconds", "precision")
_TRAINING = (*_MACHINE, "deterministic", "layout", "data_root", "workers", *Recipe.model_fields)
_DENSE = (*_TRAINING, *(name for name in DenseRecipe.model_fields if name not in Recipe.model_fields))

METERS: dict[str, Meter] = {
    "params": Meter(
        summary="parameters that train",
        measure=_params,
        alone=False,
        metrics=(Metric(key="parameters", title="params"),),
    ),
    "macs": Meter(
        summary="multiply-adds of one image by stage, from the closed form, beside what two counters say",
        measure=_macs,
        alone=False,
        metrics=(
            Metric(key="macs", title="MACs\n(FLOPs)"),
            Metric(key="fvcore", gated=False),
            Metric(key="flop_counter", gated=False),
            Metric(key="ledger"),
            Metric(key="macs_executed"),
            Metric(key="macs_backward"),
            Metric(key="flop_counter_backward", gated=False),
            Metric(key="activations"),
            Metric(key="activation_bytes"),
            Metric(key="parameter_bytes"),
            Metric(key="macs_by_stage", parts="macs"),
            Metric(key="unknown", listed=False),
            Metric(key="no_formula", listed=False),
        ),
    ),
    "parity": Meter(
        summary="parameters, operations, and whether the variant is the function that it claims to be",
        measure=_parity,
    ),
    "as_timed": Meter(
        summary="how far output and gradient are from float64 in the type and on the device that are timed",
        measure=_as_timed,
        reads=(*_ARITHMETIC, "layout"),
    ),
    "inference": Meter(
        summary="seconds a batch and peak memory, forward",
        measure=_inference,
        reads=_TIMING,
        repeats="processes",
    ),
    "training": Meter(
        summary="seconds a batch and peak memory, forward, backward and update",
        measure=_training,
        reads=_TIMING,
        repeats="processes",
        trains=True,
        passes=3,  # a backward pass makes two products of each
    ),
    "matmul": Meter(
        summary="seconds of one dense matrix product with as many multiply-adds: what the machine could reach",
        measure=_matmul,
        reads=_TIMING,
        repeats="processes",
        ceiling=True,
    ),
    "accuracy": Meter(
        summary="top-1 on held-out images after a short training",
        measure=_accuracy,
        metrics=(Metric(key="accuracy", title="top-1", unit="percent", of="test_images"),),
        reads=_TRAINING,
        repeats="seeds",
        trains=True,
        reads_data=True,
        task="classify",
    ),
    "miou": Meter(
        summary="mean intersection over union on held-out images after training a head that segments",
        measure=_miou,
        metrics=(
            Metric(key="miou", title="mIoU", unit="percent"),
            Metric(key="pixel_accuracy", title="pixel\naccuracy", unit="percent"),
        ),
        reads=_DENSE,
        repeats="seeds",
        trains=True,
        reads_data=True,
        task="segment",
    ),
    "ap": Meter(
        summary="COCO's average precision of boxes and masks on held-out images after training a head that detects",
        measure=_ap,
        metrics=(
            Metric(key="box_ap", title="box AP", unit="percent"),
            Metric(key="mask_ap", title="mask AP", unit="percent"),
        ),
        reads=_DENSE,
        repeats="seeds",
        trains=True,
        reads_data=True,
        task="detect",
    ),
}


def of_task(task: str) -> str:
    """The meter that scores what a model has learned to do."""
    return next(name for name, meter in METERS.items() if meter.task == task)


def find(name: str) -> Meter:
    """A meter by name or reference.

    Raises:
        UserError: naming the known ones.
    """
    return plugins.find("meter", name, METERS, Meter)
