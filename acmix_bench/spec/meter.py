"""The one declaration of a meter: what it measures, how often, and how its numbers are shown and compared.

There are three kinds, by what repeats:

    once        counts without noise: any increase of a gated one is a regression, on any machine
    processes   timings: all rows are timed alternately in one process, and several processes do so
    seeds       scores: one number a training run, of which more is better, paired with the baseline's by seed
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from pydantic.dataclasses import dataclass

from acmix_bench.errors import UserError

# What of the protocol sets how long a timing is sampled. It changes the interval, and not what is expected.
EFFORT = ("seconds", "precision")


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One number among a meter's raw values.

    Attributes:
        key: its name in the raw values, where it is a number, or a mapping of names to numbers.
        title: the header of its column in the main table; without one it has no column there.
        unit: how it is shown.
        parts: for a mapping whose numbers are metrics each: the word before their names, as `macs` in `macs stage_1`.
            The numbers of any other mapping are added up.
        gated: whether more of a count than before is a regression. Of a score the first metric is compared, and less
            is one.
        listed: whether it stands in the CSV.
        of: the key of how many samples a share is of: no difference is known more finely than one of them.
    """

    key: str
    title: str = ""
    unit: Literal["count", "percent", "number"] = "count"
    parts: str = ""
    gated: bool = True
    listed: bool = True
    of: str = ""

    def numbers(self, values: Mapping[str, Any]) -> dict[str, float]:
        """What raw values say of it, by the name under which it is compared; empty where they say nothing."""
        found = values.get(self.key)
        if found is None:
            return {}
        if not isinstance(found, dict):
            return {self.key: found}
        return (
            {f"{self.parts} {part}": number for part, number in found.items()}
            if self.parts
            else {self.key: sum(found.values())}
        )


@dataclass(frozen=True, kw_only=True)
class Meter:
    """A meter of this package or of your own.

    Attributes:
        summary: what it measures, in a line.
        measure: `(subject) -> dict` of JSON values. Of a meter that repeats in processes, `(subject, batch)` to the
            step that is timed, and a function that frees what a step leaves behind: the timing itself is made here.
        metrics: the numbers among the values. A timing needs none: it has a rate, a ratio, and peak bytes.
        reads: the keys of the protocol that its number depends on.
        repeats: what it is repeated over.
        trains: whether it needs a backward pass.
        reads_data: whether it reads images of the data set, not only their size.
        task: what a model must be made for to be measured by it; anything where not given.
        passes: multiply-adds of a timed step, in those of one forward pass.
        alone: whether nothing else may run on the machine meanwhile.
        ceiling: whether a timing only says what the machine could reach, and is no result itself.
        threshold: how much slower, as a share, is a regression.
    """

    summary: str
    measure: Callable[..., Any]
    metrics: tuple[Metric, ...] = ()
    reads: tuple[str, ...] = ()
    repeats: Literal["once", "processes", "seeds"] = "once"
    trains: bool = False
    reads_data: bool = False
    task: Literal["", "classify", "segment", "detect"] = ""
    passes: int = 1
    alone: bool = True
    ceiling: bool = False
    threshold: float = 0.02

    def __post_init__(self) -> None:
        missing = [key for key in ("device", "dtype", "batch", *EFFORT) if key not in self.reads]
        if self.repeats == "processes" and missing:
            raise UserError(f"Meter: reads: a timing reads {', '.join(missing)} too")
        if self.repeats == "processes" and not self.alone:
            raise UserError("Meter: alone: a timing must be alone on the machine")

    @property
    def is_timing(self) -> bool:
        """Whether all rows are measured together, alternately in one process."""
        return self.repeats == "processes"

    @property
    def must_be_alone(self) -> bool:
        """Whether its number is disturbed by what else runs; a training only takes longer."""
        return self.alone and self.repeats != "seeds"

    @property
    def is_speed(self) -> bool:
        """Whether it is a timing that is a result."""
        return self.is_timing and not self.ceiling

    @property
    def conditions(self) -> tuple[str, ...]:
        """The keys of the protocol that two timings must share to be comparable."""
        return tuple(key for key in self.reads if key not in EFFORT)


def short(name: str) -> str:
    """A meter's name as a table shows it: of one by reference, what stands behind the colon."""
    return name.rpartition(":")[2]


# Names that a meter had in older runs.
FORMER_NAMES = {"product": "matmul"}
