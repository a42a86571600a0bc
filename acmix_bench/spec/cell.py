"""Rows of a table, and the cells of work that fill them. A cell's key hashes what may change its number."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import Field, field_validator

from acmix_bench import meters as known_meters
from acmix_bench.errors import UserError, unknown
from acmix_bench.spec.experiment import ON_DEVICE, Case, Protocol
from acmix_bench.spec.meter import FORMER_NAMES
from acmix_bench.spec.strict import Value
from acmix_bench.spec.variant import Variant

CHECKS = ("parity", "as_timed")  # meters that say whether a row's timings may be shown
MOST_CELLS = 1_000_000


class Row(Value):
    """One line of a table: a variant under the label that tells it from the baseline."""

    label: str
    variant: Variant
    case: Case

    @property
    def content(self) -> str:
        """What is measured, whatever it is called: rows of equal content are one."""
        return json.dumps([self.variant.content(), self.case.content()], sort_keys=True)


class Cell(Value):
    """One measurement to make. Its key hashes the content of all that can change the number."""

    row: Row
    meter: str
    repeat: int = Field(description="timing process or training seed")
    protocol: dict[str, Any] = Field(description="the part of the protocol that this meter reads")
    code: str = Field(description="hash of the code that runs")

    @field_validator("meter")
    @classmethod
    def _by_its_name_today(cls, name: str) -> str:
        return FORMER_NAMES.get(name, name)

    @property
    def key(self) -> str:
        content = self.model_dump(exclude={"row"})
        content |= {"variant": self.row.variant.content(), "case": self.row.case.content()}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def read_by(meter: str, protocol: Protocol) -> dict[str, Any]:
    """The part of a protocol that a meter reads; on the CPU without what only an accelerator has.

    Raises:
        UserError: where it reads what no protocol has.
    """
    reads = known_meters.find(meter).reads
    for key in reads:
        if key not in Protocol.model_fields:
            raise unknown("key of the protocol", key, Protocol.model_fields, where=f"meter {meter}: reads")
    return {key: getattr(protocol, key) for key in reads if key not in ON_DEVICE or protocol.device_type != "cpu"}


def cells_of(
    rows: Sequence[Row], meters: Sequence[str], protocol: Protocol, code: Callable[[Row, str], str]
) -> list[Cell]:
    """All cells, repeat by repeat: after the first pass everything has a number, and the time left is known.

    Nothing is timed before its parity is known: that it is what it says, and that it is so as it is timed, too.

    Args:
        code: the version of the code that a row runs for a meter.

    Raises:
        UserError: for an unknown meter, or one that reads what no protocol has.
    """
    found = {name: known_meters.find(name) for name in meters}
    if any(meter.is_timing for meter in found.values()):
        checks = CHECKS if protocol.is_timed_otherwise else CHECKS[:1]
        found = {name: known_meters.find(name) for name in checks if name not in found} | found
    read = {name: read_by(name, protocol) for name in found}
    repeats = {"processes": protocol.processes, "seeds": protocol.seeds, "once": 1}
    if (count := len(rows) * sum(repeats[meter.repeats] for meter in found.values())) > MOST_CELLS:
        raise UserError(f"{count:,} cells are more than one run may have, {MOST_CELLS:,}: set fewer seeds or processes")
    first = {"processes": 0, "seeds": protocol.first_seed, "once": 0}
    return [
        Cell(
            row=row,
            meter=name,
            repeat=first[meter.repeats] + repeat,
            protocol=read[name],
            code=code(row, name),
        )
        for repeat in range(max(repeats.values()))
        for name, meter in found.items()
        if repeat < repeats[meter.repeats]
        for row in rows
    ]


def groups_of(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Which cells are measured together: timings of one case in one process, everything else alone."""
    groups: dict[Any, list[Cell]] = {}
    for number, cell in enumerate(cells):
        together = (cell.meter, cell.repeat, cell.row.case.model_dump_json())
        groups.setdefault(together if known_meters.find(cell.meter).is_timing else number, []).append(cell)
    return list(groups.values())
