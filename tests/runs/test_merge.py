"""Runs of several machines or seeds become one: what is pooled, what stays apart, what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from fake_meter import answer, on_a_machine
from package import run_in
from typer.testing import CliRunner

from acmix_bench import ablate, api
from acmix_bench.analysis.compare import compare
from acmix_bench.cli import app
from acmix_bench.errors import UserError
from acmix_bench.report.table import tables
from acmix_bench.runs.environment import this_environment
from acmix_bench.runs.local import Outcome
from acmix_bench.runs.merge import merge
from acmix_bench.runs.record import Run
from acmix_bench.runs.store import Store
from acmix_bench.spec import library
from acmix_bench.spec.cell import Cell

HERE = this_environment().model_copy(update={"cpu": "Here", "cores": 2})
THERE = HERE.model_copy(update={"cpu": "There", "cores": 64})


def measured(folder: Path, *settings: str, environment=HERE, measure=answer, variants: Sequence[str] = ()) -> Run:
    experiment = library.with_settings(library.load_experiment("smoke"), [f"threads={environment.cores}", *settings])
    plan = ablate.plan_of(experiment, ablate.rows_of(experiment, variants))
    plan = plan.model_copy(update={"environment": environment})
    with on_a_machine(environment):
        ablate.ablate(plan, Store(folder), measure=measure, misfits=lambda cells, timeout: {})
    return Store(folder).load()


@pytest.fixture
def here(tmp_path: Path) -> Run:
    return measured(tmp_path / "here")


@pytest.fixture
def there(tmp_path: Path) -> Run:
    return measured(tmp_path / "there", "first_seed=2", "seeds=3", "processes=3", environment=THERE)


def test_scores_are_pooled_over_seeds_and_machines(here: Run, there: Run) -> None:
    run, notes = merge([("here", here), ("there", there)])
    assert notes == []
    for line, ours in zip(compare(run).lines, compare(here).lines, strict=True):
        assert line.scores["accuracy"].mean.samples == 5
        lower = 0.05 * (line.row.label == "shift=tensor")
        assert line.scores["accuracy"].mean.value == pytest.approx(0.9 - 0.1 * 2 - lower)  # the seeds' mean is 2
        assert line.counts == ours.counts
        assert (line.problems, line.missing) == ([], 0)
    assert compare(run).lines[2].scores["accuracy"].difference.samples == 5
    assert run.plan.experiment.protocol.seeds == 5


def test_timings_of_unlike_machines_are_in_no_comparison_together(here: Run, there: Run) -> None:
    comparison = compare(merge([("here", here), ("there", there)])[0])
    (other,) = comparison.others
    for one, alone in ((comparison, compare(here)), (other, compare(there))):
        assert [line.timings for line in one.lines] == [line.timings for line in alone.lines]
    assert {record.environment for record in other.run.records} == {THERE}
    timed = {record.environment for record in comparison.run.records if record.cell.meter == "inference"}
    assert timed == {HERE}
    titles = [table.title for table in tables(comparison)]
    assert "there: timed apart, not to be compared with the timings above" in titles
    assert any("Counts and scores are also from elsewhere; on There" in n for t in tables(comparison) for n in t.notes)


def test_a_merged_run_is_a_run_like_any_other(here: Run, there: Run, tmp_path: Path) -> None:
    run, _ = merge([("here", here), ("there", there)])
    Store(tmp_path / "both").keep(run)
    again = Store(tmp_path / "both").load()
    assert compare(again).lines == compare(run).lines
    assert [compare(other).lines for other in again.others] == [compare(other).lines for other in run.others]
    frame = api.load(tmp_path / "both").frame()
    assert [text.partition(",")[0] for text in frame.timed_on] == ["Here"] * 3 + ["There"] * 3
    assert frame.accuracy.isna().tolist() == [False] * 3 + [True] * 3
    samples = api.load(tmp_path / "both").samples()
    assert set(samples.machine) == {str(HERE), str(THERE)}
    third = measured(tmp_path / "third", "first_seed=5", environment=HERE.model_copy(update={"cpu": "Third"}))
    first, second = merge([("both", again), ("third", third)])[0].others
    assert [one.plan.merged for one in (first, second)] == [("there",), ("third",)]
    assert compare(merge([("both", again), ("third", third)])[0]).lines[0].scores["accuracy"].mean.samples == 7


def test_compare_says_which_timings_it_leaves_out(here: Run, there: Run, tmp_path: Path) -> None:
    Store(tmp_path / "both").keep(merge([("here", here), ("there", there)])[0])
    out = " ".join(CliRunner().invoke(app, ["compare", str(tmp_path / "here"), str(tmp_path / "both")]).stdout.split())
    apart = f"Not compared: head also holds timings of there, taken on {THERE}: they stand apart"
    assert out.count(apart) == out.count("stand apart") == 1
    assert "baseline inference" in out, "the timings of the same machine are compared"


def test_what_is_there_twice_is_told_and_stands_once(here: Run, tmp_path: Path) -> None:
    overlapping = measured(tmp_path / "b", "first_seed=1", environment=THERE)
    run, notes = merge([("a", here), ("b", overlapping)])
    assert notes == [
        f"{row}: accuracy of seed 1 is in a and in b; a stands" for row in ("baseline", "operator=conv", "shift=tensor")
    ]
    assert compare(run).lines[0].scores["accuracy"].mean.samples == 3
    same, notes = merge([("a", here), ("copy", here)])
    assert same.others == ()
    assert compare(same).lines == compare(here).lines
    assert "copy: 12 timings are those of another run" in notes + [n for n in notes if "more doubles" in n] or notes[-1]


def test_a_failure_gives_way_to_what_another_run_has(here: Run, tmp_path: Path) -> None:
    def one_fails(cells: Sequence[Cell], timeout: float = 0) -> list[Outcome]:
        if cells[0].meter == "accuracy" and cells[0].row.label == "shift=tensor":
            return [Outcome(status="crashed", reason="no memory")]
        return answer(cells)

    failing = measured(tmp_path / "b", environment=THERE, measure=one_fails)
    fewer = here.model_copy(update={"records": tuple(r for r in here.records if r.cell.row.label == "shift=tensor")})
    run, _ = merge([("failing", failing), ("fewer", fewer)])
    line = compare(run).lines[2]
    assert line.failures == ()
    assert line.scores["accuracy"].mean.samples == 2


def test_counts_that_differ_are_told(here: Run, tmp_path: Path) -> None:
    def more(cells: Sequence[Cell], timeout: float = 0) -> list[Outcome]:
        outcomes = answer(cells)
        if cells[0].meter == "params":
            return [Outcome(status="ok", values={"parameters": 1001}) for _ in outcomes]
        return outcomes

    there = measured(tmp_path / "b", "first_seed=2", environment=THERE, measure=more)
    run, notes = merge([("a", here), ("b", there)])
    assert notes[0] == "baseline: params is in a and in b, and differs; a stands"
    assert compare(run).lines[0].count("params", "parameters") == 1000


def test_a_seed_is_paired_on_one_machine_where_it_can_be(here: Run, tmp_path: Path) -> None:
    """A row that was added elsewhere comes with the baseline of there, where that has more of the rows."""
    wider = measured(tmp_path / "b", environment=THERE, variants=["mix=fixed"], measure=_one_more)
    run, _ = merge([("a", here), ("b", wider)])
    scored = [record for record in run.records if record.cell.meter == "accuracy"]
    assert {record.environment.cpu for record in scored} == {"There"}
    assert [line.row.label for line in compare(run).lines][-1] == "mix=fixed"
    assert compare(run).lines[-1].timings == {}, "it was timed beside another baseline"
    assert compare(compare(run).others[0].run).lines[-1].timings["inference"].speedup is not None


def _one_more(cells: Sequence[Cell], timeout: float = 0) -> list[Outcome]:
    known = [cell.model_copy(update={"row": cell.row.model_copy(update={"label": "baseline"})}) for cell in cells]
    return answer(known)


def test_what_is_not_one_experiment_is_refused(here: Run, tmp_path: Path) -> None:
    def refused(other: Run) -> str:
        with pytest.raises(UserError) as error:
            merge([("a", here), ("b", other)])
        return str(error.value)

    longer = measured(tmp_path / "b", "epochs=2")
    assert refused(longer) == "a and b cannot be merged: epochs is 1 in one and 2 in the other"
    changed = {**here.plan.code, "baseline accuracy": "other"}
    edited = here.model_copy(update={"plan": here.plan.model_copy(update={"code": changed})})
    assert "they ran different code for baseline accuracy" in refused(edited)
    renamed = here.plan.experiment.model_copy(update={"name": "mine"})
    assert "name is smoke in one and mine in the other" in refused(
        here.model_copy(update={"plan": here.plan.model_copy(update={"experiment": renamed})})
    )
    (unlike,) = library.expand("mix=fixed", library.load_variant("acmix"))
    rows = (here.plan.rows[0], here.plan.rows[2].model_copy(update={"variant": unlike}))
    assert "shift=tensor is one variant in one of them" in refused(
        here.model_copy(update={"plan": here.plan.model_copy(update={"rows": rows}), "records": ()})
    )


def test_the_command(tmp_path: Path) -> None:
    for seed, folder in ((0, "my runs"), (1, "elsewhere")):
        measured(tmp_path / folder / "smoke", "meters=params,accuracy", "seeds=1", f"first_seed={seed}")
    both = ("merge", "my runs/smoke", "elsewhere/smoke", "--out")
    code, out, err = run_in(tmp_path, *both, "my runs/both")
    assert (code, err) == (0, "")
    assert "2 seeds" in out
    assert out.endswith("Records and tables: my runs/both/\n")
    assert sorted(path.name for path in (tmp_path / "my runs/both").iterdir()) == [
        "records.jsonl",
        "run.json",
        "table.csv",
        "table.md",
    ]
    code, table, _ = run_in(tmp_path, "table", "both", "--results", "my runs")
    assert table.partition("\n\nLearned mix")[0] in out
    code, _, err = run_in(tmp_path, *both, "my runs/both")
    assert (code, err) == (2, "error: my runs/both: is not empty; choose another folder with --out\n")
    code, _, err = run_in(tmp_path, "merge", "my runs/smoke", "--out", "one")
    assert (code, err) == (2, "error: merge takes two runs or more\n")
    assert not list((tmp_path / "my runs").glob(".*"))
