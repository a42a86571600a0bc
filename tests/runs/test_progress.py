"""What a run says while it goes on: bars, lines, events, and what other programs take meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from fake_meter import answer

from acmix_bench import ablate
from acmix_bench.runs import bar, load, progress
from acmix_bench.runs.bar import Bar, clock
from acmix_bench.runs.load import Taken, Times, look
from acmix_bench.runs.record import Plan, Record
from acmix_bench.runs.sweep import records
from acmix_bench.spec import library

BUSY = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass\n"
# Started by a process that is gone when it begins, so that it is nobody's.
NOBODYS = f"import os\nif os.fork(): os._exit(0)\n{BUSY}"


def plan_of(*settings: str) -> Plan:
    experiment = library.with_settings(library.load_experiment("smoke"), settings)
    return ablate.plan_of(experiment, ablate.rows_of(experiment))


def measured(plan: Plan, **options: object) -> list[Record]:
    return list(records(plan, {}, answer, **options))


def test_what_is_quick_is_silent_and_what_is_long_says_a_whole_line_a_minute(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of("meters=params,accuracy", "seeds=2")
    measured(plan)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(bar, "SECONDS_BETWEEN_LINES", 0)
    monkeypatch.setattr(progress, "taken_since", lambda *_: Taken(others=1.96, stolen=0))
    monkeypatch.setattr(load.os, "getloadavg", lambda: (5.12, 0, 0))
    measured(plan)
    out, err = capsys.readouterr()
    lines, cores = err.splitlines(), len(os.sched_getaffinity(0))
    other = f"other work takes 2.0 of {cores} cores (load 5.1)"
    assert out == ""
    assert lines[0] == "0 of 9 cells"
    assert lines[-1] == f"9 of 9 cells, 0:00 left, {other}"
    measured(plan, loudness="quiet")
    assert capsys.readouterr() == ("", "")


def test_a_cell_that_takes_long_has_its_line_a_minute_but_none_while_something_is_timed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of("meters=inference,accuracy", "seeds=1", "processes=1")
    groups = {cell.meter: [one for one in plan.cells if one.meter == cell.meter] for cell in plan.cells}
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LOOKS", 0.02)
    with progress.Progress(plan.cells, {}) as told:
        for meter, lines in (("inference", 0), ("accuracy", 2)):
            told.start(groups[meter])
            monkeypatch.setattr(bar, "SECONDS_BETWEEN_LINES", 0)
            time.sleep(0.3)
            monkeypatch.setattr(bar, "SECONDS_BETWEEN_LINES", 60)
            told.stop(groups[meter])
            said = capsys.readouterr().err.splitlines()
            assert len(said) >= lines
            assert lines or not said
    time.sleep(0.1)
    assert capsys.readouterr() == ("", ""), "nobody looks after it any more"


def test_a_terminal_shows_what_runs_where(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    plan = plan_of("meters=accuracy", "seeds=9")
    with progress.Progress(plan.cells, {}, jobs=12) as told:
        for number, cell in enumerate(plan.cells[:12]):
            told.start([cell], f"node-{number}")
        told.finished(measured(plan)[0])
    screen = capsys.readouterr().err.rpartition("1/27 cells")[2]
    assert "12 running, 0:00 left" in screen
    assert "accuracy  operator=conv 2  on node-7" in screen
    assert "and 4 more" in screen
    assert "on node-8" not in screen


def test_events_tell_a_cell_once_it_is_kept() -> None:
    plan, told = plan_of("meters=params,accuracy", "seeds=2"), []
    kept = [told.append(("kept", record.key)) for record in records(plan, {}, answer, tell=[told.append])]
    finished = [number for number, one in enumerate(told) if isinstance(one, dict) and one["event"] == "finished"]
    assert len(kept) == len(finished) == 9
    for number in finished:
        assert ("kept", told[number]["key"]) in told[:number]
    assert told[0]["event"] == "begun"
    last = told[finished[-1]]
    assert (last["done"], last["failed"], last["left"], last["seconds_left"]) == (9, 0, 0, 0)


def test_what_failed_before_and_is_kept_is_counted_among_the_failed() -> None:
    plan, told = plan_of("meters=accuracy", "seeds=2"), []
    first, *_ = records(plan, {}, answer)
    kept = {first.key: first.model_copy(update={"status": "diverged", "reason": "a test", "values": {}})}
    list(records(plan, kept, answer, tell=[told.append]))
    assert (told[0]["kept"], told[-1]["failed"], told[-1]["done"]) == (1, 1, 6)


def test_our_own_processes_are_no_other_work() -> None:
    before, end = look(), time.monotonic() + 20
    with subprocess.Popen([sys.executable, "-c", f"{BUSY}time.sleep(60)"]) as child:
        while look().ours - before.ours < 0.3 and time.monotonic() < end:
            time.sleep(0.05)
        ours = look()
        child.kill()
    subprocess.run([sys.executable, "-c", NOBODYS], check=True)
    time.sleep(0.7)
    others = look()
    assert 0.3 <= ours.ours - before.ours <= ours.busy - before.busy + 0.1
    mine, busy = others.ours - ours.ours, others.busy - ours.busy
    assert mine < 0.3, "the start of Python"
    assert busy - mine >= 0.25


def test_what_others_took_is_what_the_cores_were_busy_without_us(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Times(now=time.monotonic() - 10, busy=100, stolen=3, ours=40)
    now = Times(now=before.now + 10, busy=118, stolen=4, ours=46)
    monkeypatch.setattr(load, "look", lambda: now)
    assert load.taken_since(before) == Taken(others=1.2, stolen=0.1)
    assert load.taken_since(before, 20) is None
    monkeypatch.setattr(load, "look", lambda: replace(now, ours=39))
    assert load.taken_since(before) is None, "one of ours is counted nowhere"


def test_what_is_printed_beside_a_bar_goes_where_it_went(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with Bar("images") as images:
        images.show(1, 2)
        print('{"event": "finished"}')
    out, err = capsys.readouterr()
    assert out == '{"event": "finished"}\n'
    assert "1/2 images" in err


def test_other_work_is_told_where_it_is_worth_it() -> None:
    cores = len(os.sched_getaffinity(0))
    assert Taken(others=0.05 * cores, stolen=0).told == ""
    assert Taken(others=0.6 * cores, stolen=0.1).told.startswith(f"other work takes {0.6 * cores + 0.1:.1f} of {cores}")
    assert Taken(others=0, stolen=0.5 * cores).told.startswith("the host of this machine takes")


def test_a_system_that_tells_nothing_is_no_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "PROC", tmp_path)
    assert look() is None
    assert load.taken_since(None) is None
    assert {record.state.others for record in measured(plan_of("meters=params"))} == {None}


def test_times_that_are_left_are_read_at_a_glance() -> None:
    known = {5: "0:05", 750: "12:30", 10800: "3:00:00", 90061: "1 day 1:01:01", 2 * 86400: "2 days 0:00:00"}
    assert {seconds: clock(seconds) for seconds in known} == known


def test_the_pace_tells_the_time_left(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(bar.time, "monotonic", lambda: now[0])
    with Bar("images") as images:
        for done in range(0, 100, 10):
            images.show(10 + done, 1000, "reading")
            now[0] += 25
    assert capsys.readouterr().err.splitlines() == [
        "reading, 40 of 1,000 images, 40:00 left",
        "reading, 70 of 1,000 images, 38:45 left",
        "reading, 100 of 1,000 images, 37:30 left",
    ]
