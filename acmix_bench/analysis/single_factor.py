"""Whether a row is what its name says: the function that it claims to be, and changed in its axes alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from acmix_bench.runs.record import Record
from acmix_bench.spec.cell import Row
from acmix_bench.spec.variant import AXES

# Two ways to compute one function agree to this in float64, relative to the largest value.
PARITY = 1e-9


def withheld_reason(row: Row, baseline: Row, records: Mapping[str, Sequence[Record]]) -> str | None:
    """Why a row's timings must not be shown; None where nothing speaks against them.

    An operator of a user's own claims nothing.

    Args:
        records: of all meters, by row label.
    """
    parity = {label: _of("parity", records[label]) for label in (row.label, baseline.label)}
    ours, theirs = _values(parity[row.label]), _values(parity[baseline.label])
    if reason := _not_as_timed(row, _of("as_timed", records[row.label])):
        return reason
    if ours.get("difference", 0) > PARITY:
        return f"it is not the same function as {ours['claims']}, but differs by {ours['difference']:.1g}"
    if row.variant.is_own:
        return None
    if any(record.status not in ("ok", "withheld") for record in parity[row.label]):
        return "it could not be checked before timing"
    changed = row.variant.changes(baseline.variant)
    axes = [AXES[axis] for axis in changed if axis in AXES]
    may_touch_any = len(axes) < len(changed) or any(axis.parameters is None for axis in axes)
    if not ours or not theirs or row.variant.operator != "acmix" or may_touch_any:
        return None
    mine, other = ours["shapes"], theirs["shapes"]
    allowed = [word for axis in axes for word in axis.parameters or ()]
    strange = [
        name
        for name in {**mine, **other}
        if mine.get(name) != other.get(name) and not any(word in name for word in allowed)
    ]
    if all(axis.operations is not None for axis in axes):
        used = set(ours["operations"]) ^ set(theirs["operations"])
        strange += sorted(used.difference(*(axis.operations or () for axis in axes)))
    if strange:
        return f"{', '.join(strange)} changed, which {' and '.join(changed) or 'nothing'} does not explain"
    return None


def _not_as_timed(row: Row, checks: Sequence[Record]) -> str | None:
    """What the check in the timed type and on the timed device speaks against; nothing where none was made."""
    failed = [record for record in checks if record.status not in ("ok", "withheld")]
    if failed and not row.variant.is_own:
        return f"it could not be checked as it is timed ({failed[0].reason})"
    found = _values(checks).get("checks", {})
    worst = max(found, key=lambda name: found[name]["difference"] / found[name]["tolerance"], default=None)
    if worst is None or found[worst]["difference"] <= found[worst]["tolerance"]:
        return None
    difference, tolerance = found[worst]["difference"], found[worst]["tolerance"]
    setting = checks[0].cell.protocol
    where = f"{setting.get('dtype')} on {setting.get('device')}"
    return f"in {where} its {worst} is {difference:.1g} from that in float64, and may be {tolerance:.1g}"


def _of(meter: str, records: Sequence[Record]) -> list[Record]:
    return [record for record in records if record.cell.meter == meter]


def _values(records: Sequence[Record]) -> dict[str, Any]:
    return next((record.values for record in records if record.status == "ok"), {})
