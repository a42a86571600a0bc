"""Pictures with label maps: ADE20K's layout and one's own folders, and what is refused of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from layouts import ade20k, segfolder
from PIL import Image

from acmix_bench import data
from acmix_bench.errors import UserError
from acmix_bench.runs.contract_data import promises


def refused(name: str, place: Path, root: str = "data") -> str:
    with pytest.raises(UserError) as caught:
        splits = data.load(name, 8, root)
        _ = [*splits.train, *splits.test]
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(place), "PATH")


def test_ade20k_counts_from_one_and_ignores_zero(tmp_path: Path) -> None:
    place = ade20k(tmp_path)
    splits = data.load("ade20k", 512, str(tmp_path))
    assert (len(splits.train), len(splits.test)) == (2, 1)
    image, labels = splits.test[0]
    assert (image.mode, image.size, labels.mode) == ("RGB", (9, 6), "L")
    numbers = np.asarray(labels)
    assert (numbers[0, 0], numbers[3, 3], numbers[5, 8], numbers[0, 8]) == (255, 6, 149, 0)
    broken = place / "annotations" / "training" / "scene 1.png"
    Image.fromarray(np.full((6, 9), 151, np.uint8)).save(broken)
    assert refused("ade20k", place, str(tmp_path)) == (
        "PATH/annotations/training/scene 1.png: holds class 151; it must be 1 to 150"
    )
    assert "no such folder; unpack ADEChallengeData2016.zip" in refused("ade20k", place, str(tmp_path / "nowhere"))


def test_names_of_ade20k_come_from_its_own_file(tmp_path: Path) -> None:
    place = ade20k(tmp_path)
    lines = [f"{number}\t0.1\t9\t9\t0\tthing {number}, object" for number in range(1, 151)]
    told = place / "objectInfo150.txt"
    told.write_text("\n".join(["Idx\tRatio\tTrain\tVal\tStuff\tName", *lines]) + "\n")
    names = data.load("ade20k", 512, str(tmp_path)).class_names
    assert (len(names), names[0], names[149]) == (150, "thing 1", "thing 150")
    told.write_text("\n".join(lines[:3]))
    assert (
        refused("ade20k", place, str(tmp_path))
        == "PATH/objectInfo150.txt: has 2 classes, and must have 150, a line each"
    )


def test_folders_of_pairs(tmp_path: Path) -> None:
    place = segfolder(tmp_path / "streets")
    name = f"segfolder:{place}"
    entry, splits = data.find(name), data.load(name, 8, "data")
    assert (entry.classes, entry.task, splits.class_names) == (3, "segment", ("class 0", "class 1", "class 2"))
    assert np.asarray(splits.train[0][1])[0].tolist() == [255] + [0] * 8
    assert np.unique(splits.test[0][1]).tolist() == [0, 2, 255]
    (place / "classes.txt").write_text("road\nsky\ncar\ntree\n")
    assert data.find(name).classes == 4
    assert data.load(name, 8, "data").class_names == ("road", "sky", "car", "tree")
    assert all(promise.holds for promise in promises(name, "data"))
    (place / "classes.txt").write_text("road\nsky\n")
    assert refused(name, place) == (
        "PATH/labels/val/scene 0.png: holds class 2; it must be 0 to 1, or 255 where it is ignored"
    )
    told = {promise.name: promise for promise in promises(name, "data")}
    assert told["loads"].holds is False


def test_pairs_may_lie_deeper_and_hidden_files_are_passed_over(tmp_path: Path) -> None:
    place = segfolder(tmp_path)
    for kind, suffix in (("images", ".jpg"), ("labels", ".png")):
        (place / kind / "val" / "a city").mkdir()
        (place / kind / "val" / f"scene 0{suffix}").rename(place / kind / "val" / "a city" / f"scene 0{suffix}")
        (place / kind / "val" / f"._scene 1{suffix}").write_bytes(b"of a Mac")
    assert len(data.load(f"segfolder:{place}", 8, "data").test) == 2


def test_other_files_are_another_measurement(tmp_path: Path) -> None:
    place = segfolder(tmp_path / "one")
    seen = [data.fingerprint(f"segfolder:{place}")]
    for change in (
        lambda: (place / "classes.txt").write_text("a\nb\nc\n"),
        lambda: (place / "classes.txt").write_text("a\nc\nb\n"),
        lambda: Image.fromarray(np.eye(60, 90, dtype=np.uint8)).save(place / "labels" / "train" / "scene 0.png"),
        lambda: Image.new("RGB", (90, 60), (9, 99, 200)).save(place / "images" / "train" / "scene 0.jpg"),
    ):
        change()
        seen.append(data.fingerprint(f"segfolder:{place}"))
    assert len(set(seen)) == len(seen)
    shutil.copytree(place, tmp_path / "two")
    assert data.fingerprint(f"segfolder:{tmp_path / 'two'}") == seen[-1]


def spoiled(name: str, change: Callable[[Path], object]) -> pytest.param:  # type: ignore[valid-type]
    return pytest.param(change, name, id=name)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        spoiled("PATH/labels/val: no label maps for 1", lambda p: (p / "labels/val/scene 1.png").unlink()),
        spoiled("PATH/images/train: no images for 1", lambda p: (p / "images/train/scene 1.jpg").unlink()),
        spoiled(
            "PATH/labels/train: cannot be read (No such file or directory)", lambda p: shutil.rmtree(p / "labels/train")
        ),
        spoiled("PATH/images: holds train, but neither val nor test", lambda p: shutil.rmtree(p / "images/val")),
        spoiled("cannot be read (no image", lambda p: (p / "labels/val/scene 0.png").write_bytes(b"no picture")),
        spoiled(
            "is of 4x4 pixels, and its image of 9x6",
            lambda p: Image.new("L", (4, 4)).save(p / "labels/train/scene 1.png"),
        ),
        spoiled("a picture of mode RGB", lambda p: Image.new("RGB", (9, 6)).save(p / "labels/train/scene 1.png")),
        spoiled(
            "holds numbers that are no classes",
            lambda p: Image.fromarray(np.full((6, 9), 300, np.uint16)).save(p / "labels/train/scene 1.png"),
        ),
        spoiled("another file has this name", lambda p: Image.new("RGB", (9, 6)).save(p / "images/val/scene 1.bmp")),
        spoiled("classes.txt: holds a twice", lambda p: (p / "classes.txt").write_text("a\nb\na\n")),
        spoiled("classes.txt: holds 1 classes", lambda p: (p / "classes.txt").write_text("a\n")),
        spoiled("classes.txt: is not a text file", lambda p: (p / "classes.txt").write_bytes(b"\xff\xfe")),
    ],
)
def test_broken_folders_are_told_in_one_line(change: Callable[[Path], object], told: str, tmp_path: Path) -> None:
    place = segfolder(tmp_path)
    change(place)
    assert told in refused(f"segfolder:{place}", place)


def test_a_palette_is_read_by_its_numbers(tmp_path: Path) -> None:
    place = segfolder(tmp_path)
    path = place / "labels/train/scene 0.png"
    numbers = np.arange(54, dtype=np.uint8).reshape(6, 9) % 3
    palette = Image.fromarray(numbers)
    palette.putpalette([200, 10, 10, 10, 200, 10, 10, 10, 200])
    assert palette.mode == "P"
    palette.save(path)
    assert np.array_equal(np.asarray(data.load(f"segfolder:{place}", 8, "data").train[0][1]), numbers)
