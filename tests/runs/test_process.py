"""Calls in processes of their own: limits, what they say, where their sockets lie, and how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from acmix_bench.cores import cpu_quota, usable_cores
from acmix_bench.runs import process
from acmix_bench.runs.environment import Environment, this_environment
from acmix_bench.runs.process import Limits, answer_of
from acmix_bench.runs.training import _stopping_gently


def policy(_: object) -> tuple[str | None, set[int]]:
    return os.environ.get("OMP_WAIT_POLICY"), os.sched_getaffinity(0)


def test_threads_sleep_while_they_wait_where_asked_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY")
    one = min(os.sched_getaffinity(0))
    patient = answer_of(policy, None, Limits(seconds=60, patient=True, cores=(one,)))
    assert patient.content == ("passive", {one})
    assert "OMP_WAIT_POLICY" not in os.environ


def allocate(gib: float) -> int:
    return len(bytearray(int(gib * 2**30)))


def test_memory_is_limited_where_asked() -> None:
    assert answer_of(allocate, 0.5, Limits(seconds=60, memory=2)).status == "ok"
    told = answer_of(allocate, 0.5, Limits(seconds=60, memory=0.6))
    assert told.status == "crashed"
    assert "MemoryError" in told.output


def talk(line: str) -> None:
    while line:
        print(line)
        line = "" if line.startswith("once") else line


def test_what_is_said_is_kept_and_bounded() -> None:
    assert answer_of(talk, "once", Limits(seconds=60)).output == "once\n"
    endless = answer_of(talk, "x" * 100_000, Limits(seconds=60))
    assert endless.content == "it printed more than 64 MiB, and was ended"
    assert len(endless.output) == process.KEPT_OUTPUT


SCRIPT = """
import subprocess, time
from pathlib import Path
from acmix_bench.runs.process import call

def wait(path):
    Path(path).write_text(f"{__import__('os').getpid()} {subprocess.Popen(['sleep', '600']).pid}")
    time.sleep(600)
"""


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(true, seconds: float = 60) -> bool:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.02)
    return true()


def test_a_process_and_what_it_started_end_with_the_one_that_asked(tmp_path: Path) -> None:
    (tmp_path / "waits.py").write_text(SCRIPT)
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    code = "import waits; waits.call(waits.wait, 'pids', 600)"
    caller = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": path})
    assert until(lambda: (tmp_path / "pids").exists() and len((tmp_path / "pids").read_text().split()) == 2)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert all(map(is_running, pids))
    caller.send_signal(signal.SIGKILL)
    caller.wait()
    assert until(lambda: not any(map(is_running, pids)), 5)


@pytest.mark.parametrize("name", ["x" * 100, "two words"])
def test_a_long_folder_or_one_with_a_blank_for_temporary_files(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    code = (
        "from acmix_bench.runs.process import call\nimport os\nassert call(os.path.basename, 'a/b', 60) == ('ok', 'b')"
    )
    environment = os.environ | {"TMPDIR": str(tmp_path / name)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def test_temporary_files_stay_where_they_were() -> None:
    before = tempfile.gettempdir()
    process.keep_sockets_short()
    assert tempfile.gettempdir() == before


def test_a_thread_that_is_not_the_main_one_can_train_and_measure() -> None:
    found: list[object] = []

    def work() -> None:
        with _stopping_gently() as is_ending:
            found.append(is_ending())
        found.append(process.call(os.path.basename, "a/b", 60))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False, ("ok", "b")]


V1 = "cpu.cfs_"


@pytest.mark.parametrize(
    ("groups", "files", "quota"),
    [
        ("0::/a/b\n", {"a/cpu.max": "150000 100000\n", "a/b/cpu.max": "max 100000\n"}, 1.5),
        (
            "4:cpu,cpuacct:/a\n",
            {"cpu,cpuacct/a/cpu.cfs_quota_us": "50000\n", "cpu,cpuacct/a/cpu.cfs_period_us": "100000\n"},
            0.5,
        ),
        ("1:cpu:/elsewhere\n0::/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ("1:cpu:/elsewhere\n", {"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ("4:cpuset:/a\n", {"cpuset/a/cpu.max": "1 2"}, None),
    ],
)
def test_a_container_s_share_of_the_processors(
    groups: str, files: dict[str, str], quota: float | None, tmp_path: Path
) -> None:
    (tmp_path / "cgroup").write_text(groups)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cpu_quota(tmp_path / "cgroup", tmp_path) == quota


def test_a_share_is_threads_and_part_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    without = this_environment().model_copy(update={"quota": None})
    for module in ("cores", "runs.environment"):
        monkeypatch.setattr(f"acmix_bench.{module}.cpu_quota", lambda: 1.5)
    assert usable_cores() == 1
    assert this_environment().quota == 1.5
    assert "(a container's 1.5)" in str(this_environment())
    assert this_environment() != without
    older = {key: value for key, value in without.model_dump().items() if key != "quota"}
    assert Environment.model_validate(older) == without, "records of before it was known"
