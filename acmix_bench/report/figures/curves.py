"""Loss and score after each epoch, a line a row: the mean over seeds, in a band of their standard deviation."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from acmix_bench.analysis.compare import Comparison
from acmix_bench.errors import UserError
from acmix_bench.report.figures.style import COLOURS, LINES, MARKERS, legend, sheet, title
from acmix_bench.report.figures.training import band, over, values_with

SCORES = {
    "accuracy_by_epoch": "top-1 on test images, %",
    "miou_by_epoch": "mIoU on test images, %",
    "box_ap_by_epoch": "box AP on test images, %",
}


def read(comparison: Comparison) -> dict[str, list[dict[str, Any]]]:
    """What each training recorded, by row."""
    trained = values_with(comparison, "loss_by_epoch")
    if not trained:
        raise UserError("no training was recorded epoch by epoch")
    if max(len(one["loss_by_epoch"]) for values in trained.values() for one in values) < 2:
        raise UserError("training took one epoch, which makes no curve")
    return trained


def draw(comparison: Comparison, trained: dict[str, list[dict[str, Any]]], width: str) -> Figure:
    """Loss beside score."""
    first = next(iter(trained.values()))[0]
    panels = {"loss_by_epoch": "training loss"} | {key: told for key, told in SCORES.items() if key in first}
    figure, (axes,) = sheet(width, 1.55 if width == "column" else 2.3, 1, len(panels))
    for axis, (key, told) in zip(axes, panels.items(), strict=True):
        handles = []
        for number, values in enumerate(trained.values()):
            samples = np.array([one[key] for one in values], dtype=float) * (100 if key in SCORES else 1)
            look = {"colour": COLOURS[number % 7], "line": LINES[number % 5], "marker": MARKERS[number % 7]}
            handles.append(band(axis, samples, **look))
        axis.set_xlabel("epoch")
        axis.set_title(told)
    legend(figure, handles, list(trained))
    title(figure, comparison, over(trained), machine=False)
    return figure
