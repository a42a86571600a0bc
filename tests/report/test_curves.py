"""Figures of training: every line is the mean over seeds of what was recorded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from acmix_bench.report.curves import curves, mixing
from acmix_bench.report.figure import KINDS, draw
from fake_meter import answer_one

from acmix_bench import ablate
from acmix_bench.analysis.compare import Comparison, compare
from acmix_bench.errors import UserError
from acmix_bench.runs.local import Outcome
from acmix_bench.runs.record import Run
from acmix_bench.spec import library
from acmix_bench.spec.cell import Cell


def trained(cells: Sequence[Cell], timeout: float = 0) -> list[Outcome]:
    """As the fake meter answers, with two epochs of two layers that mix, but for a convolution, which has none."""
    outcomes = []
    for cell in cells:
        outcome, seed = answer_one(cell), cell.repeat
        if cell.meter == "accuracy":
            layers = [] if cell.row.label == "operator=conv" else [[0.5 + 0.1 * seed, 0.4], [0.3, 0.5 - 0.1 * seed]]
            more = {"loss_by_epoch": [2.0 + seed, 1.0], "accuracy_by_epoch": [0.2, 0.4 + 0.2 * seed]}
            values = outcome.values | more | {"mixing_by_epoch": [layers, layers], "mixing_weights": layers}
            outcome = Outcome(status="ok", values=values)
        outcomes.append(outcome)
    return outcomes


@pytest.fixture
def comparison() -> Comparison:
    experiment = library.with_settings(library.load_experiment("smoke"), ["seeds=2"])
    plan = ablate.plan_of(experiment, ablate.rows_of(experiment))
    return compare(Run(plan=plan, records=tuple(ablate.records(plan, {}, trained))))


def test_a_curve_is_the_mean_over_seeds(comparison: Comparison) -> None:
    loss, top1 = curves(comparison).axes
    assert [text.get_text() for text in top1.get_legend().get_texts()] == [x.row.label for x in comparison.lines]
    np.testing.assert_allclose(loss.lines[0].get_ydata(), [2.5, 1.0])
    np.testing.assert_allclose(top1.lines[0].get_ydata(), [20, 50])


def test_mixing_is_drawn_by_depth_and_through_time_where_there_is_any(comparison: Comparison) -> None:
    panels = mixing(comparison).axes
    mixed = [line.row.label for line in comparison.lines if line.row.label != "operator=conv"]
    assert [axis.get_title() for axis in panels[::2]] == mixed
    attention, convolution = (container.lines[0].get_ydata() for container in panels[0].containers)
    np.testing.assert_allclose(attention, [0.55, 0.3])
    np.testing.assert_allclose(convolution, [0.4, 0.45])
    wanted = np.mean([np.log(0.5 / 0.4), np.log(0.6 / 0.4)])
    np.testing.assert_allclose(panels[1].lines[0].get_ydata(), [wanted, wanted])


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"published"}))
def test_every_kind_is_drawn_to_every_format(kind: str, comparison: Comparison, tmp_path: Path) -> None:
    for suffix in ("png", "svg", "pdf"):
        path = tmp_path / f"figure.{suffix}"
        draw(comparison, path, kind)
        assert path.stat().st_size > 1000


def test_what_was_not_measured_is_not_drawn(comparison: Comparison, tmp_path: Path) -> None:
    records = tuple(record for record in comparison.run.records if record.cell.meter == "params")
    bare = compare(comparison.run.model_copy(update={"records": records}))
    for kind in ("curves", "mixing", "intervals"):
        with pytest.raises(UserError, match="nothing to draw"):
            draw(bare, tmp_path / "figure.png", kind)
    with pytest.raises(UserError, match="unknown kind of figure 'curve'; did you mean 'curves'"):
        draw(comparison, tmp_path / "figure.png", "curve")
    assert not list(tmp_path.iterdir())
