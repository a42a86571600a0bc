"""Figures: no word lies on another, a run that lacks a kind says so, and a file is what its suffix says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from drawings import ROOT, drawn, shown
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from acmix_bench.errors import UserError
from acmix_bench.report import figures
from acmix_bench.report.figures import FORMATS, KINDS, WIDTHS, as_file, draw, figure, kinds_of
from acmix_bench.report.figures.placing import place
from acmix_bench.report.figures.style import named

SHOWN = sorted(path.parent.name for path in (ROOT / "results" / "shown").glob("*/run.json"))
TIMED = ("intervals", "speedup", "samples")
TRAINED = ("intervals", "samples", "mixing")
HELD = {  # what committed runs can be drawn as, beside pareto and stages
    **dict.fromkeys(("backbones", "ledger"), ()),
    **dict.fromkeys(("latency", "latency-16", "latency-contiguous", "memory", "native", "native-networks"), TIMED),
    **dict.fromkeys(("speed", "speed-default", "training"), TIMED),
    **dict.fromkeys(("paths-cluttered", "shift-cluttered"), TRAINED),
    **dict.fromkeys(("paths", "paths-reference", "scenes-segment"), (*TIMED, "curves", "mixing")),
}
DOCS = {
    "intervals": "paths",
    "pareto": "backbones",
    "speedup": "native",
    "scaling": "scaling",
}  # drawn in docs/figures.md


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
    others = [kind for kind in kinds if kind not in ("pareto", "stages")]
    assert run not in HELD or others == [kind for kind in KINDS if kind in HELD[run]]
    for kind in set(KINDS) - set(kinds):
        with pytest.raises(UserError) as caught:
            figure(comparison, kind)
        assert str(caught.value).startswith(f"{comparison.run.plan.experiment.name}: no {kind}, ")
        assert str(caught.value).endswith(f"; it can be drawn as: {', '.join(kinds)}")


def test_labels_are_placed_apart_however_crowded() -> None:
    axes = Figure(figsize=(3.3, 2.6), layout="constrained").subplots()
    crowd = np.random.default_rng(0).normal(size=(25, 2))
    axes.plot(*crowd.T, "o", markersize=3)
    texts = place(axes, [(float(x), float(y), f"row {number}", "black") for number, (x, y) in enumerate(crowd)])
    boxes = [text.get_window_extent() for text in texts]
    assert not [1 for one, other in combinations(boxes, 2) if one.overlaps(other)]
    markers = axes.transData.transform(crowd)
    assert not [1 for box in boxes for x, y in markers if box.contains(x, y)]


def test_what_users_write_is_shown_as_it_is() -> None:
    comparison = shown("paths")
    labels = ["$x$ & a_b^c", "_hidden", "a-label-that-is-much-too-long-to-stand-before-a-panel-of-a-column"]
    lines = list(comparison.lines)
    for place_, label in enumerate(labels, start=1):
        lines[place_] = replace(lines[place_], row=lines[place_].row.model_copy(update={"label": label}))
    hostile = replace(comparison, lines=tuple(lines))
    for kind in ("intervals", "stages"):
        told = [text.lstrip("\u200b") for text in said(as_file(figure(hostile, kind), "svg"))]
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
    many = replace(shown("ledger"), lines=shown("ledger").lines * 201)
    with pytest.raises(UserError, match="ledger: 201 rows are more than a figure can show, 200"):
        draw(many, tmp_path / "a.png")
    assert kinds_of(many) == []
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
    assert sorted(said(kept)) == sorted(said(made))


def said(svg: bytes) -> list[str]:
    """What stands in a figure, without who drew it."""
    return [text for one in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text") for text in one.itertext()]


def test_neighbours_in_the_house_style_differ_in_grey() -> None:
    from acmix_bench.report.figures.style import COLOURS, HOUSE

    assert re.findall(r'"(\w{6})"', HOUSE.read_text()) == [colour.removeprefix("#") for colour in COLOURS]
    grey = [sum(part * int(to_hex(c)[i : i + 2], 16) for part, i in ((0.3, 1), (0.59, 3), (0.11, 5))) for c in COLOURS]
    assert all(abs(one - other) > 5 for one, other in pairwise(grey))
