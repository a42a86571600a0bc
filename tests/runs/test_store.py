"""What is kept: formats of other versions, torn lines, odd lines, full disks, clocks, and many records."""

from __future__ import annotations

import json
import os
import platform
import resource
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_meter import answer

from acmix_bench import ablate
from acmix_bench.analysis.compare import compare
from acmix_bench.errors import UserError
from acmix_bench.report.table import render
from acmix_bench.runs import environment
from acmix_bench.runs.journal import TORN
from acmix_bench.runs.record import FORMAT, Plan, Record
from acmix_bench.runs.store import Store
from acmix_bench.spec import library


def plan_of(*settings: str) -> Plan:
    experiment = library.with_settings(library.load_experiment("smoke"), settings)
    return ablate.plan_of(experiment, ablate.rows_of(experiment))


def run(folder: Path, plan: Plan) -> ablate.Finished:
    return ablate.ablate(plan, Store(folder), measure=answer, misfits=lambda *_: {})


@pytest.fixture
def plan() -> Plan:
    return plan_of()


def lines_of(folder: Path) -> list[str]:
    return (folder / "records.jsonl").read_text().splitlines()


def test_a_newer_format_is_refused_by_name_and_an_older_one_is_read(plan: Plan, tmp_path: Path) -> None:
    run(tmp_path, plan)
    records, text = lines_of(tmp_path), (tmp_path / "run.json").read_text()
    old = [{key: value for key, value in json.loads(line).items() if key != "format"} for line in records]
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(one) + "\n" for one in old))
    assert run(tmp_path, plan).measured == 0
    newer = json.dumps(json.loads(records[1]) | {"format": FORMAT + 1, "unheard": "of"})
    (tmp_path / "records.jsonl").write_text("\n".join([records[0], newer, *records[2:], ""]))
    for use in (lambda: Store(tmp_path).load(), lambda: run(tmp_path, plan)):
        with pytest.raises(UserError, match=r"records.jsonl, line 2: is of format 2, and this version reads up to 1"):
            use()
    (tmp_path / "records.jsonl").unlink()
    (tmp_path / "run.json").write_text(json.dumps(json.loads(text) | {"format": FORMAT + 1, "unheard": "of"}))
    for use in (lambda: Store(tmp_path).load(), lambda: run(tmp_path, plan)):
        with pytest.raises(UserError, match=r"run.json: is of format 2"):
            use()


def test_a_torn_line_is_set_aside_and_said_once(plan: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, plan)
    path = tmp_path / "records.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    assert len(Store(tmp_path).load().records) == len(plan.cells) - 1
    assert capsys.readouterr().err == "", "it may be being written"
    assert run(tmp_path, plan).measured == 1
    assert capsys.readouterr().err.startswith(f"{tmp_path}: the last record was cut short by a kill; it is in {TORN}")
    torn = (tmp_path / TORN).read_bytes()
    assert whole.endswith(torn[:-1] + whole[-40:])
    assert len(lines_of(tmp_path)) == len(plan.cells)
    path.write_bytes(path.read_bytes()[:-1])  # whole, but for its end
    assert run(tmp_path, plan).measured == 0
    assert "cut short" not in capsys.readouterr().err
    assert (tmp_path / TORN).read_bytes() == torn


def test_lines_that_are_no_records_are_counted_and_said(
    plan: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, plan)
    lines = lines_of(tmp_path)
    (tmp_path / "records.jsonl").write_text("\n".join([lines[0], "[]", "{", *lines[1:], ""]))
    assert len(Store(tmp_path).load().records) == len(plan.cells)
    Store(tmp_path).load()
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "2 lines are no record that this version can read, and left out: 2, 3" in told


def test_a_disk_that_is_full_leaves_whole_records_and_the_prepared_line(plan: Plan, tmp_path: Path) -> None:
    """A limit of this process on the size of files stands for the disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = 0

    def fills(cells: object, timeout: float) -> object:
        nonlocal size
        size = (tmp_path / "records.jsonl").stat().st_size
        if size > 2000:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, limits[1]))
        return answer(cells)

    try:
        with pytest.raises(UserError, match=r"cannot be written \(File too large\); choose another folder"):
            ablate.ablate(plan, Store(tmp_path), measure=fills, misfits=lambda *_: {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    kept = lines_of(tmp_path)
    assert all(Record.model_validate_json(line) for line in kept)
    assert (tmp_path / "records.jsonl").stat().st_size <= size + 100
    assert run(tmp_path, plan).measured >= len(plan.cells) - len(kept)


@pytest.mark.parametrize("command", [["--help"], ["list"], ["show", "paths"], ["ablate", "-e", "smoke", "--dry-run"]])
def test_an_output_that_is_full_is_one_line(command: list[str], tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        whole = [sys.executable, "-m", "acmix_bench", *command]
        done = subprocess.run(whole, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: the output: cannot be written (No space left on device)\n"


def test_a_clock_that_jumps_back_and_a_machine_without_git_do_no_harm(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    environment._commit.cache_clear()
    try:
        assert run(tmp_path, plan).measured == len(plan.cells)
    finally:
        environment._commit.cache_clear()
    first = json.loads(lines_of(tmp_path)[0])
    assert first["state"]["commit"] is None
    newer = first | {"started": "1999-01-01T00:00:00+00:00", "status": "diverged", "reason": "later"}
    with (tmp_path / "records.jsonl").open("a") as file:
        file.write(json.dumps(newer) + "\n")
    (found,) = [record for record in Store(tmp_path).load().records if record.key == first["key"]]
    assert found.reason == "later", "the order of lines counts"


def test_a_machine_that_is_called_otherwise_is_the_same_machine(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, plan)
    renamed = (*os.uname()[:1], "another.name", *os.uname()[2:])
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(renamed))
    monkeypatch.setattr(socket, "gethostname", lambda: "another.name")
    monkeypatch.setattr(platform, "_uname_cache", None)
    assert platform.node() == "another.name"
    assert run(tmp_path, plan_of()).measured == 0


def test_what_is_measured_again(plan: Plan, tmp_path: Path) -> None:
    run(tmp_path, plan)
    diverged = json.loads(lines_of(tmp_path)[-1]) | {"status": "diverged", "reason": "nan", "values": {}}
    with (tmp_path / "records.jsonl").open("a") as file:
        file.write(json.dumps(diverged) + "\n")
    store, count = Store(tmp_path), len(plan.cells)
    assert len(ablate.finished(plan, store)) == count
    assert len(ablate.finished(plan, store, "failed")) == count - 1
    assert len(ablate.finished(plan, store, "all")) == 0


def test_thousands_of_records_are_read_in_seconds(tmp_path: Path) -> None:
    """Ten thousand in a time that leaves room for a machine that does other things."""
    plan = plan_of("meters=accuracy", "seeds=3334")
    values = {"accuracy": 0.9, "test_images": 360}
    shared = {"environment": plan.environment, "state": environment.machine_state(), "started": "", "seconds": 1}
    record = Record(key="", cell=plan.cells[0], status="ok", values=values, **shared).model_dump(mode="json")
    with Store(tmp_path).opened(plan), (tmp_path / "records.jsonl").open("a") as file:
        for cell in plan.cells:
            file.write(json.dumps(record | {"key": cell.key, "cell": cell.model_dump(mode="json")}) + "\n")
    clock = time.process_time()
    assert len(ablate.finished(plan, Store(tmp_path))) == len(plan.cells) > 10_000
    known = time.process_time() - clock
    clock = time.process_time()
    assert "3334" in render(compare(Store(tmp_path).load()), "text").replace(",", "")
    shown = time.process_time() - clock
    assert known < 4, "1.0 s where nothing else runs"
    assert shown < 8, "1.6 s"
