"""The flow of claims, with a meter that answers at once: the order, the minutes, going on, and Ctrl-C."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from fake_meter import answer_one

from acmix_bench.analysis.claims import Verdict
from acmix_bench.claims import Settled, as_stored, next_step, settle, work_of
from acmix_bench.report.table import latex
from acmix_bench.report.table.claims import as_json, claims_table
from acmix_bench.runs.local import Outcome
from acmix_bench.runs.store import Store
from acmix_bench.spec.cell import Cell
from acmix_bench.spec.claim import Claims, load_claims

TEXT = """
minutes: {trained.yaml: 10, counted.yaml: 1}
claims:
  better:
    statement: It is better.
    source: me
    here: on digits
    rules:
      - {kind: greater, experiment: trained.yaml, row: baseline, than: shift=tensor, matters: 0.01, why: so}
  dearer:
    statement: It is dearer.
    source: me
    here: exactly
    rules:
      - {kind: share, experiment: counted.yaml, row: operator=conv, of: baseline, below: 1, why: so}
"""
EXPERIMENT = """
question: Which {0}?
source: me
command: none
time: none
expected: none
variants: {1}
backbone: nano
meters: [{0}]
protocol: {{seeds: 6, first_seed: 2, threads: 1}}
"""


@pytest.fixture
def claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Claims:
    monkeypatch.chdir(tmp_path)
    Path("claims.yaml").write_text(TEXT)
    Path("trained.yaml").write_text(EXPERIMENT.format("accuracy", '["shift=tensor"]'))
    Path("counted.yaml").write_text(EXPERIMENT.format("macs", "[conv3x3]"))
    return load_claims(Path("claims.yaml"))


class Clock:
    """A machine on which a seed takes 60 seconds a row, with one job."""

    def __init__(self) -> None:
        self.now, self.measured = 0.0, list[tuple[str, int]]()

    def __call__(self) -> float:
        return self.now

    def measure(self, cells: Sequence[Cell], timeout: float = 0, **_: Any) -> list[Outcome]:
        for cell in cells:
            self.now += 60 if cell.meter == "accuracy" else 1
            self.measured.append((cell.row.label, cell.repeat))
        return [Outcome(status="ok", values=values_of(cell)) for cell in cells]


def values_of(cell: Cell) -> dict[str, Any]:
    wiggle = 0.003 * (-1) ** cell.repeat * (cell.row.label == "shift=tensor")
    return answer_one(cell).values | ({"accuracy": 0.9 - wiggle} if cell.meter == "accuracy" else {})


def lasting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records have the seconds of the clock's cells, not those that the fake took."""
    kept = Store.append

    def append(store: Store, record: Any) -> None:
        seconds = 60.0 if record.cell.meter == "accuracy" else 1.0
        kept(store, record.model_copy(update={"seconds": seconds}))

    monkeypatch.setattr(Store, "append", append)


def settled(
    claims: Claims, clock: Clock, budget: float, measure: Callable[..., Any] | None = None, names: str = ""
) -> tuple[Settled, dict[str, Verdict]]:
    chosen = [claim for claim in claims.claims if names in claim.name]
    work = work_of(claims, chosen, Path("results"), jobs=1)
    done = settle(
        claims,
        chosen,
        work,
        budget=budget,
        loudness="quiet",
        measure=measure or clock.measure,
        misfits=lambda cells, timeout: {},
        clock=clock,
    )
    return done, {one.claim.name: one.verdict for one in done.judged}


def test_all_is_measured_and_judged(claims: Claims, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    lasting(monkeypatch)
    done, verdicts = settled(claims, clock, float("inf"))
    assert verdicts == {"better": "can't tell", "dearer": "refuted here"}
    assert {label for label, _ in clock.measured[:2]} == {"baseline", "operator=conv"}, "most rules a minute first"
    assert sorted({repeat for _, repeat in clock.measured[2:]}) == list(range(2, 8))
    assert len(clock.measured) == 2 + 12
    assert (done.failed, done.unmeasured, done.is_interrupted) == (0, {}, False)
    table = claims_table(claims, done.judged, done.runs, seconds=done.seconds, unmeasured=done.unmeasured)
    assert table.rows[0][:2] == ["better", "can't tell"]
    assert "what matters would show in" in table.rows[0][-1]
    assert table.rows[1][1:5] == ["refuted here", "MACs, all of operator=conv / all of baseline", "1", "< 1"]
    exact = as_json(done.judged, done.runs)
    assert exact["claims"][1]["rules"][0]["value"] == 1
    assert exact["experiments"]["trained.yaml"]["measured"] == 12
    for told in (table.render("text"), table.render("md"), latex.render([table], "claims")):
        assert "It is better" in told


def test_runs_of_another_version_are_judged_as_they_stand(claims: Claims, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    lasting(monkeypatch)
    done, verdicts = settled(claims, clock, float("inf"))
    ours = Cell.key.fget
    monkeypatch.setattr(Cell, "key", property(lambda cell: f"other-{ours(cell)}"))
    work = work_of(claims, claims.claims, Path("results"), jobs=1)
    stored = as_stored(claims, claims.claims, work)
    assert {one.claim.name: one.verdict for one in stored.judged} == verdicts
    assert (stored.seconds, stored.unmeasured) == (done.seconds, {})
    assert all(finding.problem for one in settled(claims, Clock(), 0)[0].judged for finding in one.findings)
    shutil.rmtree("results/trained")
    (better, dearer) = as_stored(claims, claims.claims, work).judged
    assert (better.verdict, dearer.verdict) == ("can't tell", verdicts["dearer"])


def test_the_minutes_are_held_and_the_next_run_goes_on(claims: Claims, monkeypatch: pytest.MonkeyPatch) -> None:
    lasting(monkeypatch)
    first = Clock()
    done, verdicts = settled(claims, first, 420)
    # 2 seconds of counts, then seeds of 120: one at first, which shows that two more end in what is left.
    assert len(first.measured) == 2 + 3 * 2
    assert first.now <= 420
    assert verdicts["better"] == "can't tell"
    assert done.unmeasured == {"trained.yaml": pytest.approx(3 * 120)}
    table = claims_table(claims, done.judged, done.runs, seconds=done.seconds, unmeasured=done.unmeasured)
    assert any("trained.yaml: 6 of 12 cells" in note and "6.0 minutes" in note for note in table.notes)
    nothing = Clock()
    settled(claims, nothing, 0)
    settled(claims, nothing, 125)
    assert nothing.measured == [], "a seed of 120 seconds does not end in 125 with what is beside it"
    second = Clock()
    settled(claims, second, float("inf"))
    assert second.measured == [(label, repeat) for repeat in (5, 6, 7) for label in ("baseline", "shift=tensor")]
    assert len(Store(Path("results/trained")).load().records) == 12


def test_what_is_not_asked_for_is_not_measured(claims: Claims) -> None:
    clock = Clock()
    _, verdicts = settled(claims, clock, float("inf"), names="dearer")
    assert verdicts == {"dearer": "refuted here"}
    assert len(clock.measured) == 2


def test_failed_cells_are_told_and_not_tried_for_ever(claims: Claims) -> None:
    tries: list[int] = []

    def failing(cells: Sequence[Cell], timeout: float = 0, **_: Any) -> list[Outcome]:
        tries.append(1)
        return [Outcome(status="crashed", reason="it broke") for _ in cells]

    done, verdicts = settled(claims, Clock(), float("inf"), failing)
    assert len(tries) == done.failed == 2 + 2, "after a seed that came to nothing the others are not begun"
    assert set(verdicts.values()) == {"can't tell"}
    table = claims_table(claims, done.judged, done.runs, seconds=done.seconds, unmeasured=done.unmeasured)
    assert "baseline: crashed: it broke" in table.rows[0][3]
    assert any("it broke" in problem for problem in table.problems)


def test_a_row_that_fails_does_not_keep_the_others(claims: Claims) -> None:
    clock = Clock()

    def failing(cells: Sequence[Cell], timeout: float = 0, **_: Any) -> list[Outcome]:
        if cells[0].row.label == "shift=tensor":
            return [Outcome(status="crashed", reason="it broke")]
        return clock.measure(cells)

    done, verdicts = settled(claims, clock, float("inf"), failing)
    assert clock.measured[2:] == [("baseline", seed) for seed in range(2, 8)]
    assert (done.failed, verdicts["better"]) == (6, "can't tell")
    assert done.judged[0].findings[0].problem == "shift=tensor: crashed: it broke"


def test_ctrl_c_keeps_what_is_done(claims: Claims) -> None:
    clock = Clock()

    def interrupted(cells: Sequence[Cell], timeout: float = 0, **_: Any) -> list[Outcome]:
        if cells[0].repeat == 4:
            raise KeyboardInterrupt
        return clock.measure(cells)

    done, _ = settled(claims, clock, float("inf"), interrupted)
    assert done.is_interrupted
    assert len(clock.measured) == 2 + 4
    rest = Clock()
    done, _ = settled(claims, rest, float("inf"))
    assert not done.is_interrupted
    assert len(rest.measured) == 8


def test_what_takes_longer_than_it_should_is_ended_with_the_minutes(
    claims: Claims, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(cells: Sequence[Cell], timeout: float = 0, **_: Any) -> list[Outcome]:
        time.sleep(60)
        return []

    monkeypatch.setattr("acmix_bench.claims.OVERHEAD", 0)
    soon = claims.model_copy(update={"minutes": dict.fromkeys(claims.experiments, 1e-6)})
    chosen = soon.claims[:1]
    before, began = signal.getsignal(signal.SIGALRM), time.monotonic()
    done = settle(
        soon,
        chosen,
        work_of(soon, chosen, Path("results"), jobs=1),
        budget=1,
        loudness="quiet",
        measure=slow,
        misfits=lambda cells, timeout: {},
    )
    assert time.monotonic() - began < 30
    assert not done.is_interrupted, "nobody pressed Ctrl-C"
    assert done.judged[0].verdict == "can't tell"
    assert signal.getsignal(signal.SIGALRM) == before


def test_a_part_of_a_plan_has_the_cells_of_the_whole(claims: Claims) -> None:
    (work, *_) = work_of(claims, claims.claims, Path("results"), jobs=1)
    keys = [cell.key for cell in work.plan.cells]
    assert [cell.key for cell in work.first(3).cells] == keys[:6]
    assert work.repeats == 6
    assert next_step([work], 1e9) == (work, 1)
