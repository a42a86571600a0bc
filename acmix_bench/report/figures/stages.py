"""Where the multiply-adds of every row go: the stages of the operator, stacked."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from acmix_bench.analysis.compare import Comparison
from acmix_bench.errors import UserError
from acmix_bench.ops.cost import STAGES
from acmix_bench.report.figures.style import COLOURS, height_of, legend, plain, rows_named, sheet, title
from acmix_bench.report.table.cost import STAGE_TITLES, macs

LOOKS: dict[str, dict[str, Any]] = {
    "stage_1": {"color": COLOURS[0]},
    "attention": {"color": COLOURS[3], "hatch": "////"},
    "fully_connected": {"color": COLOURS[5], "hatch": "...."},
    "grouped_convolution": {"color": COLOURS[2], "hatch": "\\\\\\\\"},
    "rest": {"color": "#E4E4E4"},
}


def read(comparison: Comparison) -> dict[str, dict[str, float]]:
    """The multiply-adds by stage of every row that has them, by its label."""
    found = {line.row.label: line.count("macs", "macs_by_stage") for line in comparison.lines}
    found = {label: stages for label, stages in found.items() if stages and any(stages.values())}
    if not found:
        raise UserError("no multiply-adds were counted (the meter macs)")
    return found


def draw(comparison: Comparison, counted: dict[str, dict[str, float]], width: str) -> Figure:
    """A bar a row, the total at its end."""
    totals = {line.row.label: macs(line) for line in comparison.lines}
    used = [stage for stage in STAGES if any(stages.get(stage) for stages in counted.values())]
    figure, ((axis,),) = sheet(width, height_of(list(counted), width) + 0.35)
    left = np.zeros(len(counted))
    handles = []
    for stage in used:
        sizes = np.array([stages.get(stage, 0) for stages in counted.values()], dtype=float)
        handles.append(
            axis.barh(
                range(len(counted)), sizes, left=left, height=0.62, edgecolor="white", linewidth=0.4, **LOOKS[stage]
            )
        )
        left += sizes
    for place, (label, end) in enumerate(zip(counted, left, strict=True)):
        axis.annotate(totals[label], (end, place), xytext=(3, 0), textcoords="offset points", va="center", fontsize=6.5)
    rows_named(axis, list(counted), width)
    axis.set_xlim(0, left.max() * (1.22 if width == "column" else 1.12))
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda number, _: plain(number)))
    axis.set_xlabel("multiply-adds (the papers' FLOPs)")
    legend(figure, handles, [" ".join(STAGE_TITLES[stage].split()) for stage in used])
    title(figure, comparison, "multiply-adds of one image by stage", machine=False)
    return figure
