"""Segmentation and detection as a user runs them: own data, training, going on, scores, drawings, a sweep."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from full import full
from layouts import cocofile, segfolder
from package import run_in
from PIL import Image
from typer.testing import CliRunner

from acmix_bench.cli import app
from acmix_bench.errors import UserError
from acmix_bench.heads import HEADS

SMALL = ("--set", "epochs=2", "--set", "train_batch=2", "--set", "threads=1", "--set", "workers=0")


@pytest.mark.parametrize(
    ("head", "made", "score"),
    [("semantic-fpn", segfolder, "mIoU"), pytest.param("retinanet", cocofile, "box AP", marks=full)],
)
def test_from_ones_own_pictures_to_a_drawing(head: str, made, score: str, tmp_path: Path) -> None:
    made(tmp_path / "my pictures")
    place = f"data={made.__name__}:my pictures"
    model = f"nano-pyramid-acmix+{head}@64"
    code, out, err = run_in(tmp_path, "train", model, "--set", place, *SMALL, "--out", "run")
    assert code == 0, err
    assert out.startswith(score)
    with (tmp_path / "run/log.csv").open() as file:
        epochs = list(csv.DictReader(file))
    first = {"mIoU": "miou", "box AP": "box_ap"}[score]
    assert list(epochs[0])[:3] == ["epoch", "loss", first]
    assert len(epochs) == 2
    code, again, err = run_in(tmp_path, "train", model, "--set", place, *SMALL, "--out", "run", "--resume")
    assert (code, again) == (0, out), err
    weights = ("--weights", "run/last.safetensors")
    code, told, err = run_in(tmp_path, "evaluate", model, *weights, "--set", place, "--set", "threads=1", "--json")
    assert code == 0, err
    assert json.loads(told)[first] == pytest.approx(float(epochs[-1][first]))
    pictures = sorted(path for path in (tmp_path / "my pictures").rglob("*") if path.suffix in (".jpg", ".png"))
    picture = next(path for path in pictures if "labels" not in path.parts)
    (tmp_path / "broken.jpg").write_text("no picture")
    code, told, err = run_in(tmp_path, "predict", str(picture), "broken.jpg", "-m", model, *weights, "-o", "drawn")
    assert code == 1
    assert "broken.jpg" in err
    assert told.startswith(f"drawn/{picture.stem}.png: ")
    drawn = np.asarray(Image.open(tmp_path / f"drawn/{picture.stem}.png"))
    assert drawn.shape[:2] == np.asarray(Image.open(picture)).shape[:2]


def test_what_does_not_fit_is_one_line() -> None:
    for arguments, told in (
        (("train", "nano-pyramid+upernet", "--set", "data=digits"), "digits"),
        (("predict", "a.png", "-m", "nano-pyramid+retinanet", "-w", "w.safetensors"), "say with --out"),
        (("ablate", "-v", "acmix", "--set", "meters=miou"), "miou is of models that segment"),
        (("ablate", "-v", "acmix", "--set", "head=upernet"), "nano has no four stages"),
        (("flops", "resnet50-acmix+semantic-fpn@64"), "use an image of 128 pixels each way or more"),
    ):
        ended = CliRunner().invoke(app, arguments)
        assert isinstance(ended.exception, UserError), arguments
        assert told in str(ended.exception)
        assert "\n" not in str(ended.exception)


@full
def test_variants_of_a_backbone_are_compared_under_a_head(tmp_path: Path) -> None:
    segfolder(tmp_path / "mine")
    case = ("backbone=nano-pyramid", "head=semantic-fpn", "data=segfolder:mine", "image_size=64")
    protocol = ("meters=params,macs,miou", "seeds=1", "epochs=1", "train_batch=2", "threads=1", "workers=0")
    settings = [part for one in (*case, *protocol) for part in ("--set", one)]
    code, out, err = run_in(tmp_path, "ablate", "-v", "operator=conv", *settings)
    assert code == 0, err
    assert "mIoU %" in out
    assert "operator=conv" in out


@full
@pytest.mark.parametrize("head", sorted(HEADS))
def test_two_processes_train_together(head: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every parameter has a gradient in each update: several processes wait for all of them."""
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    launch = ("--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", "2", "--no-python")
    made = segfolder if HEADS[head].task == "segment" else cocofile
    made(tmp_path / "mine")
    train = ("train", f"nano-pyramid-acmix+{head}@64", "--set", f"data={made.__name__}:mine", *SMALL)
    code, out, err = run_in(tmp_path, *train, within=(sys.executable, "-m", "torch.distributed.run", *launch))
    if head == "upernet":  # its coarsest map has one pixel
        assert (code, "upernet needs a batch of 2 images or more a process" in err) == (1, True)
        return
    assert code == 0, err
    assert out.count("mIoU" if made is segfolder else "box AP") == 1
