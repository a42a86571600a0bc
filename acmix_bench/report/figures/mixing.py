"""Each layer's factors of attention and convolution after training, by depth (as in the ACmix paper's figure 4), and
their logarithmic ratio through training, a line a layer from shallow to deep.

Rows with fixed factors are left out where others learn theirs, and time where it is one epoch or was not recorded.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from acmix_bench.analysis.compare import Comparison
from acmix_bench.errors import UserError
from acmix_bench.report.figures.style import COLOURS, LINES, MARKERS, QUIET, legend, named, sheet, title
from acmix_bench.report.figures.training import band, over, values_with

PATHS = ("attention (alpha)", "convolution (beta)")
MOST = 6  # layers that are each named in time


def read(comparison: Comparison) -> dict[str, np.ndarray]:
    """The factors of every row that mixes, (seeds, epochs, layers, 2); of older runs the last epoch's alone."""
    trained = {label: _factors(values) for label, values in values_with(comparison, "mixing_weights").items()}
    trained = {label: factors for label, factors in trained.items() if factors.size}
    if not trained:
        raise UserError("no row that was trained mixes two paths")
    return {label: factors for label, factors in trained.items() if np.ptp(factors)} or trained


def _factors(values: list[dict[str, Any]]) -> np.ndarray:
    if all(any(map(np.size, one.get("mixing_by_epoch", []))) for one in values):
        return np.array([one["mixing_by_epoch"] for one in values], dtype=float)
    return np.array([[one["mixing_weights"]] for one in values], dtype=float)


def draw(comparison: Comparison, trained: dict[str, np.ndarray], width: str) -> Figure:
    """A row of panels for every row of the table, or where there is no time to show, as many as fit side by side."""
    by_time = max(factors.shape[1] for factors in trained.values()) > 1
    columns = 2 if by_time or len(trained) > 1 else 1
    if width == "page" and not by_time:
        columns = min(3, len(trained))
    rows = len(trained) if by_time else -(-len(trained) // columns)
    shared: dict[str, Any] = {"sharex": "col", "sharey": "col"} if by_time else {"sharex": True, "sharey": True}
    figure, axes = sheet(width, rows * (1.35 if width == "column" else 1.7) + 0.15, rows, columns, **shared)
    depths = axes[:, 0] if by_time else axes.flat
    for axis, (label, factors) in zip(depths, trained.items(), strict=False):
        _draw_by_depth(axis, factors[:, -1])
        axis.set_title(named(label, 26 if width == "column" else 40))
    handles = [Line2D([], [], color=COLOURS[path], marker=MARKERS[path], linestyle=LINES[path]) for path in (0, 1)]
    labels = list(PATHS)
    if by_time:
        for axis, factors in zip(axes[:, 1], trained.values(), strict=True):
            _draw_by_time(axis, factors)
        axes[0, 1].set_title("log |alpha / beta|")
        axes[-1, 1].set_xlabel("epoch")
        layers = max(factors.shape[2] for factors in trained.values())
        told = range(layers) if layers <= MOST else (0, layers // 2, layers - 1)
        handles += [Line2D([], [], color=_shade(layer, layers), linestyle=LINES[layer % 4]) for layer in told]
        labels += [f"layer {layer + 1}" for layer in told]
        axes[-1, 0].set_xlabel("layer, shallow to deep")
    else:
        for axis in axes.flat[len(trained) :]:
            axis.set_axis_off()
        for column in range(columns):
            lowest = [axis for axis in axes[:, column] if axis.axison][-1]
            lowest.set_xlabel("layer, shallow to deep")
            lowest.tick_params(labelbottom=True)
    legend(figure, handles, labels)
    title(figure, comparison, over({label: list(factors) for label, factors in trained.items()}), machine=False)
    return figure


def _draw_by_depth(axis: Axes, last: np.ndarray) -> None:
    """Factors of the last epoch, (seeds, layers, 2)."""
    layers = np.arange(1, last.shape[1] + 1)
    for path, apart in ((0, -0.06), (1, 0.06)):
        axis.errorbar(
            layers + apart,
            last[..., path].mean(0),
            last[..., path].std(0),
            color=COLOURS[path],
            marker=MARKERS[path],
            linestyle=LINES[path],
        )
    axis.set_xticks(layers[:: -(-len(layers) // 8)])
    axis.set_xlim(0.6, len(layers) + 0.4)


def _draw_by_time(axis: Axes, factors: np.ndarray) -> None:
    """How the ratio of the factors, (seeds, epochs, layers, 2), goes; above 0 is more attention."""
    layers = factors.shape[2]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log(np.abs(factors[..., 0] / factors[..., 1]))
    for layer in range(layers):
        band(axis, ratio[:, :, layer], colour=_shade(layer, layers), line=LINES[layer % 4])
    axis.axhline(0, color=QUIET, linewidth=0.8, zorder=0)


def _shade(layer: int, layers: int) -> Any:
    """From dark, shallow, to light, deep: an order that grey keeps."""
    return colormaps["viridis"](layer / max(1, layers - 1) * 0.85)
