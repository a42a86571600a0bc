"""All that a training on ImageNet uses, on a thousand classes of tiny images: run by `nox -s full`, some minutes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from full import full
from PIL import Image

LAUNCH = ["torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", "2"]
SETTINGS = ("recipe=swin", "epochs=2", "train_batch=40", "accumulate=2", "ema=0.99", "dtype=bfloat16", "decay=weights")


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900, check=False
    )


@full
def test_imagenet_is_trained_on_by_two_processes_killed_resumed_and_evaluated(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for part in ("train", "val"):
        for number in range(1000):
            folder = tmp_path / "data" / "imagenet" / part / f"n{number:08d}"
            folder.mkdir(parents=True)
            Image.fromarray(random.integers(0, 255, (40, 48, 3), dtype=np.uint8)).save(folder / "one.JPEG")
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    train = [*LAUNCH, "-m", "acmix_bench", "train", "swin-t-acmix@56", *settings, "--out"]
    whole = run(tmp_path, *train, "whole")
    assert whole.returncode == 0, whole.stderr

    command = [sys.executable, "-m", *train, "killed"]
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo"}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True)
    end = time.monotonic() + 600
    while not (tmp_path / "killed" / "last.ckpt").exists() and time.monotonic() < end:
        time.sleep(0.1)
    os.killpg(process.pid, 9)
    process.wait()
    subprocess.run(["pkill", "-9", "-f", "--", "--out killed"], check=False)
    resumed = run(tmp_path, *train, "killed", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "goes on after update 0 of 25 in epoch 2" in resumed.stderr
    whole_log, resumed_log = (
        [line.split(",")[:7] for line in (tmp_path / name / "log.csv").read_text().splitlines()]
        for name in ("whole", "killed")
    )
    assert whole_log[0] == ["epoch", "loss", "top1", "top5", "cross_entropy", "calibration_error", "learning_rate"]
    assert whole_log == resumed_log

    scored = run(tmp_path, "acmix_bench", "evaluate", "swin-t-acmix@56", "--weights", "killed/last.safetensors")
    assert scored.returncode == 0, scored.stderr
    assert "1,000" in scored.stdout
