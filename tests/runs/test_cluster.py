"""Sweeps on a Ray cluster as a user runs them: nodes and drivers that are killed, unlike machines, other code."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from threading import Timer

import pytest
import yaml
from package import ROOT, run_in, start

full = pytest.mark.skipif(not os.environ.get("ACMIX_BENCH_FULL"), reason="nox -s cluster")
WORDS = dict.fromkeys(("question", "source", "command", "time", "expected"), "a test")
ALONE = ["unshare", "--net", *(["--map-root-user"] if os.getuid() else [])]


@dataclass(frozen=True)
class Nodes:
    """A cluster: where it is, the process that holds its network, and the process of each node."""

    address: str
    holder: int
    raylets: list[int]

    @property
    def entering(self) -> tuple[str, ...]:
        user = ("--user", "--preserve-credentials") if os.getuid() else ()
        return ("nsenter", f"--target={self.holder}", "--net", *user)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with cluster(tmp_path_factory.mktemp("other")) as made:
        yield made


@contextmanager
def cluster(other: Path) -> Iterator[Nodes]:
    """Two nodes of one kind, one of another, and one with other code, in a network of their own."""
    if not find_spec("ray"):
        pytest.skip("Ray is not installed: pip install 'acmix-bench[ray]'")
    if shutil.which("nsenter") is None or subprocess.run([*ALONE, "true"], check=False).returncode:
        pytest.skip("no network of one's own can be made here: Ray listens on every network")
    shutil.copytree(ROOT / "acmix_bench", other / "acmix_bench", ignore=shutil.ignore_patterns("__pycache__"))
    with (other / "acmix_bench/meters/params.py").open("a") as file:
        file.write("\nANOTHER = 1\n")
    (other / "variants").symlink_to(ROOT / "variants")
    short = {"prefix": "ray", "dir": "/tmp", "ignore_cleanup_errors": True}  # the paths of sockets are short
    with tempfile.TemporaryDirectory(**short) as folder:
        told = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_TMPDIR": folder}
        told |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0", "OTHER_CODE": str(other)}
        with pytest.MonkeyPatch.context() as patch:
            for key, value in told.items():
                patch.setenv(key, value)
            command = [*ALONE, sys.executable, str(ROOT / "tests" / "ray_cluster.py")]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
                assert process.stdin is not None
                assert process.stdout is not None
                line = process.stdout.readline()
                assert line, "the cluster did not start"
                yield Nodes(holder=process.pid, **json.loads(line))
                process.stdin.close()
                process.wait(60)


def prepare(folder: Path, **content: object) -> None:
    (folder / "mine.py").write_text((ROOT / "tests" / "sweep_of_mine.py").read_text())
    (folder / "sweep.yaml").write_text(yaml.safe_dump({**WORDS, "baseline": "conv3x3", **content}))


def records_of(folder: Path, results: str = "results") -> list[dict]:
    path = folder / results / "sweep" / "records.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_for(folder: Path, number: int) -> None:
    end = time.monotonic() + 240
    while len(records_of(folder)) < number and time.monotonic() < end:
        time.sleep(0.05)
    assert len(records_of(folder)) >= number


def below(pid: int) -> Iterator[int]:
    """A process, what it has started, and so on."""
    yield pid
    with suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            yield from below(int(child))


def measures(raylet: int) -> bool:
    """Whether a node runs a cell just now, by the title that Ray gives its process."""
    for pid in below(raylet):
        with suppress(OSError):
            if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::_measure"):
                return True
    return False


def kill_with_all_below(pid: int) -> None:
    """As when a machine loses its power."""
    for one in [*below(pid)]:
        with suppress(OSError):
            os.kill(one, signal.SIGKILL)


def lines_until(what: str, process: subprocess.Popen[str]) -> Iterator[str]:
    """What it says on stderr, up to a line with these words."""
    timer = Timer(240, process.kill)
    timer.start()
    for line in process.stderr or ():
        yield line
        if what in line:
            timer.cancel()
            return
    raise AssertionError(f"it never said '{what}'")


@full
@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1", "nowhere.invalid:6379"])
def test_a_wrong_address_is_one_line_in_bounded_time(address: str, nodes: Nodes, tmp_path: Path) -> None:
    clock = time.monotonic()
    arguments = ("ablate", "-e", "smoke", "--launcher", "ray", "--address", address)
    code, out, err = run_in(tmp_path, *arguments, within=nodes.entering)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith(f"error: --address {address}: ")
    assert time.monotonic() - clock < 60


@full
def test_ctrl_c_ends_the_driver_in_5_seconds(nodes: Nodes, tmp_path: Path) -> None:
    prepare(tmp_path, meters=["mine.py:COUNT"], protocol={"threads": 1, "seeds": 400})
    command = ("ablate", "-e", "sweep.yaml", "--launcher", "ray", "--address", nodes.address)
    process = start(*command, folder=tmp_path, within=nodes.entering)
    wait_for(tmp_path, 3)
    process.send_signal(signal.SIGINT)
    clock = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert time.monotonic() - clock < 5
    ended = (tmp_path / "ended.txt").read_text()
    assert err.splitlines()[-1] == "interrupted: what is finished is kept; the same command goes on from here"
    assert "Traceback" not in err
    time.sleep(1)
    assert (tmp_path / "ended.txt").read_text() == ended, "what ran on the nodes has ended too"


@full
def test_a_node_and_then_the_driver_are_killed_and_nothing_is_lost_or_doubled(nodes: Nodes, tmp_path: Path) -> None:
    protocol = {"threads": 1, "seeds": 6, "processes": 3, "seconds": 0.05, "epochs": 1}
    names = ["params", "inference", "mine.py:COUNT", "mine.py:LOOK", "accuracy"]
    prepare(tmp_path, variants=["acmix"], meters=names, protocol=protocol)
    command = ("ablate", "-e", "sweep.yaml")
    cluster = ("--launcher", "ray", "--address", nodes.address)
    process = start(*command, *cluster, folder=tmp_path, within=nodes.entering)
    wait_for(tmp_path, 16)  # of 46, of which the last 36 keep every node busy
    kill_with_all_below(nodes.raylets[0])
    told = "".join(lines_until("is lost: what ran there runs again", process))
    assert re.search(r"node \S+ is left out: baseline: params would run other code here", told)
    wait_for(tmp_path, 30)
    process.kill()
    assert "Traceback" not in told + process.communicate()[1]
    time.sleep(2)
    ended, before = (tmp_path / "ended.txt").read_text(), len(records_of(tmp_path))
    time.sleep(1)
    assert (tmp_path / "ended.txt").read_text() == ended, "what ran has ended with the driver"
    code, out, err = run_in(tmp_path, *command, *cluster, within=nodes.entering)
    assert code == 0, err
    assert f"{before} of" in err, err
    code, local, err = run_in(tmp_path, *command, "--results", "local", "--jobs", "2")
    assert code == 0, err
    found, here = records_of(tmp_path), records_of(tmp_path, "local")
    counted = Counter(record["key"] for record in found if record["status"] == "ok")
    assert counted == Counter(record["key"] for record in here)
    assert {record["status"] for record in found} == {"ok"}
    timings, others = (
        [{r["key"]: r for r in run if (r["cell"]["meter"] == "inference") == is_timing} for run in (found, here)]
        for is_timing in (True, False)
    )
    assert {key: r["values"] for key, r in others[0].items()} == {key: r["values"] for key, r in others[1].items()}
    assert {r["environment"]["cores"] for r in timings[0].values()} == {2}
    assert {r["environment"]["cores"] for r in others[0].values()} == {1, 2}
    assert "Counts and scores are also from elsewhere; on" in " ".join(out.split())


@full
def test_where_all_nodes_of_a_kind_go_what_is_left_to_be_timed_says_so(nodes: Nodes, tmp_path: Path) -> None:
    """It leaves the cluster with one node, of the other kind."""
    protocol = {"threads": 1, "processes": 100, "seconds": 0.05}
    prepare(tmp_path, meters=["params", "inference"], protocol=protocol)
    command = ("ablate", "-e", "sweep.yaml", "--launcher", "ray", "--address", nodes.address)
    process = start(*command, folder=tmp_path, within=nodes.entering)
    wait_for(tmp_path, 5)
    for raylet in nodes.raylets[:2]:
        with suppress(OSError):
            kill_with_all_below(raylet)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 1, err
    assert "no node is left that could measure it, like" in out
    found = records_of(tmp_path)
    assert len(found) == len({record["key"] for record in found}) == 102
    timed = [record for record in found if record["cell"]["meter"] == "inference"]
    assert {record["environment"]["cores"] for record in timed} == {2}
    assert {record["status"] for record in timed} == {"ok", "crashed"}


@full
def test_another_node_takes_a_training_over_from_its_checkpoint(tmp_path: Path) -> None:
    prepare(tmp_path, meters=["mine.py:TRAIN"], protocol={"threads": 1, "seeds": 1, "epochs": 4})
    (tmp_path / "other").mkdir()
    with cluster(tmp_path / "other") as nodes:
        where = ("--launcher", "ray", "--address", nodes.address)
        process = start("ablate", "-e", "sweep.yaml", *where, folder=tmp_path, within=nodes.entering)
        end = time.monotonic() + 120
        while not list((tmp_path / "results/sweep/checkpoints").glob("*/last.ckpt")) and time.monotonic() < end:
            time.sleep(0.01)
        (busy,) = filter(measures, nodes.raylets)
        kill_with_all_below(busy)
        _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert "is lost: what ran there runs again" in err
    (log,) = (tmp_path / "results/sweep/logs").iterdir()
    assert re.fullmatch(r"goes on after update \d+ of 22 in epoch \d\n", log.read_text())
    code, _, err = run_in(tmp_path, "ablate", "-e", "sweep.yaml", "--results", "local")
    assert code == 0, err
    (ours,), (theirs,) = records_of(tmp_path), records_of(tmp_path, "local")
    assert ours["values"] == theirs["values"]
