"""The committed runs, and figures of them, each made once for all tests."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from acmix_bench.analysis.compare import Comparison, compare
from acmix_bench.report import figures
from acmix_bench.report.figures import figure
from acmix_bench.runs.store import Store

ROOT = Path(figures.__file__).parents[3]


@cache
def shown(run: str) -> Comparison:
    if run == "sizes":
        return sized(shown("speed"))
    return compare(Store(ROOT / "results" / "shown" / run).load())


def sized(comparison: Comparison) -> Comparison:
    """The run `speed`, as if its operators had been of one width at three sizes: time and multiply-adds go by the
    square of the size, times 3 for the released formulation."""
    sizes, records = {128: 28, 256: 14}, []

    def case(row: Any) -> Any:
        channels = int(row.case.backbone.removeprefix("operator-"))
        label = re.sub(r"operator-\d+", "operator-64", row.label)
        changed = row.case.model_copy(update={"backbone": "operator-64", "image_size": sizes.get(channels, 56)})
        return row.model_copy(update={"label": label, "case": changed})

    for record in comparison.run.records:
        row = case(record.cell.row)
        values, edge = dict(record.values), row.case.image_size
        if "seconds" in values:
            values["seconds"] = [edge**2 * (3 if "reference" in row.label else 1) * 1e-3] * 3
        if "macs" in values:
            values["macs"] = edge**2
        records.append(
            record.model_copy(update={"cell": record.cell.model_copy(update={"row": row}), "values": values})
        )
    plan = comparison.run.plan
    plan = plan.model_copy(update={"rows": tuple(map(case, plan.rows))})
    return compare(comparison.run.model_copy(update={"plan": plan, "records": tuple(records)}))


@cache
def drawn(run: str, kind: str, width: str = "column") -> Figure:
    return figure(shown(run), kind, width)
