"""Figures: every number drawn is the comparison's, no word lies on another, and a run that lacks a kind says so."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from functools import cache
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from acmix_bench.analysis.compare import Comparison, compare
from acmix_bench.errors import UserError
from acmix_bench.report import figures
from acmix_bench.report.figures import FORMATS, KINDS, WIDTHS, as_file, draw, figure, kinds_of
from acmix_bench.report.figures.pareto import front
from acmix_bench.report.figures.pareto import read as points_of
from acmix_bench.report.figures.placing import place
from acmix_bench.report.figures.scaling import CHANNELS, MACS, MAP, slope
from acmix_bench.report.figures.scaling import read as growths_of
from acmix_bench.report.figures.style import named
from acmix_bench.runs.record import Record
from acmix_bench.runs.store import Store

ROOT = Path(figures.__file__).parents[3]
SHOWN = sorted(path.parent.name for path in (ROOT / "results" / "shown").glob("*/run.json"))
TIMED = ("intervals", "speedup", "samples")
TRAINED = ("intervals", "samples", "mixing")
HELD = {  # what each of the committed runs can be drawn as, beside pareto and stages
    **dict.fromkeys(("backbones", "ledger"), ()),
    **dict.fromkeys(("latency", "latency-16", "latency-contiguous", "memory", "native", "native-networks"), TIMED),
    **dict.fromkeys(("speed", "speed-default", "training"), TIMED),
    **dict.fromkeys(("paths-cluttered", "shift-cluttered"), TRAINED),
    **dict.fromkeys(("paths", "paths-reference", "scenes-segment"), (*TIMED, "curves", "mixing")),
}
DOCS = {"intervals": "paths", "pareto": "backbones", "speedup": "native"}  # drawn in docs/figures.md


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


def words(whole: Figure) -> list[Text]:
    """All text that is seen: ticks beyond the ends of an axis are not."""
    whole.draw_without_rendering()
    unseen = set()
    for axes in whole.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                if not low <= tick.get_loc() <= high or not axes.axison:
                    unseen |= {tick.label1, tick.label2}
        if not axes.axison:
            unseen |= {axes.xaxis.label, axes.yaxis.label}
    found = whole.findobj(lambda one: isinstance(one, Text) and one.get_visible() and one.get_text().strip())
    return [text for text in found if text not in unseen]


def assert_readable(whole: Figure, width: str) -> None:
    texts = words(whole)
    boxes = [text.get_window_extent() for text in texts]
    assert len(texts) > 5
    assert whole.get_figwidth() == WIDTHS[width]
    assert min(text.get_fontsize() for text in texts) >= 6.5
    for text, box in zip(texts, boxes, strict=True):
        inside = whole.bbox.padded(1)
        told = f"{text.get_text()!r} leaves the sheet"
        assert inside.x0 <= box.x0 <= box.x1 <= inside.x1 and inside.y0 <= box.y0 <= box.y1 <= inside.y1, told
    for (one, ours), (other, theirs) in combinations(zip(texts, boxes, strict=True), 2):
        assert not ours.padded(-0.5).overlaps(theirs.padded(-0.5)), f"{one.get_text()!r} lies on {other.get_text()!r}"


FEW = [("paths", kind, "column") for kind in KINDS if kind != "scaling"]
FEW += [("native", "speedup", "column"), ("backbones", "pareto", "column"), ("scenes-segment", "mixing", "column")]
FEW += [("paths", "intervals", "page"), ("paths", "pareto", "page"), ("sizes", "scaling", "column")]
if os.environ.get("ACMIX_BENCH_FULL"):
    FEW = [(run, kind, width) for run in (*SHOWN, "sizes") for kind in kinds_of(shown(run)) for width in WIDTHS]


@pytest.mark.parametrize(("run", "kind", "width"), FEW)
def test_no_word_lies_on_another_or_leaves_the_sheet(run: str, kind: str, width: str) -> None:
    assert_readable(drawn(run, kind, width), width)


def test_a_kind_is_a_file_of_its_name() -> None:
    files = {path.stem for path in Path(figures.__file__).parent.glob("*.py")}
    assert files - {"__init__", "style", "placing", "training"} == set(KINDS)


@pytest.mark.parametrize("run", SHOWN)
def test_a_run_is_drawn_as_what_it_holds_or_says_why_not(run: str) -> None:
    comparison = shown(run)
    kinds = kinds_of(comparison)
    assert [kind for kind in kinds if kind not in ("pareto", "stages")] == [kind for kind in KINDS if kind in HELD[run]]
    for kind in set(KINDS) - set(kinds):
        with pytest.raises(UserError) as caught:
            figure(comparison, kind)
        assert str(caught.value).startswith(f"{comparison.run.plan.experiment.name}: no {kind}, ")
        assert str(caught.value).endswith(f"; it can be drawn as: {', '.join(kinds)}")


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
    assert told[:4] == ["0.94 noise", "0.64", "1.08 noise", "1.10"]
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


def test_labels_are_placed_apart_however_crowded() -> None:
    axes = Figure(figsize=(3.3, 2.6), layout="constrained").subplots()
    crowd = np.random.default_rng(0).normal(size=(25, 2))
    axes.plot(*crowd.T, "o", markersize=3)
    texts = place(axes, [(float(x), float(y), f"row {number}", "black") for number, (x, y) in enumerate(crowd)])
    boxes = [text.get_window_extent() for text in texts]
    assert not [1 for one, other in combinations(boxes, 2) if one.overlaps(other)]
    markers = axes.transData.transform(crowd)
    assert not [1 for box in boxes for x, y in markers if box.contains(x, y)]


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


def test_what_users_write_is_shown_as_it_is() -> None:
    comparison = shown("paths")
    labels = ["$x$ & a_b^c", "_hidden", "a-label-that-is-much-too-long-to-stand-before-a-panel-of-a-column"]
    lines = list(comparison.lines)
    for place_, label in enumerate(labels, start=1):
        lines[place_] = replace(lines[place_], row=lines[place_].row.model_copy(update={"label": label}))
    hostile = replace(comparison, lines=tuple(lines))
    for kind in ("intervals", "stages"):
        told = [text.get_text().lstrip("\u200b") for text in words(figure(hostile, kind))]
        assert {"$x$ & a_b^c", "_hidden"} <= set(told)
        assert any("…" in text for text in told)
    assert named("operator-128-conv3x3@28", 22) == "operator-128-\nconv3x3@28"
    assert all(len(line) <= 22 for line in named("x" * 90, 22).splitlines())


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_is_what_it_says_and_one_drawing_is_one_file(suffix: str, tmp_path: Path) -> None:
    comparison = shown("ledger")
    path = tmp_path / f"a.{suffix}"
    assert draw(comparison, path) == "stages"
    content = path.read_bytes()
    assert content == as_file(figure(comparison, "stages"), suffix)
    if suffix == "pdf":
        assert b"/Subtype /Type3" not in content and b"/FontFile2" in content, "fonts are TrueType (type 42)"
        assert b"/Subtype /Image" not in content
    if suffix == "svg":
        assert "operator-64-acmix" in "".join(ET.fromstring(content).itertext())
    if suffix == "png":
        assert int.from_bytes(content[16:20], "big") == round(300 * WIDTHS["column"])


def test_a_mistake_is_told_and_leaves_no_file(tmp_path: Path) -> None:
    comparison = shown("ledger")
    for path, kind, width, told in (
        ("a.jpg", None, "column", r"a.jpg: the suffix chooses the format, and it is one of pdf, svg, png"),
        ("a.png", "interval", "column", "unknown kind of figure 'interval'; did you mean 'intervals'"),
        ("a.png", None, "wide", "unknown width 'wide'"),
        (
            "a.png",
            "curves",
            "column",
            "ledger: no curves, no training was .*; it can be drawn as: ",
        ),
        ("no/a.png", None, "column", "cannot be written"),
    ):
        with pytest.raises(UserError, match=told):
            draw(comparison, tmp_path / path, kind, width)
    assert not list(tmp_path.iterdir())


def test_drawing_imports_no_torch(tmp_path: Path) -> None:
    run = ROOT / "results" / "shown" / "ledger"
    code = (
        "import sys; from acmix_bench.cli import main\n"
        f"sys.argv[1:] = ['plot', {str(run)!r}]\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "ledger.png").exists()


@pytest.mark.parametrize("kind", DOCS)
def test_the_docs_show_what_the_committed_records_give(kind: str) -> None:
    """Byte by byte where the same matplotlib drew it, else word by word."""
    kept = (ROOT / "docs" / "figures" / f"{DOCS[kind]}-{kind}.svg").read_bytes()
    made = as_file(figure(shown(DOCS[kind]), kind), "svg")
    creator = rb"Matplotlib v[\d.]+"
    if re.search(creator, kept)[0] == re.search(creator, made)[0]:  # type: ignore[index]
        assert kept == made
    assert said(kept) == said(made)


def said(svg: bytes) -> list[str]:
    """What stands in a figure, without who drew it."""
    return [text for one in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text") for text in one.itertext()]


def test_neighbours_in_the_house_style_differ_in_grey() -> None:
    from acmix_bench.report.figures.style import COLOURS, HOUSE

    assert re.findall(r'"(\w{6})"', HOUSE.read_text()) == [colour.removeprefix("#") for colour in COLOURS]
    grey = [sum(part * int(to_hex(c)[i : i + 2], 16) for part, i in ((0.3, 1), (0.59, 3), (0.11, 5))) for c in COLOURS]
    assert all(abs(one - other) > 5 for one, other in pairwise(grey))
