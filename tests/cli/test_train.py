"""`train` from the shell: killed and gone on with, ended gently, in two processes, and its messages."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from full import full
from safetensors.torch import load_file
from typer.testing import CliRunner

from acmix_bench.cli import app
from acmix_bench.errors import UserError
from acmix_bench.spec import library

SMALL = """
from torch import nn
from acmix_bench.backbones import Backbone


def build(operator, *, in_channels, num_classes, image_size):
    return nn.Sequential(
        nn.Conv2d(in_channels, 16, 3, padding=1), nn.GroupNorm(1, 16), nn.ReLU(), operator(16, 16, stride=1),
        nn.Dropout(0.1), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, num_classes),
    )


small = Backbone(summary="no norm of it looks at the batch", build=build, image_size=8)
"""
FEW = """
import numpy
from PIL import Image
from acmix_bench.data import DataSet, Splits


def load(image_size, root):
    drawn = numpy.random.default_rng(0).integers(0, 255, (24, 40, 50, 3), dtype=numpy.uint8)
    pairs = [(Image.fromarray(pixels), number % 3) for number, pixels in enumerate(drawn)]
    return Splits(train=pairs[:16], test=pairs[16:])


few = DataSet(summary="noise", load=load, channels=3, classes=3)
"""
COMMAND = [sys.executable, "-m", "acmix_bench"]
TRAIN = ["train", "small.py:small-acmix", "--set", "epochs=3", "--set", "threads=1", "--out"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds a small backbone, and what an undisturbed training of it leaves."""
    place = tmp_path_factory.mktemp("a folder")
    (place / "small.py").write_text(SMALL)
    ran = run(place, *TRAIN, "whole")
    assert ran.returncode == 0, ran.stderr
    assert "top-1" in ran.stdout
    return place


def run(folder: Path, *arguments: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *before, "-m", "acmix_bench"] if before else COMMAND
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo"}
    return subprocess.run(
        [*command, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def log_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open() as file:
        return [{key: row[key] for key in ("epoch", "loss", "top1", "alpha_1")} for row in csv.DictReader(file)]


@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGKILL, -signal.SIGKILL), pytest.param(signal.SIGINT, 130, marks=full)]
)
def test_a_training_that_was_ended_goes_on_bit_for_bit(folder: Path, sent: signal.Signals, code: int) -> None:
    name = f"ended by {sent.name}"
    process = subprocess.Popen(
        [*COMMAND, *TRAIN, name], cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    end = time.monotonic() + 120
    while not (folder / name / "last.ckpt").exists() and time.monotonic() < end:
        time.sleep(0.01)
    process.send_signal(sent)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    if code == 130:
        assert err.endswith(f"interrupted: a checkpoint is in {name}; the same command with --resume goes on\n")
    assert (
        run(folder, *TRAIN, name).stderr
        == f"error: {name}: holds a training; --resume goes on with it, or choose another --out\n"
    )
    resumed = run(folder, *TRAIN, name, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert log_of(folder / name) == log_of(folder / "whole")
    ours, theirs = (load_file(folder / place / "last.safetensors") for place in (name, "whole"))
    assert ours.keys() == theirs.keys()
    assert all(ours[key].equal(theirs[key]) for key in ours)
    assert not [path for path in (folder / name).iterdir() if path.name.startswith(".")]


@full
def test_two_processes_learn_what_one_does(folder: Path) -> None:
    """Same batches, same order. Dropout draws for each process, so it is left out."""
    (folder / "still.py").write_text(SMALL.replace("nn.Dropout(0.1)", "nn.Identity()"))
    train = [
        "train",
        "still.py:small-acmix",
        "--set",
        "epochs=2",
        "--set",
        "threads=2",
        "--set",
        "dtype=float64",
        "--out",
    ]
    launcher = ("torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", "2")
    together = run(folder, *train, "together", before=launcher)
    assert together.returncode == 0, together.stderr
    assert together.stdout.count("top-1") == 1
    alone = run(folder, *train, "alone")
    assert alone.returncode == 0, alone.stderr
    for ours, theirs in zip(log_of(folder / "together"), log_of(folder / "alone"), strict=True):
        assert float(ours["loss"]) == pytest.approx(float(theirs["loss"]), rel=1e-9)
        assert float(ours["top1"]) == float(theirs["top1"])
        assert float(ours["alpha_1"]) == pytest.approx(float(theirs["alpha_1"]), rel=1e-9)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nano", "-v", "acmix"], "give a model or a variant, not both"),
        (["nano@14", "--set", "image_size=28"], "write the size as nano@SIZE"),
        (["--resume"], "--resume: say which folder with --out"),
        (["--set", "recipe=swim"], "unknown recipe 'swim'; did you mean 'swin'?"),
        (["--set", "recipe=swin"], "nano has no stochastic depth"),
        (["--out", "small.py"], "small.py: cannot be made"),
        (["--set", "train_batch=2000"], "there are only 1437 images to train on"),
    ],
)
def test_a_mistake_is_one_line(folder: Path, arguments: list[str], told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    answer = CliRunner().invoke(app, ["train", *arguments])
    assert isinstance(answer.exception, UserError)
    assert told in str(answer.exception)
    assert "\n" not in str(answer.exception)


@pytest.mark.parametrize("name", sorted(library.known("recipe")))
def test_every_recipe_trains(name: str, tmp_path: Path) -> None:
    """One epoch of it, on a backbone that has what it asks for, in passes that this memory takes."""
    model = {"swin": "swin-t-acmix@56", "pvt": "pvt-t@32"}.get(name, "nano-acmix")
    still = ["drop_path=0"] * (name in ("upernet", "coco-3x"))  # which nano has not
    settings = [f"recipe={name}", *still, "epochs=1", "train_batch=8", "threads=2", f"data={tmp_path}/few.py:few"]
    (tmp_path / "few.py").write_text(FEW)
    answer = CliRunner().invoke(app, ["train", model, *(part for one in settings for part in ("--set", one))])
    assert answer.exit_code == 0, answer.exception
    assert answer.stdout.startswith("top-1")
