"""Best beyond doubt: what leads by less than the noise is not, whatever its number says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from fake_meter import answer_one

from acmix_bench import ablate
from acmix_bench.analysis.best import leading_rows
from acmix_bench.analysis.compare import Comparison
from acmix_bench.report.table.main import main_table
from acmix_bench.runs.local import Outcome
from acmix_bench.runs.store import Store
from acmix_bench.spec import library
from acmix_bench.spec.cell import Cell


def compared(folder: Path, accuracy: dict[str, list[float]], seconds: dict[str, list[float]]) -> Comparison:
    """A run of six processes and seeds with these top-1 by seed and seconds by process."""

    def measure(cells: Sequence[Cell], timeout: float = 0) -> list[Outcome]:
        outcomes = []
        for cell in cells:
            values = dict(answer_one(cell).values)
            if cell.meter == "accuracy":
                values["accuracy"] = accuracy[cell.row.label][cell.repeat]
            if "seconds" in values:
                values["seconds"] = [seconds[cell.row.label][cell.repeat]] * 3
                if "again_seconds" in values:
                    values["again_seconds"] = [second * 1.02 for second in values["seconds"]]
            outcomes.append(Outcome(status="ok", values=values))
        return outcomes

    experiment = library.with_settings(library.load_experiment("smoke"), ["processes=6", "seeds=6"])
    plan = ablate.plan_of(experiment, ablate.rows_of(experiment))
    return ablate.ablate(plan, Store(folder), measure=measure, misfits=lambda cells, timeout: {}).comparison


EVEN = {"baseline": [0.9] * 6, "operator=conv": [0.9] * 6, "shift=tensor": [0.9] * 6}
SLOW = {"baseline": [1.0] * 6, "operator=conv": [1.0] * 6, "shift=tensor": [1.0] * 6}


def best_rows(comparison: Comparison, meter: str) -> set[str]:
    """Those that lead with none tied."""
    return {first for first, *tied in leading_rows(comparison, meter) if not tied}


def test_a_clear_lead_is_best_and_bold(tmp_path: Path) -> None:
    drift = [0.90, 0.80, 0.85, 0.88, 0.83, 0.87]  # what the seeds share cancels in the pairs
    ahead = [top1 + 0.02 + 0.001 * (number % 2) for number, top1 in enumerate(drift)]
    accuracy = {"baseline": drift, "operator=conv": ahead, "shift=tensor": drift}
    seconds = SLOW | {"shift=tensor": [0.5, 0.51, 0.5, 0.52, 0.5, 0.51]}
    comparison = compared(tmp_path, accuracy, seconds)
    assert best_rows(comparison, "accuracy") == {"operator=conv"}
    assert best_rows(comparison, "inference") == {"shift=tensor"}
    table = main_table(comparison)
    bold = {(table.rows[row][0], table.header[column].split("\n")[0]) for row, column in table.best}
    assert bold == {("operator=conv", "top-1 %"), ("shift=tensor", "inference"), ("shift=tensor", "training")}


@pytest.mark.parametrize("lead", [0.0, 0.001])
def test_ties_and_leads_within_the_noise_are_not(lead: float, tmp_path: Path) -> None:
    noisy = [0.9 + lead + wiggle for wiggle in (0.03, -0.03, 0.02, -0.02, 0.01, -0.01)]
    seconds = SLOW | {"operator=conv": [0.99] * 6}  # two copies of the baseline differ by more
    comparison = compared(tmp_path, EVEN | {"operator=conv": noisy}, seconds)
    assert best_rows(comparison, "accuracy") == set()
    assert best_rows(comparison, "inference") == set()
    assert main_table(comparison).best == frozenset()


def test_it_must_lead_every_other_row(tmp_path: Path) -> None:
    fast = [0.5, 0.51, 0.5, 0.52, 0.5, 0.51]
    comparison = compared(tmp_path, EVEN, SLOW | {"shift=tensor": fast, "operator=conv": list(reversed(fast))})
    assert best_rows(comparison, "inference") == set()
