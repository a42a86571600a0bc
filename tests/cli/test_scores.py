"""Weights through the command line: imported, scored, and told apart."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from full import full
from PIL import Image
from released import resnet_state, swin_state
from typer.testing import CliRunner, Result

from acmix_bench.backbones.saved import save_weights
from acmix_bench.backbones.weights import build, load_weights
from acmix_bench.cli import app
from acmix_bench.errors import UserError

OF_1000 = """
import torch
from torch.utils.data import TensorDataset
from acmix_bench.data import DataSet, Splits

def load(image_size, root):
    drawn = torch.Generator().manual_seed(0)
    images = torch.randn(3, 3, image_size, image_size, generator=drawn)
    labels = torch.randint(1000, (3,), generator=drawn)
    return Splits(train=TensorDataset(images, labels), test=TensorDataset(images, labels))

TINY = DataSet(summary="three images", load=load, channels=3, classes=1000)
"""


def asked(*words: object) -> Result:
    return CliRunner().invoke(app, list(map(str, words)))


@pytest.mark.parametrize(
    ("model", "state", "size"),
    [("resnet26-acmix", resnet_state, 128), pytest.param("swin-t-acmix", swin_state, 224, marks=full)],
)
def test_imported_weights_are_the_released_ones(model: str, state, size: int, tmp_path: Path) -> None:
    """Logits and scores are the same before and after, bit for bit."""
    (tmp_path / "tiny.py").write_text(OF_1000)
    before, after = tmp_path / "released.pth", tmp_path / "ours.safetensors"
    torch.save({"model": state()}, before)
    imported = asked("import-weights", before, "--model", model, "--out", after)
    count = len(build(model).state_dict())
    assert imported.output == f"{count} tensors in {after} (from 'model')\n"
    images, logits = torch.randn(1, 3, size, size), []
    for path in (before, after):
        network = build(f"{model}@{size}").eval()
        load_weights(network, path, model_name=model)
        with torch.no_grad():
            logits.append(network(images))
    assert torch.equal(*logits)
    numbers = []
    for path in (before, after):
        place = f"{tmp_path}/tiny.py:TINY"
        done = asked("evaluate", f"{model}@{size}", "--weights", path, "--data", place, "--json")
        assert done.exit_code == 0, done.output
        numbers.append({key: value for key, value in json.loads(done.stdout).items() if key != "weights"})
    assert numbers[0] == numbers[1]
    assert numbers[0]["images"] == 3


def test_a_training_is_scored_as_it_scored_itself(tmp_path: Path) -> None:
    """The best weights give the best top-1 of the log, by class too; another size or model is not taken for it."""
    run = tmp_path / "run"
    trained = asked("train", "--variant", "conv3x3", "--set", "epochs=1", "--set", "image_size=12", "--out", run)
    assert trained.exit_code == 0, trained.output
    top1 = trained.stdout.splitlines()[0]
    done = asked("evaluate", "nano-conv3x3", "--weights", run / "best.safetensors", "--per-class")
    assert done.exit_code == 0, done.output
    assert top1.split()[1] in done.stdout
    told = json.loads(
        asked("evaluate", "-v", "conv3x3", "-w", run / "best.safetensors", "--json", "--per-class").stdout
    )
    assert (told["image_size"], told["data"], told["images"]) == (12, "digits", 360)
    assert f"top-1 {100 * told['top1']:.2f} %" == top1
    assert sum(each["right"] for each in told["classes"]) == round(told["top1"] * 360)
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_a_model_of_ones_own_pictures_is_scored_and_names_their_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three colours, learned from a folder of pictures, then scored and predicted by the weights' file alone."""
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    for number, colour in enumerate(("blue", "green", "red")):
        Path("photos", colour).mkdir(parents=True)
        for picture in range(20):
            pixels = draw.integers(0, 90, (30, 40, 3), dtype=np.uint8)
            pixels[:, :, 2 - number] += 160
            Image.fromarray(pixels).save(f"photos/{colour}/{picture}.png")
    settings = [f"--set={setting}" for setting in ("data=folder:photos", "epochs=4", "train_batch=8", "workers=0")]
    trained = asked("train", "nano-conv3x3", *settings, "--out", "run")
    assert trained.exit_code == 0, trained.output
    done = asked("evaluate", "nano-conv3x3", "--weights", "run/best.safetensors", "--json", "--per-class")
    told = json.loads(done.stdout)
    assert told["data"] == "folder:photos"
    assert [each["class"] for each in told["classes"]] == ["blue", "green", "red"]
    assert told["top1"] == 1
    shutil.move("photos/red/0.png", "red.png")
    shutil.rmtree("photos")
    said = asked("predict", "--model", "nano-conv3x3", "--weights", "run/best.safetensors", "red.png")
    assert said.exit_code == 0, said.output
    assert said.stdout.splitlines()[1].endswith(" %  red")


def test_what_the_weights_tell_gives_way_to_what_is_set(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    told = {"model": "nano", "data": "digits", "image_size": "12", "interpolation": "bicubic", "crop": "0.5"}
    save_weights(build("nano").state_dict(), path, told)

    def scored(*more: str) -> tuple[object, ...]:
        found = json.loads(asked("evaluate", "nano", "-w", path, "--json", *more).stdout)
        return tuple(found[key] for key in ("image_size", "crop", "interpolation"))

    assert scored() == (12, 0.5, "bicubic")
    assert scored("--set", "image_size=10", "--set", "crop=0.9") == (10, 0.9, "bicubic")
    assert scored("--set", "recipe=resnet", "--set", "crop=1") == (12, 1, "bilinear")


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (["nano", "--data", "tiny.py:TINY"], r"wrong shape"),
        (["nano@10", "--set", "image_size=12"], r"leave out --set image_size=12"),
        (["nano-attention-only"], r"holds weights of nano, not of nano-attention-only"),
        (["nano", "--data", "digit"], r"unknown data set 'digit'; did you mean 'digits'"),
        (["operator-64"], r"is an operator alone"),
        (["nano", "--set", "device=gpu"], r"'gpu' is no device; write cpu, cuda, cuda:N"),
    ],
)
def test_mistakes_are_one_line(words: list[str], wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.py").write_text(OF_1000)
    save_weights(build("nano").state_dict(), tmp_path / "w.safetensors", {"model": "nano"})
    failed = asked("evaluate", *words, "--weights", "w.safetensors")
    assert isinstance(failed.exception, UserError)
    assert failed.stdout == ""
    with pytest.raises(UserError, match=wrong):
        raise failed.exception


@pytest.mark.parametrize(("most", "told"), [(4, "goes on with 4 images a batch"), (0, "for a single image")])
def test_where_memory_runs_out_batches_are_halved(
    most: int, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that cannot take more than so many images stands for a memory that cannot."""
    save_weights(build("nano").state_dict(), tmp_path / "w.safetensors", {"model": "nano"})
    forward = torch.nn.Sequential.forward

    def limited(self: torch.nn.Sequential, x: torch.Tensor) -> torch.Tensor:
        if len(x) > most:
            raise torch.OutOfMemoryError("out of memory")
        return forward(self, x)

    whole = asked("evaluate", "nano", "-w", tmp_path / "w.safetensors", "--json").stdout
    monkeypatch.setattr(torch.nn.Sequential, "forward", limited)
    done = asked("evaluate", "nano", "-w", tmp_path / "w.safetensors", "--json")
    assert told in done.stderr + str(done.exception)
    if most:
        assert json.loads(done.stdout)["top1"] == json.loads(whole)["top1"]


def test_answers_that_are_not_finite_are_no_score(tmp_path: Path) -> None:
    state = build("nano").state_dict()
    state["4.2.weight"].fill_(torch.finfo(torch.float32).max)
    save_weights(state, tmp_path / "w.safetensors", {"model": "nano"})
    failed = asked("evaluate", "nano", "--weights", tmp_path / "w.safetensors")
    assert "answers to 360 of 360 images are not finite in dtype=float32" in str(failed.exception)
