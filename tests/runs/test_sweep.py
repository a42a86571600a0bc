"""Sweeps as a user runs them: every failure alone and mixed, several at once, ended at any moment and gone on with."""

from __future__ import annotations

import json
import random
import re
import signal
import time
from pathlib import Path

import pytest
import yaml
from full import FULL, full
from package import ROOT, run_in, start

from acmix_bench.runs.status import status_of

WORDS = dict.fromkeys(("question", "source", "command", "time", "expected"), "a test")
SEEDS = 100 if FULL else 20


def prepare(folder: Path, **content: object) -> Path:
    (folder / "mine.py").write_text((ROOT / "tests" / "sweep_of_mine.py").read_text())
    (folder / "sweep.yaml").write_text(yaml.safe_dump({**WORDS, "baseline": "conv3x3", **content}))
    return folder


def records_of(folder: Path, results: str = "results") -> list[dict]:
    path = folder / results / "sweep" / "records.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


FAILURES = {
    "error": "RuntimeError: the operator's own error",
    "segfault": "its process was ended by SIGSEGV",
    "kill": "its process was ended by SIGKILL; the system may have run out of memory",
    "hang": "no answer within 6 seconds",
    "endless": "it printed more than 64 MiB, and was ended",
    "nan": "a meter gave score=nan, which is not a finite number",
    "memory": "RuntimeError: [enforce fail at alloc_cpu",
}


def test_what_goes_wrong_fails_alone_with_its_reason_and_what_it_said(tmp_path: Path) -> None:
    variants = [f"operator=mine.py:Fails,how={how}" for how in (*FAILURES, "says", "not")]
    protocol = {"threads": 1, "seeds": 1, "timeout": 6, "memory": 1.5}
    prepare(tmp_path, variants=variants, meters=["params", "mine.py:LOOK"], protocol=protocol)
    code, out, err = run_in(tmp_path, "ablate", "-e", "sweep.yaml")
    assert code == 1, err
    assert "Traceback" not in err
    found = {r["cell"]["row"]["label"]: r for r in records_of(tmp_path) if r["cell"]["meter"] != "params"}
    assert len(found) == len(variants) + 1
    told = " ".join(out.split())
    for how, reason in FAILURES.items():
        (label,) = [label for label in found if label.endswith(f"how={how}")]
        assert found[label]["status"] == ("timeout" if how == "hang" else "crashed")
        assert found[label]["reason"].startswith(reason)
        assert reason in told
        assert how != "hang" or found[label]["state"]["others"] is not None
        del found[label]
    assert [record["status"] for record in found.values()] == ["ok"] * 3
    assert all(r["status"] == "ok" for r in records_of(tmp_path) if r["cell"]["meter"] == "params")
    logs = {path.stem: path.read_text() for path in (tmp_path / "results/sweep/logs").iterdir()}
    by_how = {r["cell"]["row"]["label"].rpartition("how=")[2]: r for r in records_of(tmp_path)}
    assert set(logs) == {by_how[how]["key"] for how in ("segfault", "endless", "says")}
    assert set(logs[by_how["says"]["key"]].splitlines()) == {"something"}
    assert "output" not in by_how["says"]["values"]
    told = logs[by_how["segfault"]["key"]]
    assert told.startswith("the last words\nFatal Python error: Segmentation fault")
    assert by_how["segfault"]["values"]["output"] == told[-2000:]
    assert len(by_how["endless"]["values"]["output"]) == 2000


@full
def test_several_jobs_give_what_one_gives(tmp_path: Path) -> None:
    protocol = {"threads": 1, "seeds": 2, "epochs": 1}
    prepare(tmp_path, meters=["params", "accuracy"], protocol=protocol)
    found = []
    for jobs in ("1", "2"):
        code, _, err = run_in(tmp_path, "ablate", "-e", "sweep.yaml", "--results", jobs, "--jobs", jobs)
        assert code == 0, err
        found.append({r["key"]: r["values"] for r in records_of(tmp_path, jobs)})
    assert len(found[0]) == 3
    assert found[0] == found[1]


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=full)])
def test_an_end_that_is_asked_for_comes_in_5_seconds(sent: signal.Signals, code: int, tmp_path: Path) -> None:
    protocol = {"threads": 1, "seeds": 200}
    prepare(tmp_path, meters=["mine.py:COUNT"], protocol=protocol)
    process = start("ablate", "-e", "sweep.yaml", "--jobs", "2", "--set", "threads=1", "--json", folder=tmp_path)
    end = time.monotonic() + 120
    while len(records_of(tmp_path)) < 3 and time.monotonic() < end:
        time.sleep(0.02)
    time.sleep(random.random() / 5)
    process.send_signal(sent)
    clock = time.monotonic()
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert time.monotonic() - clock < (5 if FULL else 20)  # beside other tests it takes longer
    events, kept = [json.loads(line) for line in out.splitlines()], [record["key"] for record in records_of(tmp_path)]
    assert [event["event"] for event in events[:2]] == ["begun", "started"]
    assert {event["where"] for event in events if event["event"] == "started"} == {"core 0", "core 1"}
    finished = [event["key"] for event in events if event["event"] == "finished"]
    assert finished in (kept, kept[:-1]), "the last one may be told no more"
    ended = {"event": "ended", "done": len(kept), "failed": 0, "left": 200 - len(kept), "is_interrupted": True}
    assert events[-1] == ended | {"time": events[-1]["time"]}
    assert status_of(tmp_path / "results/sweep").state == "unfinished"
    assert err.splitlines()[-1] == "interrupted: what is finished is kept; the same command goes on from here"
    assert "Traceback" not in err
    assert not [path for path in (tmp_path / "results/sweep").iterdir() if path.name.startswith(".")]


def test_killed_at_any_moment_and_gone_on_with_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    """20 kills in nox -s full, else 2."""
    protocol = {"threads": 1, "seeds": SEEDS}
    prepare(tmp_path, meters=["mine.py:COUNT"], protocol=protocol)
    command, folder = ("ablate", "-e", "sweep.yaml", "--jobs", "2"), tmp_path / "results/sweep"
    draw, kills = random.Random(0), 0
    while kills < (20 if FULL else 2):
        process = start(*command, folder=tmp_path)
        before, seconds = len(records_of(tmp_path)), draw.random()
        while process.poll() is None and len(records_of(tmp_path)) == before and (not kills or draw.random() < 0.995):
            time.sleep(0.02)
        time.sleep(seconds / 3)
        seen = status_of(folder) if (folder / "run.json").exists() else None
        process.kill()
        process.communicate()
        kills += 1
        if len(records_of(tmp_path)) > before and seen:
            assert (seen.state, seen.writing.pid) == ("running", process.pid) or FULL
            assert seen.done.total() + seen.left.total() == SEEDS
    found = status_of(folder)
    assert (found.state, found.done.total()) == ("killed", len(records_of(tmp_path))) or FULL
    assert {one.row for one in found.current} == {"baseline"}
    assert 0 < len(records_of(tmp_path)) < SEEDS or FULL
    ended = (tmp_path / "ended.txt").read_text().split()
    time.sleep(0.5)
    assert (tmp_path / "ended.txt").read_text().split() == ended, "what ran has ended too"
    code, out, err = run_in(tmp_path, *command)
    assert code == 0, err
    assert status_of(folder).state == "finished"
    keys = [record["key"] for record in records_of(tmp_path) if record["status"] == "ok"]
    assert len(keys) == len(set(keys)) == SEEDS
    code, whole, err = run_in(tmp_path, *command, "--results", "whole")
    assert code == 0, err
    out, whole = (re.sub(r"\s+", " ", re.sub(r"cells\s+in .*", "", text)) for text in (out, whole))
    assert out.replace("results/", "whole/") == whole


@full  # tests/meters/test_accuracy.py has it in one process
def test_a_training_that_was_killed_goes_on_from_its_checkpoint_and_gives_the_same(tmp_path: Path) -> None:
    prepare(tmp_path, meters=["mine.py:TRAIN"], protocol={"threads": 1, "seeds": 1, "epochs": 2})
    code, _, err = run_in(tmp_path, "ablate", "-e", "sweep.yaml", "--results", "whole")
    assert code == 0, err
    process = start("ablate", "-e", "sweep.yaml", folder=tmp_path)
    end = time.monotonic() + 120
    checkpoints = tmp_path / "results/sweep/checkpoints"
    while not list(checkpoints.glob("*/last.ckpt")) and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.3)
    process.kill()
    process.communicate()
    assert records_of(tmp_path) == []
    code, _, err = run_in(tmp_path, "ablate", "-e", "sweep.yaml", "--verbose")
    assert code == 0, err
    (ours,), (theirs,) = records_of(tmp_path), records_of(tmp_path, "whole")
    assert ours["values"] == theirs["values"]
    (log,) = (tmp_path / "results/sweep/logs").iterdir()
    assert re.fullmatch(r"goes on after update \d+ of 22 in epoch \d\n", log.read_text())
    assert not checkpoints.exists()
