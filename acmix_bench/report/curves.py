"""Figures of training: loss and score by epoch, and how much each layer takes of either path, by depth and in time.

A line is the mean over seeds, the band round it their standard deviation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from acmix_bench.analysis.compare import Comparison
from acmix_bench.errors import UserError
from acmix_bench.report.style import literal

SCORES = {"accuracy_by_epoch": "top-1", "miou_by_epoch": "mIoU", "box_ap_by_epoch": "box AP"}
STYLES = ("-", "--", "-.", ":")  # beside colours, for who sees none


def curves(comparison: Comparison) -> Figure:
    """Loss and score after each epoch, a line a row.

    Raises:
        UserError: where the run has no training.
    """
    trained = _values(comparison, "loss_by_epoch")
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for number, (label, values) in enumerate(trained.items()):
        _band(left, [one["loss_by_epoch"] for one in values], label, number)
        key = next(key for key in SCORES if key in values[0])
        _band(right, 100 * np.array([one[key] for one in values], dtype=float), label, number)
    left.set(xlabel="epoch", ylabel="training loss")
    right.set(xlabel="epoch", ylabel=f"{SCORES[key]} on test images, %")
    _finish(figure, (left, right), comparison, trained)
    return figure


def mixing(comparison: Comparison) -> Figure:
    """Each layer's factors of attention and convolution after training, by depth (as in the paper's figure 4), and
    their logarithmic ratio through training, a line a layer from shallow to deep.

    Rows with fixed factors are left out where others learn theirs, and training where it is one epoch.

    Raises:
        UserError: where no row of the run mixes.
    """
    trained = _values(comparison, "mixing_by_epoch")
    learned = {label: values for label, values in trained.items() if any(map(_moves, values))}
    trained = learned or trained
    by_time = max(len(one["mixing_by_epoch"]) for values in trained.values() for one in values) > 1
    rows, columns = len(trained), 1 + by_time
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(4.5 * columns, 2.8 * rows),
        squeeze=False,
        sharex="col",
        sharey="col",
        layout="constrained",
    )
    for (label, values), places in zip(trained.items(), axes, strict=True):
        factors = np.array([one["mixing_by_epoch"] for one in values])  # (seeds, epochs, layers, 2)
        _draw_by_depth(places[0], factors[:, -1], label)
        if by_time:
            _draw_by_time(places[1], factors)
    _title(figure, comparison, trained)
    return figure


def _draw_by_depth(axis: Axes, factors: np.ndarray, label: str) -> None:
    """Factors of the last epoch, (seeds, layers, 2)."""
    layers = np.arange(1, factors.shape[1] + 1)
    for path, name in enumerate(("attention (alpha)", "convolution (beta)")):
        last = factors[..., path]
        axis.errorbar(
            layers, last.mean(0), last.std(0), fmt="os"[path] + STYLES[path], capsize=3, label=name, markersize=4
        )
    axis.axhline(0.5, color="grey", linewidth=0.8, zorder=0)
    axis.set(xlabel="layer, from shallow to deep", ylabel="factor", title=literal(label), xticks=layers)
    axis.legend(fontsize=8)


def _draw_by_time(axis: Axes, factors: np.ndarray) -> None:
    """How the ratio of the factors, (seeds, epochs, layers, 2), goes."""
    layers = factors.shape[2]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log(np.abs(factors[..., 0] / factors[..., 1]))
    for layer in range(layers):
        shade = plt.get_cmap("viridis")(layer / max(1, layers - 1) * 0.85)
        _band(axis, ratio[:, :, layer], f"layer {layer + 1}", layer, colour=shade)
    axis.axhline(0, color="grey", linewidth=0.8, zorder=0)
    axis.set(xlabel="epoch", ylabel="log |alpha / beta|", title="above 0: more attention")
    if layers <= 8:
        axis.legend(fontsize=7, ncols=2)


def _moves(values: dict[str, Any]) -> bool:
    """Whether the factors are learned, and not those of a sum."""
    return bool(np.ptp(values["mixing_by_epoch"]))


def _values(comparison: Comparison, key: str) -> dict[str, list[dict[str, Any]]]:
    """The values of every training that has some under a key, by row."""
    found: dict[str, list[dict[str, Any]]] = {}
    for record in comparison.run.records:
        by_epoch = record.values.get(key)
        if record.status == "ok" and by_epoch and any(np.size(epoch) for epoch in by_epoch):
            found.setdefault(record.cell.row.label, []).append(record.values)
    if not found:
        what = "no row mixes two paths" if key == "mixing_by_epoch" else "no row was trained"
        raise UserError(f"{comparison.run.plan.experiment.name}: nothing to draw, {what} (or an older version did it)")
    return {line.row.label: found[line.row.label] for line in comparison.lines if line.row.label in found}


def _band(axis: Axes, samples: Sequence[Any] | np.ndarray, label: str, number: int, colour: Any = None) -> None:
    values = np.array(samples)  # (seeds, epochs)
    epochs, mean, deviation = np.arange(1, values.shape[1] + 1), values.mean(0), values.std(0)
    colour = colour or f"C{number % 10}"
    style = STYLES[number // 10 % 4] if number > 9 else STYLES[number % 4]
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.plot(epochs, mean, style, color=colour, label=literal(label), marker="." if len(epochs) < 20 else "")
    axis.fill_between(epochs, mean - deviation, mean + deviation, color=colour, alpha=0.15, linewidth=0)


def _finish(figure: Figure, axes: Sequence[Axes], comparison: Comparison, trained: dict[str, list[Any]]) -> None:
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1].legend(fontsize=8)
    _title(figure, comparison, trained)


def _title(figure: Figure, comparison: Comparison, trained: dict[str, list[Any]]) -> None:
    name, seeds = comparison.run.plan.experiment.name, max(len(values) for values in trained.values())
    over = f"mean and deviation over {seeds} seeds" if seeds > 1 else "one seed"
    figure.suptitle(f"{literal(name)}: {over}", fontsize=10)
