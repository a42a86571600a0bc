"""The main flow with a meter that answers at once: order, resuming, interruption, failures, files."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from fake_meter import answer

from acmix_bench import ablate, meters, stats
from acmix_bench.analysis.compare import compare, seed_plan
from acmix_bench.errors import UserError
from acmix_bench.report.table.main import main_table
from acmix_bench.runs import local
from acmix_bench.runs.local import Outcome
from acmix_bench.runs.record import Plan
from acmix_bench.runs.store import Store
from acmix_bench.spec import library
from acmix_bench.spec.cell import Cell
from acmix_bench.spec.experiment import Case

NANO_16 = Case(backbone="nano", image_size=16, data="digits")


def all_fit(cells: Sequence[Cell], timeout: float) -> dict[str, str]:
    return {}


@pytest.fixture
def plan() -> Plan:
    experiment = library.load_experiment("smoke")
    return ablate.plan_of(experiment, ablate.rows_of(experiment))


def run(plan: Plan, folder: Path, measure: Callable[[Sequence[Cell], float], Any] = answer) -> ablate.Finished:
    return ablate.ablate(plan, Store(folder), measure=measure, misfits=all_fit)


def test_a_run_leaves_records_and_tables(plan: Plan, tmp_path: Path) -> None:
    finished = run(plan, tmp_path / "smoke")
    assert finished.measured == len(plan.cells) == 3 * (3 + 2 * 2 + 2)
    assert sorted(path.name for path in (tmp_path / "smoke").iterdir()) == [
        "records.jsonl",
        "run.json",
        "table.csv",
        "table.md",
    ]
    lines = {line.row.label: line for line in finished.comparison.lines}
    assert list(lines) == ["baseline", "operator=conv", "shift=tensor"]
    assert lines["operator=conv"].timings["inference"].speedup.value == pytest.approx(4)
    assert lines["operator=conv"].timings["inference"].speedup.samples == 2, "the slow process cancels in the pair"
    assert lines["shift=tensor"].scores["accuracy"].difference.value == pytest.approx(-0.05)
    assert lines["baseline"].scores["accuracy"].mean.value == pytest.approx(0.85)
    assert lines["baseline"].timings["inference"].speedup is None


def test_each_record_is_on_disk_before_the_next_cells(plan: Plan, tmp_path: Path) -> None:
    seen = []

    def measure(cells: Sequence[Cell], timeout: float) -> list[Outcome]:
        path = tmp_path / "records.jsonl"
        if meters.find(cells[0].meter).alone:  # counts are made beside each other
            seen.append((len(path.read_text().splitlines()), len(cells)))
        return answer(cells)

    run(plan, tmp_path, measure)
    counts = len(plan.cells) - sum(n for _, n in seen)
    assert counts == 2 * len(plan.rows)
    assert [before for before, _ in seen] == [counts + sum(n for _, n in seen[:i]) for i in range(len(seen))]


def test_timings_are_made_together_and_together_again(plan: Plan, tmp_path: Path) -> None:
    """A new row is never compared with timings of another process."""
    fewer = plan.model_copy(update={"rows": plan.rows[:2]})
    run(fewer, tmp_path)
    asked: list[Cell] = []

    def measure(cells: Sequence[Cell], timeout: float) -> list[Outcome]:
        asked.extend(cells)
        return answer(cells)

    run(plan, tmp_path, measure)
    timed = [cell.row.label for cell in asked if cell.meter == "inference" and cell.repeat == 0]
    assert timed == [row.label for row in plan.rows]
    assert [cell.row.label for cell in asked if cell.meter == "params"] == [plan.rows[2].label]


def test_a_second_run_repeats_nothing(plan: Plan, tmp_path: Path) -> None:
    run(plan, tmp_path)
    assert run(plan, tmp_path).measured == 0


def test_ctrl_c_keeps_what_is_done_and_the_next_run_goes_on(plan: Plan, tmp_path: Path) -> None:
    def interrupted(cells: Sequence[Cell], timeout: float) -> list[Outcome]:
        if plan.cells[10] in cells:
            raise KeyboardInterrupt
        return answer(cells)

    first = run(plan, tmp_path, interrupted)
    assert (first.interrupted, first.measured) == (True, 9), "the cell belongs to a group of three"
    notes = main_table(first.comparison).notes
    assert any(f"{len(plan.cells) - 9} of {len(plan.cells)} cells are not measured" in note for note in notes)
    second = run(plan, tmp_path)
    assert second.measured == len(plan.cells) - 9
    assert all(line.missing == 0 for line in second.comparison.lines)


def test_a_line_cut_short_by_a_kill_is_measured_again(plan: Plan, tmp_path: Path) -> None:
    run(plan, tmp_path)
    path = tmp_path / "records.jsonl"
    path.write_text(path.read_text()[:-40])
    assert run(plan, tmp_path).measured == 1
    assert run(plan, tmp_path).measured == 0


def test_failures_are_rows_with_their_reason(plan: Plan, tmp_path: Path) -> None:
    def failing(cells: Sequence[Cell], timeout: float) -> list[Outcome]:
        cell = cells[0]
        if cell.row.label == "shift=tensor" and cell.meter == "accuracy":
            diverges = cell.repeat == 0
            status = "diverged" if diverges else "crashed"
            return [Outcome(status=status, reason="loss is nan" if diverges else "boom")]
        return answer(cells)

    finished = run(plan, tmp_path, failing)
    line = finished.comparison.lines[2]
    assert not line.scores
    assert line.problems == ["accuracy diverged: loss is nan", "accuracy crashed: boom"]
    rendered = main_table(finished.comparison).render("text")
    assert "shift=tensor: accuracy crashed: boom" in rendered
    assert run(plan, tmp_path).measured == 1, "a crash is tried again, a divergence is a result"


def test_an_edited_protocol_reuses_only_what_it_does_not_touch(plan: Plan, tmp_path: Path) -> None:
    run(plan, tmp_path)
    experiment = library.with_settings(library.load_experiment("smoke"), ["epochs=2"])
    edited = ablate.plan_of(experiment, ablate.rows_of(experiment))
    assert run(edited, tmp_path).measured == 3 * 2


def test_records_of_another_machine_are_not_mixed_in(plan: Plan, tmp_path: Path) -> None:
    run(plan, tmp_path)
    elsewhere = plan.model_copy(update={"environment": plan.environment.model_copy(update={"cpu": "another"})})
    assert run(elsewhere, tmp_path).measured == len(plan.cells)
    assert len((tmp_path / "records.jsonl").read_text().splitlines()) == 2 * len(plan.cells)


def test_two_runs_do_not_write_to_one_folder(plan: Plan, tmp_path: Path) -> None:
    with Store(tmp_path).opened(plan), pytest.raises(UserError, match="another run is writing here"):
        run(plan, tmp_path)


def test_a_folder_that_cannot_be_written(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot be written"):
        run(plan, tmp_path / "file" / "smoke")


def test_a_run_can_be_read_back(plan: Plan, tmp_path: Path) -> None:
    finished = run(plan, tmp_path)
    assert compare(Store(tmp_path).load()) == finished.comparison
    (tmp_path / "run.json").write_text(json.dumps({"no": "plan"}))
    with pytest.raises(UserError, match="not a run that this version can read"):
        Store(tmp_path).load()


def test_unknown_names_are_refused_before_anything_runs() -> None:
    experiment = library.load_experiment("smoke")
    for setting, message in (("data=digit", "did you mean 'digits'"), ("backbone=nanoo", "did you mean 'nano'")):
        changed = library.with_settings(experiment, [setting])
        with pytest.raises(UserError, match=message):
            ablate.plan_of(changed, ablate.rows_of(changed))


def test_equal_differences_are_no_certainty(plan: Plan, tmp_path: Path) -> None:
    """All seeds differ by the same image: the interval is still one image wide on each side."""

    def one_image_better(cells: Sequence[Cell], timeout: float) -> list[Outcome]:
        better = (cells[0].row.label == "shift=tensor") / 360
        known = {"accuracy": 0.9 + better, "test_images": 360}
        return [Outcome(status="ok", values=known)] if cells[0].meter == "accuracy" else answer(cells)

    difference = run(plan, tmp_path, one_image_better).comparison.lines[2].scores["accuracy"].difference
    assert difference.low <= 0 <= difference.high


def test_a_record_with_an_odd_line_separator_is_kept(plan: Plan, tmp_path: Path) -> None:
    def strange(cell: Cell, timeout: float) -> Outcome:
        return Outcome(status="diverged", reason="a\u2028b") if cell == plan.cells[0] else answer(cell)

    run(plan, tmp_path, strange)
    assert run(plan, tmp_path).measured == 0


def test_a_character_cut_in_half_by_a_kill_loses_only_its_record(plan: Plan, tmp_path: Path) -> None:
    run(plan, tmp_path)
    path = tmp_path / "records.jsonl"
    path.write_bytes(path.read_bytes() + '{"reason": "±'.encode()[:-1])
    assert run(plan, tmp_path).measured == 0


def test_check_sees_one_cell_for_each_row(plan: Plan) -> None:
    cells = []
    ablate.fitting(plan, (), lambda asked, timeout: cells.extend(asked) or {})
    assert [cell.row.label for cell in cells] == [row.label for row in plan.rows]
    assert {cell.meter for cell in cells} == {"accuracy"}
    assert local.misfits(cells, 120) == {}


def test_seeds_are_planned_from_differences_to_the_baseline_of_the_same_case(plan: Plan, tmp_path: Path) -> None:
    """The second case's rows share a large effect of the seed, which only their own baseline takes away."""
    other = [row.model_copy(update={"label": f"{row.label}@16", "case": NANO_16}) for row in plan.rows[:2]]
    experiment = library.with_settings(plan.experiment, ["seeds=3", "meters=accuracy"])
    two_cases = ablate.plan_of(experiment, [*plan.rows, *other])

    def learn(cells: Sequence[Cell], timeout: float) -> list[Outcome]:
        (cell,) = cells
        shared = 0.1 * (cell.repeat == 1) * (cell.row.case == NANO_16)
        own = 0.01 * cell.repeat * (cell.row.variant != plan.rows[0].variant)
        return [Outcome(status="ok", values={"accuracy": 0.8 + shared + own, "test_images": 360})]

    pilots = seed_plan(run(two_cases, tmp_path, learn).comparison.run, 0.005)
    assert [pilot.label for pilot in pilots] == [plan.rows[1].label, plan.rows[2].label, other[1].label]
    for pilot in pilots:
        assert (pilot.seeds, pilot.spread) == (3, pytest.approx(0.01))
        assert pilot.needed == stats.samples_to_detect(0.01, 0.005, confidence=stats.simultaneous(3))


def test_a_record_belongs_to_its_row_whatever_an_earlier_run_called_it(plan: Plan, tmp_path: Path) -> None:
    """What was one run's baseline is another's `operator=conv`: its records are reused under the new name."""

    def learn(cells: Sequence[Cell], timeout: float) -> list[Outcome]:
        accuracy = 0.9 if cells[0].row.variant.operator == "conv" else 0.5
        known = [cell.model_copy(update={"row": plan.rows[0]}) for cell in cells]  # to the fake meter
        values = {"accuracy": accuracy, "test_images": 360}
        return [Outcome(status="ok", values=values)] if cells[0].meter == "accuracy" else answer(known)

    other = [plan.rows[1].model_copy(update={"label": "baseline"}), plan.rows[0].model_copy(update={"label": "acmix"})]
    run(ablate.plan_of(plan.experiment, other), tmp_path, learn)
    lines = {line.row.label: line for line in run(plan, tmp_path, learn).comparison.lines}
    assert {label: line.scores["accuracy"].mean.value for label, line in lines.items()} == {
        "baseline": 0.5,
        "operator=conv": 0.9,
        "shift=tensor": 0.5,
    }
    assert all(line.missing == 0 for line in lines.values())


def test_a_row_that_does_not_fit_is_withheld_and_the_others_are_measured(plan: Plan, tmp_path: Path) -> None:
    def one_does_not(cells: Sequence[Cell], timeout: float) -> dict[str, str]:
        return {"operator=conv": "it does not fit"}

    finished = ablate.ablate(plan, Store(tmp_path), measure=answer, misfits=one_does_not)
    lines = {line.row.label: line for line in finished.comparison.lines}
    assert finished.measured == len(plan.cells) * 2 // 3
    assert all(line.missing == 0 for line in lines.values())
    assert lines["shift=tensor"].timings.keys() == {"inference", "training"}
    assert not lines["operator=conv"].timings
    (problem,) = lines["operator=conv"].problems
    assert problem.endswith(" withheld: it does not fit")
    assert "operator=conv  withheld" in main_table(finished.comparison).render("text")
    mended = ablate.ablate(plan, Store(tmp_path), measure=answer, misfits=all_fit)
    timed = sum(cell.meter in ("inference", "training") for cell in plan.cells)
    alone = sum(cell.meter not in ("inference", "training") for cell in plan.cells)
    assert mended.measured == timed + alone // 3, "timings are made together"
    assert not any(line.failures for line in mended.comparison.lines)


@pytest.mark.parametrize(("label", "insisted"), [("shift=tensor", ["shift=tensor"]), ("baseline", [])])
def test_a_row_that_must_fit_ends_the_run_before_it_begins(
    plan: Plan, tmp_path: Path, label: str, insisted: list[str]
) -> None:
    """What was asked for by hand, and what others are compared with."""

    def one_does_not(cells: Sequence[Cell], timeout: float) -> dict[str, str]:
        return {label: "it does not fit"}

    with pytest.raises(UserError, match="it does not fit"):
        ablate.ablate(plan, Store(tmp_path / "run"), insisted=insisted, measure=answer, misfits=one_does_not)
    assert not (tmp_path / "run").exists()


def test_two_experiments_of_one_name_keep_apart(plan: Plan, tmp_path: Path) -> None:
    """The second would replace the first one's plan and tables without a word."""
    mine, theirs = tmp_path / "mine" / "smoke.yaml", tmp_path / "theirs" / "smoke.yaml"
    store = Store(tmp_path / "results" / "smoke")

    def again(file: Path | None) -> ablate.Finished:
        return ablate.ablate(plan, store, file=file, measure=answer, misfits=all_fit)

    again(mine)
    again(mine)
    before = (store.folder / "run.json").read_text()
    for other in (theirs, None):
        with pytest.raises(UserError, match="holds a run of another experiment named smoke"):
            again(other)
    assert (store.folder / "run.json").read_text() == before
    (store.folder / "run.json").write_text(json.dumps({**json.loads(before), "file": None}))
    again(theirs)  # a run of before this was written down


def test_one_core_is_no_cores(plan: Plan) -> None:
    environment = plan.environment.model_copy(update={"cores": 1})
    assert ", 1 core, " in str(environment)
    assert ", 4 cores, " in str(environment.model_copy(update={"cores": 4}))
