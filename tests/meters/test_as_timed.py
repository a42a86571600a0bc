"""The check of what is timed, in its type: right operators pass, broken ones do not, and their timings are withheld."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from cells import QUICK, cell_of
from fake_meter import answer
from full import full

from acmix_bench import ablate
from acmix_bench.meters import as_timed
from acmix_bench.meters.parity import gradient_of, move_norms
from acmix_bench.meters.subject import Subject
from acmix_bench.ops import convolution
from acmix_bench.report.table import tables
from acmix_bench.runs.local import Outcome
from acmix_bench.runs.store import Store
from acmix_bench.spec import library
from acmix_bench.spec.cell import Cell

TYPES = ["float32", "bfloat16", "float16", "float64"]


def checked(variant: str, dtype: str, backbone: str = "nano", size: int = 16, **protocol: Any) -> dict[str, float]:
    """By what is checked, how much of its tolerance the difference takes."""
    subject = Subject.of(cell_of(variant, "parity", backbone, size, QUICK))
    subject = replace(subject, protocol={"device": "cpu", "dtype": dtype} | protocol)
    checks = as_timed.measure(subject)["checks"]
    return {name: check["difference"] / check["tolerance"] for name, check in checks.items()}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    "variant", ["acmix", "shift=tensor", "implementation=reference", "implementation=fused", "operator=conv"]
)
def test_what_is_right_passes_with_room_to_spare(variant: str, dtype: str) -> None:
    assert max(checked(variant, dtype).values()) < 0.5
    assert max(checked(variant, dtype, "operator-16", 24).values()) < 0.5


@full
def test_other_families_and_layouts_pass() -> None:
    assert max(checked("acmix", "bfloat16", "pvt-t", 64, layout="channels-last").values()) < 0.5
    assert max(checked("acmix", "bfloat16", "swin-t", 56).values()) < 0.5


@pytest.mark.parametrize("dtype", TYPES[:3])
def test_a_changed_sign_is_found(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the output of the network, and of each operator, that is wrong in the timed type alone."""
    honest = convolution.shift_and_sum

    def flipped(maps: torch.Tensor, **sizes: int) -> torch.Tensor:
        return honest(maps if maps.dtype == torch.float64 else maps.flip(-1), **sizes)

    monkeypatch.setattr(convolution, "shift_and_sum", flipped)
    found = checked("shift=tensor", dtype)
    assert min(found["output"], *(each for name, each in found.items() if name.endswith("operator output"))) > 3


@pytest.mark.parametrize("dtype", TYPES[:3])
def test_a_wrong_gradient_is_found(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The output alone would not show it, and neither would the whole network's gradient in a half type."""
    honest = convolution.shift_and_sum

    def half(maps: torch.Tensor, **sizes: int) -> torch.Tensor:
        return honest(maps if maps.dtype == torch.float64 else (maps + maps.detach()) / 2, **sizes)

    monkeypatch.setattr(convolution, "shift_and_sum", half)
    found = checked("shift=tensor", dtype)
    assert found["output"] < 1
    assert max(each for name, each in found.items() if name.endswith("operator gradient")) > 1.5


def test_a_rectifier_that_rounding_switches_is_no_wrong_gradient() -> None:
    """A gradient jumps there, though nothing is wrong; few nudges by the last bit meet one."""
    subject = Subject.of(cell_of("plain", "parity", "resnet50", 160, QUICK))
    exact = replace(subject, protocol={"device": "cpu", "dtype": "float64"})
    check = as_timed.measure(replace(exact, protocol=exact.protocol | {"dtype": "float32"}))["checks"]["gradient"]
    model, image = exact.build().eval(), exact.images(1, "cpu").requires_grad_()
    move_norms(model)
    weights = [parameter.detach().clone() for parameter in model.parameters()]
    true = gradient_of(model(image), image)
    jumps = []
    for seed in range(6):
        draw = torch.Generator().manual_seed(seed)
        for parameter, value in zip(model.parameters(), weights, strict=True):
            rounding = 2.0**-21 * (torch.rand(value.shape, generator=draw, dtype=torch.float64) - 0.5)
            parameter.data = value * (1 + rounding)
        jumps.append(((gradient_of(model(image), image) - true).norm() / true.norm()).item())
    assert max(jumps) > 0.001, "some switch one"
    assert max(jumps) < check["tolerance"] < 0.3


def test_nan_is_within_no_tolerance(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = convolution.shift_and_sum
    monkeypatch.setattr(
        convolution,
        "shift_and_sum",
        lambda maps, **sizes: honest(maps, **sizes) * (1 if maps.dtype == torch.float64 else math.nan),
    )
    assert min(checked("shift=tensor", "bfloat16").values()) > 1


def test_tf32_may_be_as_far_off_as_a_significand_of_float16() -> None:
    def tolerance(dtype: str, **protocol: Any) -> float:
        subject = Subject.of(cell_of("acmix", "parity", "operator-8", 12, QUICK))
        subject = replace(subject, protocol={"device": "cpu", "dtype": dtype} | protocol)
        return as_timed.measure(subject)["checks"]["output"]["tolerance"]

    ieee, tf32, half = tolerance("float32"), tolerance("float32", products="tf32"), tolerance("float16")
    assert tf32 == pytest.approx(half)
    assert tf32 > 100 * ieee
    assert tolerance("float64") == as_timed.LEAST


def finished(tmp_path: Path, wrong: dict[str, Outcome], *more: str) -> ablate.Finished:
    settings = ["meters=params,inference", "dtype=bfloat16"]
    experiment = library.with_settings(library.load_experiment("smoke"), settings)
    plan = ablate.plan_of(experiment, ablate.rows_of(experiment, list(more)))

    def measure(cells: Sequence[Cell], timeout: float) -> list[Outcome]:
        if cells[0].meter == "as_timed" and cells[0].row.label in wrong:
            return [wrong[cells[0].row.label]]
        if cells[0].meter == "inference":  # the fake meter has no speed for another row
            cells = [c.model_copy(update={"row": c.row.model_copy(update={"label": "baseline"})}) for c in cells]
        return answer(cells)

    return ablate.ablate(plan, Store(tmp_path), measure=measure, misfits=lambda cells, timeout: {})


def test_timings_of_what_is_wrong_as_timed_are_withheld(tmp_path: Path) -> None:
    checks = {"output": {"difference": 1e-6, "tolerance": 1e-5}, "b gradient": {"difference": 0.5, "tolerance": 0.02}}
    done = finished(tmp_path, {"shift=tensor": Outcome(status="ok", values={"checks": checks})})
    lines = {line.row.label: line for line in done.comparison.lines}
    assert lines["shift=tensor"].timings == {}
    assert lines["shift=tensor"].problems == [
        "timings withheld: in bfloat16 on cpu its b gradient is 0.5 from that in float64, and may be 0.02"
    ]
    assert lines["baseline"].timings
    told = tables(done.comparison)[1].render("text").replace("\n", " ")
    assert "Checked as timed: in bfloat16 on cpu" in told
    assert "(outputs differ by 1e-06 of their norm at most)" in told


def test_what_cannot_be_checked_is_withheld_but_for_an_operator_of_mine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent))
    mine = "operator=operators_of_mine:Works"
    crashed = Outcome(status="crashed", reason="no such kernel")
    done = finished(tmp_path, {"shift=tensor": crashed, mine: crashed}, mine)
    lines = {line.row.label: line for line in done.comparison.lines}
    assert lines["shift=tensor"].withheld == "it could not be checked as it is timed (no such kernel)"
    assert lines[mine].timings
