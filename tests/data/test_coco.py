"""COCO's layout, and one's own data in its format: what is read, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts import COCO_IDS, PACKED, RUNS, coco, cocofile
from pycocotools import mask as reference

from acmix_bench import data
from acmix_bench.errors import UserError
from acmix_bench.runs.contract_data import promises


def test_cocos_own_layout(tmp_path: Path) -> None:
    coco(tmp_path)
    splits = data.load("coco", 800, str(tmp_path))
    assert data.find("coco").classes == len(splits.class_names) == 80
    assert splits.class_names[11] == "thing 13", "ids have holes"
    assert len(splits.train) == 3, "of a crowd alone, no box of an area, and no object, nothing can be learnt"
    assert "3 training images without objects are left out" in splits.told
    assert len(splits.test) == 6
    assert [target["image_id"] for _, target in splits.test] == list(range(101, 107))
    assert [target["labels"].tolist() for _, target in splits.test] == [[80], [1], [2], [1], [], []]
    assert [target["iscrowd"].tolist() for _, target in splits.test] == [[0], [0], [0], [1], [], []]
    assert splits.test[5][1]["masks"].shape == (0, 6, 10)
    for image, target in splits.test:
        grey = 20 * target["image_id"] % 256
        assert image.mode == "RGB" and abs(int(np.asarray(image)[0, 0, 0]) - grey) <= 3, "grey and CMYK too"


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
def test_masks_are_those_of_the_reference(tmp_path: Path) -> None:
    """Of polygons, runs, and compressed runs; against pycocotools, and by hand."""
    place = cocofile(tmp_path)
    test = data.load(f"cocofile:{place}", 8, "data").test
    square = np.zeros((6, 10), np.uint8)
    square[1:5, 2:6] = 1
    corner = np.zeros((6, 10), np.uint8)
    corner[:2, :2] = 1
    assert np.array_equal(test[0][1]["masks"][0].numpy(), square)
    for number in (1, 2, 3):
        assert np.array_equal(test[number][1]["masks"][0].numpy(), corner)
    assert np.array_equal(reference.decode({"counts": PACKED.encode(), "size": [6, 10]}), corner)
    assert np.array_equal(reference.decode(reference.frPyObjects({"counts": RUNS, "size": [6, 10]}, 6, 10)), corner)
    content = json.loads((place / "val.json").read_text())
    random = np.random.default_rng(0)
    for one in content["annotations"]:
        polygons = [(random.uniform(-2, 12, 2 * corners)).tolist() for corners in (3, 7, 2)]
        one |= {"segmentation": polygons, "bbox": [0, 0, 10, 6]}
    (place / "val.json").write_text(json.dumps(content))
    changed = data.load(f"cocofile:{place}", 8, "data").test
    for (_, target), one in zip(changed, content["annotations"], strict=False):
        literal = reference.decode(reference.merge(reference.frPyObjects(one["segmentation"][:2], 6, 10)))
        assert np.array_equal(target["masks"][0].numpy(), literal)


@pytest.mark.parametrize("images", ["", "images"])
def test_ones_own_data_in_its_format(images: str, tmp_path: Path) -> None:
    name = f"cocofile:{cocofile(tmp_path, images)}"
    entry, splits = data.find(name), data.load(name, 8, "data")
    assert (entry.classes, entry.task) == (3, "detect")
    assert splits.class_names == ("thing 3", "thing 7", "thing 9")
    assert [target["labels"].tolist() for _, target in splits.train] == [[3], [1], [2]]
    assert splits.test[0][1]["boxes"].tolist() == [[2, 1, 6, 5]]
    assert splits.test[0][1]["area"].tolist() == [16]
    assert all(promise.holds for promise in promises(name, "data"))


def test_boxes_are_cut_at_the_edge(tmp_path: Path) -> None:
    place = cocofile(tmp_path)
    edited(place, lambda content: content["annotations"][0].update(bbox=[-3, -2, 20, 5]))
    edited(place, lambda content: content["annotations"][1].update(bbox=[12, 1, 3, 3]))
    test = data.load(f"cocofile:{place}", 8, "data").test
    assert test[0][1]["boxes"].tolist() == [[0, 0, 10, 3]]
    assert not len(test[1][1]["boxes"]), "beyond it"


def test_a_polygon_of_two_corners_has_no_pixels(tmp_path: Path) -> None:
    place = cocofile(tmp_path)
    edited(place, of("annotations", segmentation=[[2, 1, 6, 5]]))
    assert not data.load(f"cocofile:{place}", 8, "data").test[0][1]["masks"].any()


def test_boxes_without_masks(tmp_path: Path) -> None:
    place = cocofile(tmp_path)
    edited(place, lambda content: [one.update(segmentation=[]) for one in content["annotations"]])
    splits = data.load(f"cocofile:{place}", 8, "data")
    assert splits.told.endswith("objects have no masks")
    assert "masks" not in splits.train[0][1] and "masks" not in splits.test[0][1]


def edited(place: Path, change: Callable[[dict[str, Any]], object], file: str = "val.json") -> None:
    content = json.loads((place / file).read_text())
    change(content)
    (place / file).write_text(json.dumps(content))


def test_other_files_are_another_measurement(tmp_path: Path) -> None:
    place = cocofile(tmp_path / "one")
    seen = [data.fingerprint(f"cocofile:{place}")]
    edited(place, lambda content: content["annotations"][0].update(category_id=7))
    seen.append(data.fingerprint(f"cocofile:{place}"))
    (place / f"{101:012d}.jpg").write_bytes(b"another size")
    seen.append(data.fingerprint(f"cocofile:{place}"))
    assert len(set(seen)) == 3
    shutil.copytree(place, tmp_path / "two")
    assert data.fingerprint(f"cocofile:{tmp_path / 'two'}") == seen[-1]


def of(key: str, **changed: object) -> Callable[[dict[str, Any]], object]:
    return lambda content: content[key][0].update(changed)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (of("annotations", image_id=7), "PATH/val.json: annotation 201 is of an unknown image, 7"),
        (of("annotations", category_id=4), "PATH/val.json: annotation 201 is of an unknown category, 4"),
        (of("annotations", bbox=[1, 2, 3]), "PATH/val.json: annotation 201 has no box of four numbers"),
        (of("annotations", bbox=[1, 2, 3, float("nan")]), "annotation 201 has no box of four numbers"),
        (of("annotations", area="large"), "annotation 201 has an area that is no number"),
        (of("annotations", segmentation=[]), "annotation 201 has no segmentation, where others have one"),
        (of("annotations", segmentation=[[1, 2, 3, 4, 5, 6, 7]]), "is none (a polygon is a list of x and y in turns)"),
        (of("annotations", segmentation=[["a"] * 6]), "annotation 201 has a segmentation that is none (could not"),
        (of("annotations", segmentation={"counts": [5], "size": [9, 9]}), "is none (it is of [9, 9], and its image"),
        (of("annotations", segmentation={"counts": [999], "size": [6, 10]}), "annotation 201 has a segmentation that"),
        (of("annotations", segmentation={"counts": "z~~~", "size": [6, 10]}), "annotation 201 has a segmentation that"),
        (of("annotations", segmentation={"size": [6, 10]}), "annotation 201 has a segmentation that is none"),
        (of("annotations", segmentation=5), "annotation 201 has a segmentation that is none"),
        (of("annotations", image_id="x"), "PATH/val.json: annotations[0]: 'image_id' must be there, a whole number"),
        (of("images", file_name=5), "PATH/val.json: images[0]: 'file_name' must be there, a text"),
        (of("images", file_name="gone.jpg"), "PATH/gone.jpg: cannot be read (No such file or directory)"),
        (of("images", width=11), "PATH/000000000101.jpg: is of 10x6 pixels, and val.json says 11x6"),
        (of("images", id=102), "PATH/val.json: two images have the same id"),
        (of("categories", id=9), "PATH/val.json: two categories have the same id"),
        (of("categories", name="rose"), "PATH/val.json: other categories than in train.json: 3 "),
        (lambda content: content.update(categories=[]), "PATH/val.json: holds no categories"),
        (lambda content: content.update(images=[], annotations=[]), "PATH/val.json: holds no images"),
        (lambda content: content.pop("annotations"), "PATH/val.json: holds no list of annotations"),
        (lambda content: content.update(annotations=[5]), "PATH/val.json: annotations[0]: 'id' must be there"),
    ],
)
def test_broken_files_are_told_in_one_line(
    change: Callable[[dict[str, Any]], object], told: str, tmp_path: Path
) -> None:
    place = cocofile(tmp_path)
    edited(place, change)
    assert told in refused(place)


def refused(place: Path) -> str:
    with pytest.raises(UserError) as caught:
        list(data.load(f"cocofile:{place}", 8, "data").test)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(place), "PATH")


def test_what_is_no_json_is_refused(tmp_path: Path) -> None:
    place = cocofile(tmp_path)
    for content, told in (
        (b"", "PATH/train.json: is no JSON (Expecting value"),
        (b'{"images": [', "PATH/train.json: is no JSON (Expecting value"),
        (b"\xff\xfe\x00", "PATH/train.json: is no JSON ("),
        (b"[" * 200_000, "PATH/train.json: is nested too deeply"),
        (b"[1]", "PATH/train.json: holds no images, annotations and categories"),
    ):
        (place / "train.json").write_bytes(content)
        assert told in refused(place)
    (place / "train.json").unlink()
    assert refused(place) == "PATH/train.json: cannot be read (No such file or directory)"


def test_coco_that_is_not_there_or_another(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"coco: no such folder; COCO needs train2017, val2017"):
        data.load("coco", 8, str(tmp_path))
    place = coco(tmp_path)
    for part in ("train", "val"):
        path = place / "annotations" / f"instances_{part}2017.json"
        content = json.loads(path.read_text())
        content["categories"] = content["categories"][:-1]
        path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"holds {len(COCO_IDS) - 1} categories, but COCO has 80"):
        data.load("coco", 8, str(tmp_path))
