"""What is printed: formats, rounding, and every digit in the CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import replace

import pytest
from fake_meter import answer
from hostile_text import with_hostile_text

from acmix_bench import ablate
from acmix_bench.analysis.compare import Comparison, compare
from acmix_bench.report.figures import draw
from acmix_bench.report.frame import to_csv
from acmix_bench.report.rounding import count, difference, rate, ratio, score
from acmix_bench.report.table import latex, render, tables
from acmix_bench.runs.local import Outcome
from acmix_bench.runs.record import Run
from acmix_bench.spec import library
from acmix_bench.spec.cell import Cell
from acmix_bench.stats import Estimate


@pytest.fixture
def comparison() -> Comparison:
    experiment = library.load_experiment("smoke")
    plan = ablate.plan_of(experiment, ablate.rows_of(experiment))
    return compare(Run(plan=plan, records=tuple(ablate.records(plan, {}, answer))))


@pytest.mark.parametrize(
    ("number", "shown"),
    [(None, ""), (0, "0"), (999, "999"), (17_822, "17.8 k"), (4.089e9, "4.09 G"), (123.4e6, "123 M")],
)
def test_counts(number: float | None, shown: str) -> None:
    assert count(number) == shown


@pytest.mark.parametrize(
    ("low", "high", "shown"), [(0.4, 0.6, "50 ±10"), (0.495, 0.505, "50.00 ±0.50"), (0.49, 0.51, "50.0 ±1.0")]
)
def test_no_digit_is_finer_than_the_noise(low: float, high: float, shown: str) -> None:
    assert score(Estimate(value=0.5, low=low, high=high, samples=5)) == shown


def test_an_uneven_interval_is_shown_by_its_ends() -> None:
    assert rate(Estimate(value=561.0, low=492.1, high=580.7, samples=15)) == "561 [492, 581]"


def test_noise_is_called_noise() -> None:
    assert ratio(Estimate(value=1.1, low=0.9, high=1.3, samples=5)) == "1.10 [0.90, 1.30] noise"
    assert ratio(Estimate(value=2.0, low=1.9, high=2.1, samples=5)) == "2.00 [1.90, 2.10]"
    assert difference(Estimate(value=0.01, low=-0.01, high=0.03, samples=5), 5) == "+1.0 ±2.0 noise"
    assert difference(Estimate(value=-0.03, low=-0.04, high=-0.02, samples=5), 5) == "-3.0 ±1.0"
    assert ratio(Estimate(value=2.0, low=None, high=None, samples=2)) == "2.00 (no interval)"
    assert ratio(Estimate(value=2.0, low=1e-9, high=4e9, samples=2)) == "2.00 (too few samples)"
    assert difference(Estimate(value=0.01, low=None, high=None, samples=1), 5) == "+1.0 (no interval) (1 of 5 seeds)"


def test_every_format_shows_every_row(comparison: Comparison) -> None:
    shown = [(table.rows, table.render(style)) for style in ("text", "md") for table in tables(comparison)]
    shown += [(table.rows, latex.render([table], "smoke")) for table in tables(comparison)]
    for rows, rendered in shown:
        assert len(rows) == len(comparison.lines)
        assert all(line.row.label in rendered for line in comparison.lines)
        assert "nan" not in rendered.lower()


def test_a_terminal_holds_the_tables(comparison: Comparison) -> None:
    for table in tables(comparison):
        assert max(len(line) for line in table.render("text").splitlines()) <= 100


def test_the_papers_word_stands_beside_macs(comparison: Comparison) -> None:
    for table in tables(comparison):
        if "MACs" in " ".join(table.header):
            assert "FLOPs" in " ".join(table.header)


def test_csv_has_every_digit(comparison: Comparison) -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(comparison))))
    assert [row["variant"] for row in rows] == [line.row.label for line in comparison.lines]
    for row, line in zip(rows, comparison.lines, strict=True):
        assert float(row["inference_images_per_s"]) == line.timings["inference"].rate.value
        assert int(row["macs"]) == 50
        assert int(row["macs_attention"]) == 10


def test_figure_is_drawn(comparison: Comparison, tmp_path) -> None:
    draw(comparison, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_text_of_a_user_is_escaped(comparison: Comparison, tmp_path) -> None:
    hostile = with_hostile_text(comparison)
    table = tables(hostile)[0]
    tex, md, text = render(hostile, "tex"), table.render("md"), table.render("text")
    assert not any("\x1b" in shown for shown in (tex, md, text)), "nothing commands a terminal"
    assert tex.isascii()
    assert md.startswith("**smoke: is $x$ \\*better\\*? \\\\input{evil} # head")
    grid = [line for line in md.splitlines() if line.startswith("|")]
    assert len(grid) == 2 + len(table.rows), "a row is a line"
    assert len({line.replace(r"\|", "").count("|") for line in grid}) == 1, "and a bar in a label parts no cell"
    assert text.startswith("smoke: is $x$ *better*? \\input{evil} # head")
    draw(hostile, tmp_path / "figure.png")


def test_a_word_that_was_parted_is_whole_again_in_a_document(comparison: Comparison) -> None:
    for style in ("md", "tex"):
        shown = render(comparison, style)
        assert "activations" in shown
        assert "activa-" not in shown


def test_who_halved_the_batch_is_told_under_the_tables() -> None:
    def smaller(cells: Sequence[Cell], timeout: float) -> list[Outcome]:
        memory = {"batch": 4, "halved_by": ["shift=tensor"]}
        return [
            replace(one, values=one.values | memory) if "seconds" in one.values else one
            for one in answer(cells, timeout)
        ]

    experiment = library.with_settings(library.load_experiment("smoke"), ["meters=params,inference"])
    plan = ablate.plan_of(experiment, ablate.rows_of(experiment))
    found = compare(Run(plan=plan, records=tuple(ablate.records(plan, {}, smaller))))
    told = (
        "inference: memory ran out at batch 8 in shift=tensor; measured at batch 4 were baseline, operator=conv, shift="
    )
    assert sum(told in " ".join(table.render("text").split()) for table in tables(found)) == 2
