"""How far a run is, while it goes on and when it is over; test_sweep.py has what a kill leaves."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from fake_meter import answer
from package import ROOT, run_in

from acmix_bench import ablate
from acmix_bench.errors import UserError
from acmix_bench.report.table.status import as_json, status_table
from acmix_bench.runs.journal import TORN
from acmix_bench.runs.local import Outcome
from acmix_bench.runs.merge import merge
from acmix_bench.runs.progress import seconds_left
from acmix_bench.runs.record import Plan
from acmix_bench.runs.running import RUNNING, Started, Writing
from acmix_bench.runs.status import status_of
from acmix_bench.runs.store import Store
from acmix_bench.spec import library

SMOKE = library.load_experiment("smoke")


def plan_of(*settings: str) -> Plan:
    experiment = library.with_settings(SMOKE, settings)
    return ablate.plan_of(experiment, ablate.rows_of(experiment))


def told(folder: Path) -> str:
    return " ".join(status_table(status_of(folder)).render("text").split())


def test_what_runs_is_told_with_its_time_and_what_is_measured_again_is_left(tmp_path: Path) -> None:
    """Looked at from inside of the run, from where it has an open store and its lock."""
    plan, seen = plan_of(), []

    def looks(cells: list, timeout: float) -> list[Outcome]:
        seen.append(status_of(tmp_path))
        return answer(cells)

    ablate.ablate(plan, Store(tmp_path), measure=looks, misfits=lambda *_: {})
    assert [one.state for one in seen] == ["running"] * len(seen)
    assert seen[0].done.total() == 0
    last = seen[-1]
    assert [(one.row, one.meter) for one in last.current] == [
        (cell.row.label, cell.meter) for cell in plan.cells[-len(last.current) :]
    ]
    assert last.left.total() == last.running.total() == len(last.current) == len(plan.cells) - last.done.total()
    assert status_of(tmp_path).state == "finished"
    ablate.ablate(plan, Store(tmp_path), measure=looks, misfits=lambda *_: {}, again="all")
    again = seen[len(seen) // 2]
    assert (again.done.total(), again.left.total()) == (0, len(plan.cells))


def test_failures_are_told_a_few_of_many(tmp_path: Path) -> None:
    def fails(cells: list, timeout: float) -> list[Outcome]:
        return [Outcome(status="crashed", reason=f"no {cell.meter}") for cell in cells]

    plan = plan_of("meters=params,accuracy", "seeds=3")
    ablate.ablate(plan, Store(tmp_path), measure=fails, misfits=lambda *_: {})
    found = status_of(tmp_path)
    assert len(found.failures) == len(as_json(found)["failures"]) == found.done.total() == len(plan.cells) == 12
    assert "12 of 12 cells done, 12 failed" in told(tmp_path)
    assert told(tmp_path).count("crashed: no") == 5
    assert "and 7 more that failed: acmix-bench table" in told(tmp_path)
    code, out, err = run_in(tmp_path, "status", str(tmp_path))
    assert (code, err) == (1, "")
    assert "baseline: params 0 crashed: no params" in out


def test_what_a_kill_cut_short_is_told(tmp_path: Path) -> None:
    plan = plan_of()
    ablate.ablate(plan, Store(tmp_path), measure=answer, misfits=lambda *_: {})
    records = tmp_path / "records.jsonl"
    records.write_bytes(records.read_bytes()[:-40])
    assert status_of(tmp_path).state == "unfinished"
    assert f"unfinished, {len(plan.cells) - 1} of {len(plan.cells)} cells done" in told(tmp_path)
    assert "The last line is cut short; the next run sets it aside." in told(tmp_path)
    ablate.ablate(plan, Store(tmp_path), measure=answer, misfits=lambda *_: {})
    assert (tmp_path / TORN).exists()
    assert "1 record was cut short by a kill" in told(tmp_path)
    assert "The last line" not in told(tmp_path)


def test_what_has_its_record_runs_no_more(tmp_path: Path) -> None:
    """Killed between the record and the word that it is there; `before` tells this run's record from one of before."""
    plan = plan_of("meters=params")
    ablate.ablate(plan, Store(tmp_path), measure=answer, misfits=lambda *_: {})
    ended = Started(key=plan.cells[0].key, row="baseline", meter="params", repeat=0, where="", time=0)
    for before, running in ((0, ()), ((tmp_path / "records.jsonl").stat().st_size, (ended,))):
        writing = Writing(host="h", pid=1, started=0, jobs=1, again="all", before=before, cells=(ended,))
        (tmp_path / RUNNING).write_text(writing.model_dump_json())
        assert (status_of(tmp_path).state, status_of(tmp_path).current) == ("killed", running)
        told = as_json(status_of(tmp_path))
        assert (told["running"], told["ran_when_killed"]) == ([], [one.model_dump() for one in running])


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', '{"format": 2}', "\udcff", "[" * 10**5])
def test_what_says_who_runs_may_be_anything(text: str, tmp_path: Path) -> None:
    ablate.ablate(plan_of(), Store(tmp_path), measure=answer, misfits=lambda *_: {})
    (tmp_path / RUNNING).write_text(text, errors="surrogateescape")
    assert status_of(tmp_path).state == "finished"


def test_runs_of_older_versions_are_read(tmp_path: Path) -> None:
    for run in sorted((ROOT / "results/shown").glob("*/run.json")):
        found = status_of(run.parent)
        assert found.state == "finished", run
        assert found.left.total() == 0


def test_a_merged_run_is_read_with_the_timings_that_stand_apart(tmp_path: Path) -> None:
    parts = []
    for name, first in (("one", 0), ("two", 2)):
        plan = plan_of(f"first_seed={first}")
        ablate.ablate(plan, Store(tmp_path / name), measure=answer, misfits=lambda *_: {})
        run = Store(tmp_path / name).load()
        records = tuple(one.model_copy(update={"started": f"on day {first}"}) for one in run.records)
        parts.append((name, run.model_copy(update={"records": records})))
    Store(tmp_path / "both").keep(merge(parts)[0])
    found, each = status_of(tmp_path / "both"), Counter(cell.meter for cell in plan.cells)
    assert found.done == found.cells
    assert found.done["inference"] == 2 * each["inference"]
    assert found.done["accuracy"] == 2 * each["accuracy"]
    assert found.done["params"] == each["params"]


def test_a_run_that_is_none_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "nowhere"):
        code, out, err = run_in(tmp_path, "status", name)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert f"unknown run '{name}'" in err
    (tmp_path / "empty/run.json").write_text("{}")
    with pytest.raises(UserError, match="not a run that this version can read"):
        status_of(tmp_path / "empty")


def test_the_time_left_is_guessed_from_the_cells_of_the_same_meter() -> None:
    known = {"params": [1.0, 3.0], "accuracy": [10.0]}
    assert seconds_left({"params": 2, "accuracy": 3}, [], known, 1) == 2 * 2 + 3 * 10
    assert seconds_left({"params": 0, "accuracy": 3}, [], known, 2) == 15
    assert seconds_left({"accuracy": 3}, [("accuracy", 4), ("accuracy", 99)], known, 1) == 30 - 4 - 10
    assert seconds_left({"accuracy": 1, "macs": 1}, [], known, 1) is None
    assert seconds_left({"macs": 0}, [], known, 1) == 0
