"""Before anything is timed: each row is what its name says, and the function that it claims to be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from cells import QUICK, cell_of
from fake_meter import answer

from acmix_bench import ablate
from acmix_bench.analysis.single_factor import PARITY
from acmix_bench.backbones import fuse
from acmix_bench.meters import parity
from acmix_bench.meters.subject import Subject
from acmix_bench.ops import convolution
from acmix_bench.report.table import tables
from acmix_bench.runs.local import Outcome
from acmix_bench.runs.store import Store
from acmix_bench.spec import library
from acmix_bench.spec.cell import Cell
from acmix_bench.spec.variant import AXES

SAME = [
    "shift=tensor",
    "kernel=fixed",
    "implementation=reference",
    "implementation=fused",
    "operator=plain,implementation=fused",
    "shift=tensor,paths=conv",
]


def measured(variant: str, backbone: str = "nano", size: int = 16) -> dict[str, Any]:
    return parity.measure(Subject.of(cell_of(variant, "parity", backbone, size, QUICK)))


@pytest.mark.parametrize("variant", SAME)
def test_what_claims_to_be_the_same_function_is(variant: str) -> None:
    assert measured(variant)["difference"] < PARITY
    assert measured(variant, "operator-8", 24)["difference"] < PARITY


@pytest.mark.parametrize("variant", ["acmix", "paths=attention", "mix=fixed", "init=random", "operator=conv"])
def test_what_is_another_function_claims_nothing(variant: str) -> None:
    values = measured(variant)
    assert "difference" not in values
    assert values["operations"]


@pytest.mark.parametrize(("backbone", "size"), [("nano", 16), ("operator-16", 24), ("swin-t", 112), ("pvt-t", 64)])
def test_an_axis_changes_the_operations_that_it_may(backbone: str, size: int) -> None:
    def changed(variant: str) -> set[str]:
        return parent ^ set(measured(variant, backbone, size)["operations"])

    parent = set(measured("acmix", backbone, size)["operations"])
    for variant in ("mix=alpha", "mix=fixed", "shift=tensor", "kernel=fixed", "init=random"):
        assert changed(variant) <= AXES[variant.split("=")[0]].operations
    assert "addcmul" in changed("paths=conv")


def test_a_changed_sign_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shifting the other way round gives outputs of the same shape, cost and size."""
    honest = convolution.shift_and_sum
    monkeypatch.setattr(convolution, "shift_and_sum", lambda maps, **sizes: honest(maps.flip(-1), **sizes))
    assert measured("shift=tensor")["difference"] > 1e-3


def test_nan_agrees_with_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = convolution.shift_and_sum
    monkeypatch.setattr(convolution, "shift_and_sum", lambda maps, **sizes: honest(maps, **sizes) * math.nan)
    assert measured("shift=tensor")["difference"] == 1


def test_a_forgotten_shift_of_a_norm_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A BatchNorm that has not trained scales and shifts nothing, so dropping it would be right."""
    monkeypatch.setattr(fuse, "fuse_conv_bn_eval", lambda convolution, norm: convolution)
    assert measured("implementation=fused")["difference"] > 1e-3


def test_a_wrong_gradient_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The forward pass alone would not show it."""
    honest = convolution.shift_and_sum

    def half(maps: torch.Tensor, **sizes: int) -> torch.Tensor:
        return honest((maps + maps.detach()) / 2, **sizes)

    monkeypatch.setattr(convolution, "shift_and_sum", half)
    assert measured("shift=tensor")["difference"] > 1e-3


def finished(tmp_path: Path, *more: str, crash: str = "", **wrong: dict[str, Any]) -> ablate.Finished:
    experiment = library.with_settings(library.load_experiment("smoke"), ["meters=params,inference"])
    plan = ablate.plan_of(experiment, ablate.rows_of(experiment, ["mix=fixed", *more]))

    def measure(cells: Sequence[Cell], timeout: float) -> list[Outcome]:
        cell = cells[0]
        if cell.meter != "parity":
            return [Outcome(status="ok", values=answer([_known(c)])[0].values) for c in cells]
        if cell.row.label == crash:
            return [Outcome(status="crashed", reason="no float64")]
        values = {"shapes": {"qkv": [3]}, "operations": [], **wrong.get(cell.row.label.replace("=", "_"), {})}
        return [Outcome(status="ok", values=values)]

    return ablate.ablate(plan, Store(tmp_path), measure=measure, misfits=lambda cells, timeout: {})


def _known(cell: Cell) -> Cell:
    """The fake meter has no speed for another row."""
    return cell.model_copy(update={"row": cell.row.model_copy(update={"label": "baseline"})})


def test_a_row_that_is_not_the_function_it_claims_is_withheld(tmp_path: Path) -> None:
    done = finished(tmp_path, shift_tensor={"claims": "shift=group", "difference": 0.5})
    lines = {line.row.label: line for line in done.comparison.lines}
    assert lines["shift=tensor"].timings == {}
    assert lines["baseline"].timings
    assert lines["shift=tensor"].problems == [
        "timings withheld: it is not the same function as shift=group, but differs by 0.5"
    ]
    rendered = tables(done.comparison)[0].render("text")
    assert "withheld" in rendered
    assert "differs by 0.5" in rendered


def test_nothing_is_shown_against_a_baseline_that_is_withheld(tmp_path: Path) -> None:
    done = finished(tmp_path, baseline={"claims": "another", "difference": 0.5})
    baseline, other, *_ = done.comparison.lines
    assert baseline.timings == {}
    assert other.timings
    assert other.timings["inference"].speedup is None
    assert "0 of 2 processes ended" in tables(done.comparison)[0].render("text")


def test_a_users_operator_claims_nothing_and_need_not_know_float64(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    mine = "operator=operators_of_mine:Works"
    lines = {line.row.label: line for line in finished(tmp_path / "mine", mine, crash=mine).comparison.lines}
    assert lines[mine].timings
    lines = {line.row.label: line for line in finished(tmp_path / "ours", crash="mix=fixed").comparison.lines}
    assert lines["mix=fixed"].withheld == "it could not be checked before timing"


def test_a_row_that_changes_more_than_its_name_says_is_withheld(tmp_path: Path) -> None:
    done = finished(tmp_path, mix_fixed={"shapes": {"qkv": [4]}})
    lines = {line.row.label: line for line in done.comparison.lines}
    assert lines["mix=fixed"].timings == {}
    assert "qkv changed, which mix does not explain" in lines["mix=fixed"].problems[0]
    done = finished(tmp_path / "more", mix_fixed={"operations": ["addcmul", "gelu"]})
    assert "gelu changed, which mix does not explain" in done.comparison.lines[-1].problems[0]
    allowed = finished(tmp_path / "other", mix_fixed={"shapes": {"qkv": [3], "mix.alpha": []}})
    assert all(line.timings for line in allowed.comparison.lines)
