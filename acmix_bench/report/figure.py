"""Figures: what people look at before they read the table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from acmix_bench import meters
from acmix_bench.analysis.compare import Comparison
from acmix_bench.analysis.published import figures_of
from acmix_bench.errors import UserError, unknown
from acmix_bench.report import rounding
from acmix_bench.report.style import BASELINE_COLOUR, COLOUR, literal
from acmix_bench.spec.meter import short
from acmix_bench.stats import Estimate

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from acmix_bench.report import curves


def draw(comparison: Comparison, path: Path, kind: str | None = None) -> None:
    """Draw what a run holds; the suffix chooses the format.

    Args:
        kind: one of `KINDS`; where not given the intervals, or for models of the papers their top-1 over MACs.

    Raises:
        UserError: for an unknown kind, where nothing can be drawn, or where the file cannot be written.
    """
    measured = any(line.timings or line.scores for line in comparison.lines)
    kind = kind or ("intervals" if measured else "published")
    if kind not in KINDS:
        raise unknown("kind of figure", kind, KINDS)
    if kind == "intervals" and not measured:
        raise UserError(f"{comparison.run.plan.experiment.name}: nothing to draw, no throughput and no accuracy")
    figure = KINDS[kind](comparison)
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be written ({error})") from error
    finally:
        plt.close(figure)


def _published(comparison: Comparison) -> Figure:
    """The papers' top-1 over our MACs, a line a family, plain and ACmix (as in the ACmix paper's figure 5)."""
    families: dict[str, list[tuple[float, float, str]]] = {}
    for line in comparison.lines:
        known = figures_of(line.row).get("published")
        macs = line.count("macs", "macs")
        if known and known.top1 is not None and macs is not None:
            words = known.model.split("-")
            size = next(word for word in words if word.isdigit() or len(word) == 1)
            family = "-".join(word for word in words if word != size)
            families.setdefault(family, []).append((macs / 1e9, known.top1, size))
    if not families:
        raise UserError("nothing to draw: no throughput, no accuracy, and no MACs of a model with a published top-1")
    figure, axis = plt.subplots(figsize=(8, 5), layout="constrained")
    for family, points in families.items():
        points.sort()
        style = "o-" if family.endswith("ACmix") else "s--"
        colour = f"C{sorted({name.removesuffix('-ACmix') for name in families}).index(family.removesuffix('-ACmix'))}"
        axis.plot([x for x, _, _ in points], [y for _, y, _ in points], style, color=colour, label=family)
        for x, y, size in points:
            axis.annotate(size, (x, y), textcoords="offset points", xytext=(4, -10), fontsize=8)
    axis.set_xlabel("MACs, billions, counted here (the papers call them FLOPs)")
    axis.set_ylabel("ImageNet top-1, %, as published")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    return figure


def _intervals(comparison: Comparison) -> Figure:
    """Every rate and score of every row, with its interval: a panel a meter."""
    panels: list[tuple[str, float, list[Estimate | None]]] = []
    for name in comparison.run.plan.experiment.meters:
        meter = meters.find(name)
        if any(name in line.timings for line in comparison.lines):
            rates = [line.timings[name].rate if name in line.timings else None for line in comparison.lines]
            panels.append((f"{short(name)}, images/s", 1.0, rates))
        elif any(name in line.scores for line in comparison.lines):
            scores = [line.scores[name].mean if name in line.scores else None for line in comparison.lines]
            title, percent = meter.metrics[0].title or short(name), meter.metrics[0].unit == "percent"
            panels.append((f"{title}, %" if percent else title, 100.0 if percent else 1.0, scores))
    size = (3.2 * len(panels) + 1.5, 1.2 + 0.35 * len(comparison.lines))
    figure, axes = plt.subplots(1, len(panels), figsize=size, sharey=True, squeeze=False, layout="constrained")
    for axis, (title, scale, estimates) in zip(axes[0], panels, strict=True):
        for place, estimate in enumerate(estimates):
            if estimate is None:
                continue
            colour = COLOUR if place else BASELINE_COLOUR
            if estimate.low is not None and estimate.high is not None:
                axis.hlines(place, estimate.low * scale, estimate.high * scale, color=colour, linewidth=2)
            axis.plot(estimate.value * scale, place, "o", color=colour, markersize=5)
        axis.set_title(literal(title), fontsize=10)
        axis.grid(axis="x", alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_yticks(range(len(comparison.lines)), [literal(line.row.label) for line in comparison.lines])
    axes[0][0].invert_yaxis()
    plan = comparison.run.plan
    machine = f"{plan.environment.cpu}, {rounding.several(plan.environment.cores, 'core', 'cores')}"
    figure.suptitle(f"{literal(plan.experiment.name)}: 95 % intervals; {machine}", fontsize=10)
    return figure


KINDS: dict[str, Callable[[Comparison], Figure]] = {
    "intervals": _intervals,
    "published": _published,
    "curves": curves.curves,
    "mixing": curves.mixing,
}
