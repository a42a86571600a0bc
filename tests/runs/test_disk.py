"""A sweep on a real disk that fills up, or that may no longer be written: a small tmpfs in a namespace of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from full import full
from package import ROOT, run_in, start

WORDS = dict.fromkeys(("question", "source", "command", "time", "expected"), "a test")
SEEDS = 8
COMMAND = ("ablate", "-e", "sweep.yaml")


def in_a_namespace(case: str, folder: Path) -> None:
    """Run one of the functions below where it may mount."""
    mount = ["unshare", "--user", "--map-root-user", "--mount"]
    tried = ["sh", "-c", f"mount -t tmpfs tmpfs {ROOT / 'tests'}"]
    if not shutil.which("unshare") or subprocess.run([*mount, *tried], capture_output=True).returncode:
        pytest.skip("no namespace can be made here in which a disk may be mounted")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    command = [*mount, sys.executable, __file__, case]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@full
def test_a_full_disk_keeps_what_was_written_and_the_sweep_goes_on(tmp_path: Path) -> None:
    in_a_namespace("fills_up", tmp_path)


@full
def test_a_folder_that_turns_read_only_keeps_what_was_written(tmp_path: Path) -> None:
    in_a_namespace("turns_read_only", tmp_path)


def prepare() -> Path:
    """A sweep in the working folder, and an empty disk of 256 KiB for its results."""
    Path("mine.py").write_text((ROOT / "tests" / "sweep_of_mine.py").read_text())
    content = {"baseline": "conv3x3", "meters": ["mine.py:COUNT"], "protocol": {"threads": 1, "seeds": SEEDS}}
    Path("sweep.yaml").write_text(yaml.safe_dump({**WORDS, **content}))
    disk = Path("results")
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], check=True)
    return disk


def refused(reason: str, code: int, err: str) -> None:
    line = f"error: results/sweep: cannot be written ({reason}); choose another folder with --results"
    assert (code, err.splitlines()[-1]) == (2, line), err
    assert "Traceback" not in err


def goes_on_as_if_nothing_had_been(kept: int) -> None:
    """The rest is measured, and the table is an undisturbed run's."""
    code, out, err = run_in(Path(), *COMMAND)
    assert code == 0, err
    assert f"{kept} of {SEEDS} cells were measured before and are kept" in err or kept in (0, SEEDS), err
    keys = [record["key"] for record in records()]
    assert len(keys) == len(set(keys)) == SEEDS
    code, whole, err = run_in(Path(), *COMMAND, "--results", "whole")
    assert code == 0, err
    out, whole = (re.sub(r"\s+", " ", re.sub(r"cells\s+in .*", "", text)) for text in (out, whole))
    assert out.replace("results/", "whole/") == whole


def records() -> list[dict]:
    """All records, each line whole."""
    path = Path("results/sweep/records.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def fills_up() -> None:
    disk = prepare()
    process = start(*COMMAND, folder=Path())
    while not records() and process.poll() is None:
        time.sleep(0.01)
    with (disk / "other").open("wb", buffering=0) as other:
        try:
            while True:
                other.write(bytes(1024))
        except OSError:
            pass
    _, err = process.communicate(timeout=100)
    refused("No space left on device", process.returncode, err)
    kept = len(records())
    assert 0 < kept < SEEDS, kept
    (disk / "other").unlink()
    goes_on_as_if_nothing_had_been(kept)


def turns_read_only() -> None:
    disk = prepare()
    process = start(*COMMAND, folder=Path())
    while not records() and process.poll() is None:
        time.sleep(0.01)
    subprocess.run(["mount", "--bind", str(disk), str(disk)], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", str(disk)], check=True)
    _, err = process.communicate(timeout=100)
    refused("Read-only file system", process.returncode, err)
    kept = len(records())
    code, _, err = run_in(Path(), *COMMAND)
    refused("Read-only file system", code, err)
    subprocess.run(["umount", str(disk)], check=True)
    assert len(records()) == kept
    goes_on_as_if_nothing_had_been(kept)


if __name__ == "__main__":
    {"fills_up": fills_up, "turns_read_only": turns_read_only}[sys.argv[1]]()
