"""Every number that a figure draws is the comparison's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from drawings import drawn, shown

from acmix_bench.report.figures.pareto import front
from acmix_bench.report.figures.pareto import read as points_of
from acmix_bench.report.figures.scaling import CHANNELS, MACS, MAP, slope
from acmix_bench.report.figures.scaling import read as growths_of
from acmix_bench.runs.record import Record


def points(axes: Any) -> list[tuple[float, float]]:
    """Where single markers stand."""
    return [
        (float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in axes.lines if len(line.get_xdata()) == 1
    ]


def test_intervals_are_those_of_the_table() -> None:
    comparison = shown("paths")
    inference, training, top1 = drawn("paths", "intervals").axes
    for axes, meter in ((inference, "inference"), (training, "training")):
        rates = [line.timings[meter].rate for line in comparison.lines]
        assert points(axes) == [(rate.value, place) for place, rate in enumerate(rates)]
        bars = [one.get_segments()[0] for one in axes.collections if hasattr(one, "get_segments")]
        assert [(bar[0, 0], bar[1, 0]) for bar in bars] == [(rate.low, rate.high) for rate in rates]
    scores = [line.scores["accuracy"].mean for line in comparison.lines]
    assert [x for x, _ in points(top1)] == [100 * score.value for score in scores]
    floor = inference.collections[0].get_paths()[0].vertices[:, 0]
    baseline = comparison.lines[0].timings["inference"]
    np.testing.assert_allclose(max(floor), baseline.rate.value * math.exp(baseline.noise_floor or 0))


def test_bars_are_the_speedups_and_noise_is_called_noise() -> None:
    comparison = shown("native")
    (axes,) = drawn("native", "speedup").axes
    wanted = {line.row.label: line.timings["inference"].speedup for line in comparison.lines}
    wanted = {label: speedup for label, speedup in wanted.items() if speedup}
    np.testing.assert_allclose(
        [bar.get_x() + bar.get_width() for bar in axes.patches], [one.value for one in wanted.values()]
    )
    told = [text.get_text() for text in axes.texts]
    assert told[:4] == ["1.03", "0.70", "1.12", "1.05"]
    assert [bool(bar.get_hatch()) for bar in axes.patches] == ["noise" in text for text in told]
    names = [text.get_text().replace("\n", "") for text in axes.get_yticklabels()]
    assert [name.removeprefix("× ") for name in names] == [line.row.label for line in comparison.lines]


def test_stages_add_up() -> None:
    comparison = shown("paths")
    (axes,) = drawn("paths", "stages").axes
    rows = [[bar for bar in axes.patches if round(bar.get_y() + bar.get_height() / 2) == row] for row in range(6)]
    for line, bars in zip(comparison.lines, rows, strict=True):
        assert [bar.get_width() for bar in bars] == list(line.counts["macs"]["macs_by_stage"].values())
        assert bars[-1].get_x() + bars[-1].get_width() == line.count("macs", "macs")


def test_pareto_holds_accuracy_cost_and_their_front() -> None:
    comparison = shown("paths")
    by_macs, by_time, _ = drawn("paths", "pareto").axes
    scores = [100 * line.scores["accuracy"].mean.value for line in comparison.lines]
    counted = [line.count("macs", "macs") for line in comparison.lines]
    times = [1000 / line.timings["inference"].rate.value for line in comparison.lines]
    np.testing.assert_allclose(points(by_macs), list(zip(counted, scores, strict=True)))
    np.testing.assert_allclose(points(by_time), list(zip(times, scores, strict=True)))
    best = [
        (x, y) for x, y in zip(counted, scores, strict=True) if (x, y) in front([*zip(counted, scores, strict=True)])
    ]
    stairs = by_macs.lines[-1].get_xydata()
    assert all(np.isclose(stairs, point).all(axis=1).any() for point in best)


def test_the_front_is_what_nothing_as_cheap_is_better_than() -> None:
    assert front([(2, 5), (1, 3), (1, 4), (3, 4), (4, 6), (2, 4.5)]) == [(1, 4), (2, 5), (4, 6)]


def test_published_points_stand_at_what_was_printed_and_each_series_has_its_look() -> None:
    comparison = shown("backbones")
    found = points_of(comparison)
    assert {point.label: point.accuracy.value for point in found}["resnet50-acmix"] == 77.8
    (axes,) = drawn("backbones", "pareto").axes
    stand = {tuple(point) for line in axes.lines[:-1] for point in line.get_xydata().tolist()}
    assert stand == {(one.costs[cost].value, one.accuracy.value) for one in found for cost in one.costs}
    looks = [(line.get_color(), line.get_marker(), line.get_linestyle()) for line in axes.lines[:-1]]
    assert len(set(looks)) == len(looks) == 10
    shapes = {line.get_color(): line.get_marker() for line in axes.lines[:-1]}
    assert len(set(shapes.values())) == len(shapes), "who sees no colour tells them by their markers"


def test_mixing_is_the_mean_over_seeds_by_depth_and_through_time() -> None:
    comparison = shown("scenes-segment")
    label = "nano-pyramid-acmix+semantic-fpn@64"
    records = [r for r in comparison.run.records if r.cell.row.label == label and "mixing_by_epoch" in r.values]
    factors = np.array([record.values["mixing_by_epoch"] for record in records])
    depth, time, *_ = drawn("scenes-segment", "mixing").axes
    for path, container in enumerate(depth.containers):
        np.testing.assert_allclose(container.lines[0].get_ydata(), factors[:, -1, :, path].mean(0))
        bars = container.lines[2][0].get_segments()
        np.testing.assert_allclose([np.ptp(bar[:, 1]) / 2 for bar in bars], factors[:, -1, :, path].std(0))
    ratio = np.log(factors[..., 0] / factors[..., 1]).mean(0)
    for layer, line in enumerate(time.lines[: factors.shape[2]]):
        np.testing.assert_allclose(line.get_ydata(), ratio[:, layer])


def test_curves_are_the_mean_over_seeds() -> None:
    comparison = shown("paths")
    loss, top1 = drawn("paths", "curves").axes
    records = [r for r in comparison.run.records if r.cell.row.label == "mix=fixed" and r.cell.meter == "accuracy"]
    np.testing.assert_allclose(
        loss.lines[3].get_ydata(), np.mean([record.values["loss_by_epoch"] for record in records], axis=0)
    )
    np.testing.assert_allclose(
        top1.lines[3].get_ydata(), 100 * np.mean([record.values["accuracy_by_epoch"] for record in records], axis=0)
    )


def test_growth_has_the_exponent_of_its_samples() -> None:
    comparison = shown("sizes")
    found = growths_of(comparison)
    assert set(found) == {("inference, ms an image", MAP), ("training, ms an image", MAP), (MACS, MAP)}
    for curves in found.values():
        assert [curve.sizes for curve in curves] == [[14, 28, 56]] * 4
        assert [curve.exponent.value for curve in curves] == pytest.approx([2.0] * 4)
    reference, ours, *_ = found["inference, ms an image", MAP]
    assert (reference.name, ours.name, ours.fixed) == ("reference", "acmix", "64 channels")
    assert reference.costs[0].value == pytest.approx(3 * ours.costs[0].value)
    assert slope([1, 2, 4], [1, 8, 64]) == pytest.approx(3)
    assert CHANNELS not in {axis for _, axis in found}
    panel = drawn("sizes", "scaling").axes[0]
    told = [float(text.get_text().partition(" ")[0]) for text in panel.get_legend().get_texts()]
    assert told == [2.0] * 4
    marks = [line for line in panel.lines if line.get_linestyle() == "None"]
    np.testing.assert_allclose(marks[0].get_ydata(), [one.value for one in reference.costs])


def test_every_sample_is_drawn() -> None:
    comparison = shown("paths")
    inference, _, top1 = drawn("paths", "samples").axes

    def of(meter: str) -> list[Record]:
        return [record for record in comparison.run.records if record.cell.meter == meter]

    dots = sum(len(line.get_xdata()) for line in inference.lines)
    assert dots == sum(len(record.values["seconds"]) for record in of("inference"))
    baseline = [r.values["seconds"] for r in of("inference") if r.cell.row.label == "baseline"]
    middle = np.median([np.median(seconds) for seconds in baseline])
    np.testing.assert_allclose(inference.lines[0].get_xdata(), np.array(baseline[0]) / middle)
    scores = sorted(float(x) for line in top1.lines for x in line.get_xdata())
    np.testing.assert_allclose(scores, sorted(100 * record.values["accuracy"] for record in of("accuracy")))
