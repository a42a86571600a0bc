"""What is said of pictures: as many as there are, in their order, whatever one of them is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from released import resnet_state
from torch import nn
from torchvision.transforms import v2 as transforms
from typer.testing import CliRunner

from acmix_bench.backbones import predict as module
from acmix_bench.backbones.predict import IMAGENET, predict
from acmix_bench.backbones.saved import save_weights
from acmix_bench.backbones.weights import build, import_weights
from acmix_bench.cli import app
from acmix_bench.errors import UserError


def pictures(folder: Path, count: int) -> list[Path]:
    draw = np.random.default_rng(0)
    paths = [folder / f"{number}.png" for number in range(count)]
    for path in paths:
        Image.fromarray(draw.integers(0, 255, (50, 70, 3), dtype=np.uint8)).save(path)
    return paths


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resnet")
    torch.save(resnet_state(), folder / "released.pth")
    import_weights(folder / "released.pth", "resnet26-acmix", folder / "w.safetensors")
    return folder / "w.safetensors"


def test_predict_names_the_likely_classes(resnet: Path, tmp_path: Path) -> None:
    (answer,) = predict("resnet26-acmix@64", resnet, pictures(tmp_path, 1))
    assert len(answer.classes) == 5
    assert all(name in IMAGENET for name, _ in answer.classes)
    assert [p for _, p in answer.classes] == sorted((p for _, p in answer.classes), reverse=True)


def test_weights_that_do_not_fit_are_refused_before_any_answer(resnet: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds weights of resnet26-acmix, not of resnet26$"):
        predict("resnet26", resnet, [])
    with pytest.raises(UserError, match="it has no classes"):
        predict("operator-64-acmix", resnet, [])
    (tmp_path / "w.txt").write_text("no weights")
    with pytest.raises(UserError, match=r"w\.txt: is not a checkpoint"):
        predict("resnet26-acmix", tmp_path / "w.txt", [])
    save_weights(build("nano").state_dict(), tmp_path / "nano.safetensors", {"model": "nano", "data": "digits"})
    with pytest.raises(UserError, match="digits has images of its own making; no picture can be made into one"):
        predict("nano", tmp_path / "nano.safetensors", [])


def test_a_broken_picture_holds_up_no_other(resnet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And batches change nothing but the last digits."""
    paths = pictures(tmp_path, 5)
    alone = [next(iter(predict("resnet26-acmix@128", resnet, [path]))) for path in paths]
    paths[2].write_text("no image")
    paths[3].unlink()
    monkeypatch.setattr(module, "BATCH", 2)
    answers = list(predict("resnet26-acmix@128", resnet, [*paths, paths[0]]))
    assert [answer.path for answer in answers] == [*paths, paths[0]]
    assert [bool(answer.problem) for answer in answers] == [False, False, True, True, False, False]
    assert "2.png: cannot be read (no image" in answers[2].problem
    assert "3.png: cannot be read (No such file" in answers[3].problem
    for answer, single in zip(
        (answers[0], answers[1], answers[4], answers[5]), (*alone[:2], alone[4], alone[0]), strict=True
    ):
        assert [name for name, _ in answer.classes] == [name for name, _ in single.classes]
        assert [p for _, p in answer.classes] == pytest.approx([p for _, p in single.classes], rel=1e-4)


def test_a_trained_model_gets_pictures_as_in_its_training(tmp_path: Path) -> None:
    """Grey ones of its size, crop and colours, and its classes' names; against torchvision's steps, one by one."""
    model = build("nano-acmix@20", channels=1, classes=3)
    for module_ in model.modules():
        if isinstance(module_, nn.BatchNorm2d):
            module_.running_mean.normal_()
    told = {"model": "nano-acmix", "data": "folder:gone", "image_size": "20", "interpolation": "bicubic", "crop": "0.5"}
    told |= {"mean": "[0.3]", "deviation": "[0.2]", "classes": json.dumps(["a", "b", "c"])}
    save_weights(model.state_dict(), tmp_path / "w.safetensors", told)
    (path,) = pictures(tmp_path, 1)
    (answer,) = predict("nano-acmix", tmp_path / "w.safetensors", [path])
    grey = Image.open(path).convert("L")
    resized = transforms.functional.resize(grey, [40], transforms.InterpolationMode.BICUBIC, antialias=True)
    pixels = torch.tensor(np.asarray(transforms.functional.center_crop(resized, [20, 20])) / 255, dtype=torch.float32)
    with torch.no_grad():
        wanted = model.eval()((pixels[None, None] - 0.3) / 0.2)[0].softmax(-1)
    assert dict(answer.classes) == pytest.approx(dict(zip("abc", wanted.tolist(), strict=True)), rel=1e-4)


@pytest.mark.parametrize(("model", "mode"), [("swin-t", "bicubic"), ("resnet26", "bilinear"), ("pvt-t", "bicubic")])
def test_the_papers_way_of_resizing_is_taken(
    model: str, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    original = module.to_test
    monkeypatch.setattr(module, "to_test", lambda recipe, *more: asked.append(recipe) or original(recipe, *more))
    save_weights(build(model).state_dict(), tmp_path / "w.safetensors", {"model": model})
    predict(model, tmp_path / "w.safetensors", [])
    assert [recipe.interpolation for recipe in asked] == [mode]


def test_answers_that_are_not_finite_are_told(tmp_path: Path) -> None:
    state = build("resnet26").state_dict()
    state["fc.weight"].fill_(torch.finfo(torch.float32).max)  # finite itself
    save_weights(state, tmp_path / "w.safetensors", {"model": "resnet26"})
    (answer,) = predict("resnet26@32", tmp_path / "w.safetensors", pictures(tmp_path, 1))
    assert answer.problem.endswith("0.png: the model's answer is not finite")
    assert not answer.classes


def test_memory_does_not_grow_with_the_pictures(resnet: Path, tmp_path: Path) -> None:
    """Ten times as many take no more: the first answer comes before the rest are opened."""
    taken = []

    def few(paths: list[Path]):
        for path in paths:
            taken.append(path)
            yield path

    answers = predict("resnet26-acmix@128", resnet, few(pictures(tmp_path, 40)))
    next(answers)
    assert len(taken) == module.BATCH


def test_the_command_ends_with_1_and_all_other_answers(resnet: Path, tmp_path: Path) -> None:
    good, bad = pictures(tmp_path, 2)
    bad.write_text("no image")
    command = ["predict", str(bad), str(good), "--model", "resnet26-acmix@128", "--weights", str(resnet)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 1
    assert done.stdout.startswith(f"{good}\n")
    assert done.stdout.count("%") == 5
    assert done.stderr.splitlines()[0].startswith(f"error: {bad}: cannot be read")
    assert done.stderr.splitlines()[1:] == ["1 of 2 images have no answer"]
