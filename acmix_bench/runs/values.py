"""What a record's raw values must hold for the tables to read them, since its file may have been changed by anybody."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt

from acmix_bench import meters
from acmix_bench.errors import UserError

LARGEST = 2**63  # what no count, time or score comes near to
Number = StrictInt | StrictFloat
Count = Annotated[int, Field(ge=0, strict=True)]
Seconds = Annotated[float, Field(gt=0, strict=True)]


class _Values(BaseModel):
    """Some keys; others may stand beside them."""

    model_config = ConfigDict(extra="allow")


class _State(_Values):
    clock_mhz: Number | None = None
    throttled: list[str] = []


class _Timed(_Values):
    seconds: list[Seconds]
    again_seconds: list[Seconds] = []
    batch: Annotated[int, Field(ge=1, strict=True)]
    first_seconds: Number
    peak_bytes: Number | None
    stopped: str
    warmed_up: bool
    libraries: list[str] = []
    host_seconds: list[Annotated[float, Field(ge=0, strict=True)]] = []
    reserved_bytes: Number | None = None
    gpu: dict[str, Any] = {}
    gpu_states: list[_State] = []
    throttled_blocks: Count = 0
    left_out_blocks: Count = 0
    clock_settled: bool | None = None


class _Trained(_Values):
    test_images: Annotated[int, Field(ge=1, strict=True)] = 1
    accuracy_by_epoch: list[Number] = []
    miou_by_epoch: list[Number] = []
    box_ap_by_epoch: list[Number | None] = []
    loss_by_epoch: list[Number] = []
    mixing_weights: list[tuple[Number, Number]] = []
    mixing_by_epoch: list[list[tuple[Number, Number]]] = []


class _Parity(_Values):
    shapes: dict[str, list[int]]
    operations: list[str]
    difference: Number = 0
    claims: str = ""


class _Apart(_Values):
    difference: Number
    tolerance: Annotated[float, Field(gt=0, strict=True)]


class _AsTimed(_Values):
    checks: dict[str, _Apart]


class _Layer(_Values):
    name: str
    type: str
    parameters: Number
    macs: dict[str, Number]


class _Macs(_Values):
    macs: Number
    macs_by_stage: dict[str, Number]
    layers: list[_Layer] = []
    fvcore_not_counted: dict[str, Any] = {}
    flop_counter_not_counted: dict[str, Any] = {}
    count_with_fvcore_failed: dict[str, Any] = {}
    count_with_flop_counter_failed: dict[str, Any] = {}
    count_with_ledger_failed: dict[str, Any] = {}
    no_formula: dict[str, Any] = {}
    unknown: dict[str, Any] = {}
    fvcore_version: str = ""


FORMS: dict[str, type[_Values]] = {
    "parity": _Parity,
    "as_timed": _AsTimed,
    "macs": _Macs,
    **dict.fromkeys(("accuracy", "miou", "ap"), _Trained),
}


def check(name: str, values: Mapping[str, Any]) -> None:
    """Check the values that a meter gave.

    Raises:
        ValueError: where a number or a text is missing or is something else.
    """
    try:
        meter = meters.find(name)
    except UserError:  # somebody's own that is not here, which is told where it is needed
        return
    form = _Timed if meter.is_timing else FORMS.get(name)
    if form:
        form.model_validate(values)
    _check_numbers(values)
    for metric in meter.metrics:
        for number in metric.numbers(values).values():
            if not isinstance(number, int | float):
                raise ValueError(f"{metric.key} is no number")


def _check_numbers(value: Any) -> None:
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            _check_numbers(inner)
    elif isinstance(value, int | float) and not -LARGEST < value < LARGEST:
        raise ValueError("a number is too large, or not finite")
