"""How much slower is a regression: what the meters declare, or what a YAML file of yours says."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from acmix_bench import meters
from acmix_bench.errors import unknown
from acmix_bench.runs.record import Run
from acmix_bench.spec import strict
from acmix_bench.spec.strict import Value

Limit = Annotated[float, Field(ge=0, strict=True, allow_inf_nan=False)]


class Thresholds(Value):
    """How much slower, as a share, is a regression: by meter, and by row and meter where a row has its own.

    What is not said is as each meter declares it.
    """

    default: dict[str, Limit] = {}
    rows: dict[str, dict[str, Limit]] = {}

    @field_validator("default")
    @classmethod
    def _default_of_timings(cls, limits: dict[str, float]) -> dict[str, float]:
        _refuse_other_meters(limits)
        return limits

    @field_validator("rows")
    @classmethod
    def _rows_of_timings(cls, rows: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
        for limits in rows.values():
            _refuse_other_meters(limits)
        return rows

    def of(self, label: str, meter: str) -> float:
        """The share for a row's meter."""
        default = self.default.get(meter, meters.find(meter).threshold)
        return self.rows.get(label, {}).get(meter, default)


def load_thresholds(path: Path | None, labels: Iterable[str] | None = None) -> Thresholds:
    """The thresholds of a YAML file, or without one those that the meters declare.

    Args:
        labels: the rows that there are, where they are known: the file may name no others.

    Raises:
        UserError: for a file that is none, an unknown meter or row, or a limit below zero.
    """
    if path is None:
        return Thresholds()
    limits = strict.validated(Thresholds, strict.read_yaml(path, str(path)), where=str(path))
    known = set(labels) if labels is not None else None
    for label in limits.rows:
        if known is not None and label not in known:
            raise unknown("row", label, known, where=f"{path}: rows")
    return limits


def labels_of(*runs: Run) -> list[str]:
    """The rows of some runs, each once."""
    return list(dict.fromkeys(row.label for run in runs for row in run.plan.rows))


def _refuse_other_meters(limits: dict[str, float]) -> None:
    for name in limits:
        if not meters.find(name).is_speed:
            raise unknown("timing", name, [other for other, meter in meters.METERS.items() if meter.is_speed])
