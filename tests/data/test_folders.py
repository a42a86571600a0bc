"""Pictures in folders, a folder a class: what is read of them, in which order, and what is refused."""

from __future__ import annotations

import shutil
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from layouts import COLOURS, folders, imagenet
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS

from acmix_bench import ablate, backbones, data
from acmix_bench.data.tree import SUFFIXES, fingerprint
from acmix_bench.errors import UserError
from acmix_bench.runs import code
from acmix_bench.runs.code import code_of, look_again
from acmix_bench.spec.cell import Row
from acmix_bench.spec.library import load_experiment, load_variant, with_settings


def load(place: Path) -> data.Splits:
    return data.load(f"folder:{place}", 8, "data")


def refused(place: Path) -> str:
    with pytest.raises(UserError) as caught:
        load(place)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(place), "PATH")


@pytest.mark.parametrize("tests", ["val", "test"])
def test_two_folders_are_read_as_they_are(tests: str, tmp_path: Path) -> None:
    place = tmp_path / "my photos"
    folders(place / "train")
    folders(place / tests, each=2)
    entry, splits = data.find(f"folder:{place}"), load(place)
    assert (entry.channels, entry.classes, splits.class_names) == (3, 3, tuple(COLOURS))
    assert (len(splits.train), len(splits.test)) == (15, 6)
    assert tests in splits.told
    for part in (splits.train, splits.test):
        for image, label in part:
            assert (image.mode, image.getpixel((0, 0))) == ("RGB", COLOURS[splits.class_names[label]])


def test_one_folder_is_split_the_same_way_every_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    folders(tmp_path / "photos", each=10)
    splits = load(Path("~/photos"))
    test = {file for file, _ in splits.test.files}
    assert (len(splits.train), len(test)) == (24, 6)
    assert not test & {file for file, _ in splits.train.files}
    assert set(Counter(label for _, label in splits.test.files).values()) == {2}, "stratified"
    assert [Path(file).parent.name for file, _ in splits.test.files] == [
        splits.class_names[label] for _, label in splits.test.files
    ]
    assert "80 to 20" in splits.told
    copy = tmp_path / "elsewhere"
    shutil.copytree(tmp_path / "photos", copy)
    again = load(copy).test.files
    assert [Path(file).relative_to(copy) for file, _ in again] == [
        Path(file).relative_to(tmp_path / "photos") for file, _ in splits.test.files
    ]


def test_what_is_read_is_what_torchvision_reads(tmp_path: Path) -> None:
    assert set(SUFFIXES) == set(IMG_EXTENSIONS)
    train, _ = folders(tmp_path / "train"), folders(tmp_path / "val")
    Image.new("RGB", (4, 4)).save(train / "grass" / "LOUD.JPEG")
    (train / "grass" / "below").mkdir()
    Image.new("RGB", (4, 4)).save(train / "grass" / "below" / "deep.webp")
    (train / "grass" / "linked").symlink_to(train / "roses")
    (train / "grass" / "notes.txt").write_text("no picture")
    theirs = ImageFolder(str(train))
    assert sorted(load(tmp_path).train.files) == sorted(theirs.samples)
    # Unlike there, what is hidden is passed over: a Mac's ._ files, a notebook's checkpoints.
    (train / "grass" / "._picture 0.png").write_bytes(b"no picture")
    (train / ".ipynb_checkpoints").mkdir()
    folders(train / "grass" / ".thumbnails", {"small": (0, 0, 0)})
    assert sorted(load(tmp_path).train.files) == sorted(theirs.samples)


def test_classes_that_differ_are_refused(tmp_path: Path) -> None:
    train, val = folders(tmp_path / "train"), folders(tmp_path / "val")
    (val / "grass").rename(val / "gras")
    assert refused(tmp_path) == "PATH/val: other classes than in PATH/train: without grass, with gras"
    (val / "gras").rename(val / "grass")
    many = {f"more {number}": (number, 0, 0) for number in range(40)}
    folders(train, many, each=1)
    assert "without more 0, more 1," in refused(tmp_path)
    assert "30 more" in refused(tmp_path)


def test_folders_that_hold_no_data_set_are_refused(tmp_path: Path) -> None:
    assert refused(tmp_path / "nowhere") == "PATH: no such folder"
    (tmp_path / "file").touch()
    assert refused(tmp_path / "file") == "PATH: cannot be read (Not a directory)"
    assert refused(tmp_path) == "PATH: no folders of classes here"
    one = folders(tmp_path / "one", {"cat": (0, 0, 0)})
    assert refused(one).startswith("PATH: holds one class only, cat;")
    assert refused(one / "cat") == "PATH: holds pictures, but no folder a class"
    (one / "empty").mkdir()
    (one / "empty" / "note.heic").touch()
    assert refused(one).startswith("PATH: no pictures in empty (1 of 2 classes); files that end with .jpg,")
    Image.new("RGB", (4, 4)).save(one / "empty" / "a.png")
    assert refused(one) == "PATH: one picture only in empty, which cannot both train and test"
    folders(tmp_path / "alone/train")
    assert refused(tmp_path / "alone") == "PATH: holds train, but neither val nor test"
    folders(tmp_path / "other/test")
    assert refused(tmp_path / "other") == "PATH: holds test, but no train"
    with pytest.raises(UserError, match="write folder:PATH"):
        data.find("folder:")
    with pytest.raises(UserError, match=f"unknown data set '{one}'; for a folder of pictures write folder:{one}"):
        data.find(str(one))


def test_few_pictures_still_train_and_test_every_class(tmp_path: Path) -> None:
    many = {f"class {number:02d}": (number, 0, 0) for number in range(20)}
    splits = load(folders(tmp_path / "few", many, each=2))
    assert {label for _, label in splits.train.files} == {label for _, label in splits.test.files} == set(range(20))


def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    folders(tmp_path / "train")
    broken = folders(tmp_path / "val") / "grass" / "picture 0.png"
    broken.write_bytes(broken.read_bytes()[:50])
    splits = load(tmp_path)
    with pytest.raises(UserError, match=r"val/grass/picture 0.png: cannot be read \("):
        list(splits.test)


def test_other_pictures_are_another_measurement(tmp_path: Path) -> None:
    place = folders(tmp_path / "photos")
    case = backbones.case_of("nano", data=f"folder:{place}")
    row = Row(label="a", variant=load_variant("acmix"), case=case)

    def codes() -> tuple[str, str]:
        look_again(at_data=True)
        return code_of(row, "accuracy"), code_of(row, "params")

    before = codes()
    assert codes() == before
    (place / "grass" / ".hidden.png").touch()
    (place / "grass" / "notes.txt").touch()
    assert codes() == before
    picture = place / "grass" / "picture 0.png"
    picture.rename(place / "grass" / "renamed.png")
    after = codes()
    assert after[0] != before[0]
    assert after[1] == before[1], "parameters are no matter of pictures"
    (place / "grass" / "renamed.png").write_bytes(b"another size")
    assert codes()[0] != after[0]
    copy = tmp_path / "copy"
    shutil.copytree(place, copy)
    assert fingerprint(copy) == fingerprint(place)


def test_a_plan_looks_at_the_pictures_once_for_all_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, looks = folders(tmp_path / "photos"), []

    def look(name: str) -> str:
        looks.append(name)
        return "a look"

    monkeypatch.setattr(code, "_fingerprint", cache(look))
    experiment = with_settings(load_experiment("paths"), [f"data=folder:{place}"])
    ablate.plan_of(experiment, ablate.rows_of(experiment))
    assert looks == [f"folder:{place}"]


def test_imagenet_is_read_from_its_folders(tmp_path: Path) -> None:
    imagenet(tmp_path)
    splits = data.load("imagenet", 8, str(tmp_path))
    assert len(splits.train) == len(splits.test) == 1000
    image, label = splits.test[7]
    assert (image.size, image.getpixel((0, 0)), label) == ((9, 6), (7, 0, 0), 7)
    val = tmp_path / "imagenet" / "val"
    (val / "n00000007").rename(val / "n00009999")
    with pytest.raises(UserError, match=r"val: other classes than in .*train: without n00000007, with n00009999"):
        data.load("imagenet", 8, str(tmp_path))


def test_folders_that_are_not_imagenet_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"imagenet/train: no such folder.*--set data_root"):
        data.load("imagenet", 8, str(tmp_path))
    imagenet(tmp_path, classes=3)
    with pytest.raises(UserError, match="holds 3 classes, but ImageNet-1K has 1000"):
        data.load("imagenet", 8, str(tmp_path))
    val = tmp_path / "imagenet" / "val"
    shutil.rmtree(val)
    val.mkdir()
    Image.new("RGB", (4, 4)).save(val / "ILSVRC2012_val_00000001.JPEG")
    with pytest.raises(
        UserError, match=r"val: holds pictures, but no folder a class; remove val, put .* run python -c \"f"
    ):
        data.load("imagenet", 8, str(tmp_path))
