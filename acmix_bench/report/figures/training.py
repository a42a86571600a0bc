"""What figures of training share: values by row, and a line that is the mean over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from acmix_bench.analysis.compare import Comparison


def values_with(comparison: Comparison, key: str) -> dict[str, list[dict[str, Any]]]:
    """The values of every training that has some under a key, by row; those of a row cover the same epochs."""
    found: dict[str, list[dict[str, Any]]] = {line.row.label: [] for line in comparison.lines}
    for record in comparison.run.records:
        by_epoch = record.values.get(key)
        if record.status == "ok" and by_epoch and any(np.size(epoch) for epoch in by_epoch):
            found[record.cell.row.label].append(record.values)
    return {label: values for label, values in found.items() if values}


def over(trained: Mapping[str, Sequence[Any]]) -> str:
    """What a line and its band are."""
    seeds = max(len(values) for values in trained.values())
    return f"mean and standard deviation over {seeds} seeds" if seeds > 1 else "one seed"


def band(axis: Axes, samples: Any, *, colour: Any, line: Any, marker: str = "") -> Line2D:
    """The mean of (seeds, epochs) by epoch, and round it the standard deviation."""
    values = np.asarray(samples, dtype=float)
    epochs, mean, deviation = np.arange(1, values.shape[1] + 1), values.mean(0), values.std(0)
    axis.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    every = max(1, len(epochs) // 8)
    (drawn,) = axis.plot(epochs, mean, linestyle=line, color=colour, marker=marker, markevery=every)
    axis.fill_between(epochs, mean - deviation, mean + deviation, color=colour, alpha=0.15, linewidth=0)
    return drawn
