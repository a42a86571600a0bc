"""A sweep while somebody edits the code that it measures, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fake_meter import answer

from acmix_bench import ablate
from acmix_bench.runs.local import Outcome
from acmix_bench.runs.record import Plan, Record
from acmix_bench.runs.store import Store
from acmix_bench.spec import library
from acmix_bench.spec.cell import Cell

OWN = """
from torch import nn
class Mine(nn.Module):
    def __init__(self, in_channels, channels, *, stride=1):
        super().__init__()
        self.project = nn.Conv2d(in_channels, channels, 1, stride)
    def forward(self, x):
        return self.project(x)
"""


def planned(*settings: str, variants: Sequence[str] = ()) -> Plan:
    experiment = library.with_settings(library.load_experiment("smoke"), ["threads=1", *settings])
    return ablate.plan_of(experiment, ablate.rows_of(experiment, variants))


def test_what_is_edited_during_a_sweep_fails_and_the_same_command_measures_it_anew(tmp_path: Path) -> None:
    file, store, edits = (
        tmp_path / "mine.py",
        Store(tmp_path / "run"),
        [OWN, OWN, f"# a comment\n{OWN}", f"{OWN}A = 1\n"],
    )
    file.write_text(OWN)

    def measure(cells: Sequence[Cell], timeout: float) -> list[Outcome]:
        if cells[0].row.variant.is_own and edits:
            file.write_text(edits.pop(0))
        return answer(cells)

    def run() -> list[Record]:
        plan = planned("seeds=4", "meters=accuracy", variants=[f"operator={file}:Mine"])
        ablate.ablate(plan, store, measure=measure, misfits=lambda cells, timeout: {})
        return [record for record in store.load().records if record.cell.row.variant.is_own]

    first = run()
    assert [record.status for record in first] == ["ok", "ok", "ok", "crashed"]
    assert first[3].reason.startswith("its code was edited after the command was given; the same command measures op")
    assert first[3].values == {}
    second = run()
    assert [record.status for record in second] == ["ok"] * 4
    assert not {record.key for record in first} & {record.key for record in second}, "all four are of the code as it is"


def test_checkpoints_that_no_cell_needs_any_more_go_when_all_is_measured(tmp_path: Path) -> None:
    """Of cells that a later command left out, or whose code was edited."""
    plan, store = planned(), Store(tmp_path)
    left = store.checkpoints / "0123456789abcdef"
    left.mkdir(parents=True)

    def one_fails(cells: Sequence[Cell], timeout: float) -> list[Outcome]:
        return (
            [Outcome(status="crashed", reason="a test")] * len(cells) if cells[0].meter == "params" else answer(cells)
        )

    ablate.ablate(plan, store, measure=one_fails, misfits=lambda cells, timeout: {})
    assert left.exists()
    ablate.ablate(plan, store, measure=answer, misfits=lambda cells, timeout: {})
    assert not left.parent.exists()
