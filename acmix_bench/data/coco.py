"""COCO, and data sets of one's own in its format: pictures with boxes, classes and masks of objects."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset

from acmix_bench import files
from acmix_bench.data import DATASETS, Splits
from acmix_bench.data.cocojson import TEST, TRAIN, Listed, categories_of, classes_in, read
from acmix_bench.data.pictures import read_picture
from acmix_bench.errors import UserError

try:
    from faster_coco_eval.core import mask as runs
except ImportError as missing:
    raise UserError(f"data in COCO's format: {missing}: pip install 'acmix-bench[dense]'") from missing

CLASSES = DATASETS["coco"].classes
CORNERS = 3  # of a polygon, at least: some of COCO's have fewer, and no area


class Annotated(Dataset[tuple[Image.Image, dict[str, Any]]]):
    """Pictures with their objects, which are read when they are asked for.

    Boxes are cut at the image's edge, and those without an area left out. Crowds are given as such.
    """

    def __init__(self, path: Path, images: list[Listed], place: Path, *, has_masks: bool) -> None:
        self.path, self.images, self.place, self.has_masks = path, images, place, has_masks

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Image.Image, dict[str, Any]]:
        listed = self.images[index]
        image = read_picture(self.place / listed.file)
        if image.size != (listed.width, listed.height):
            told = (
                f"is of {image.width}x{image.height} pixels, and {self.path.name} says {listed.width}x{listed.height}"
            )
            raise UserError(f"{self.place / listed.file}: {told}")
        found = [(one, box) for one in pickle.loads(listed.objects) if (box := _box(one, listed)) is not None]
        boxes = np.array([box for _, box in found], np.float32).reshape(-1, 4)
        areas = (one.get("area", (right - left) * (low - top)) for one, (left, top, right, low) in found)
        target = {
            "boxes": torch.from_numpy(boxes),
            "labels": torch.tensor([one["label"] for one, _ in found], dtype=torch.int64),
            "iscrowd": torch.tensor([one["iscrowd"] for one, _ in found], dtype=torch.int64),
            "area": torch.tensor(list(areas), dtype=torch.float32),
            "image_id": listed.id,
        }
        if self.has_masks:
            masks = np.zeros((len(found), listed.height, listed.width), np.uint8)
            for number, (one, _) in enumerate(found):
                masks[number] = self._mask(one, listed)
            target["masks"] = torch.from_numpy(masks)
        return image, target

    def _mask(self, one: dict[str, Any], listed: Listed) -> NDArray[np.uint8]:
        """The pixels (height, width) of polygons, or of runs of pixels, compressed or not.

        Raises:
            UserError: naming the annotation that holds something else.
        """
        found, size = one["segmentation"], (listed.height, listed.width)
        try:
            if isinstance(found, dict):
                if tuple(found["size"]) != size:
                    raise ValueError(f"it is of {found['size']}, and its image of {list(size)}")
                packed = runs.frPyObjects(found, *size) if isinstance(found["counts"], list) else found
                return runs.decode(packed)
            polygons = [np.asarray(polygon, dtype=np.float64) for polygon in found]
            if any(polygon.ndim != 1 or len(polygon) % 2 or not np.isfinite(polygon).all() for polygon in polygons):
                raise ValueError("a polygon is a list of x and y in turns")
            whole = [polygon.tolist() for polygon in polygons if len(polygon) >= 2 * CORNERS]
            return runs.decode(runs.merge(runs.frPyObjects(whole, *size))) if whole else np.zeros(size, np.uint8)
        except Exception as error:  # of whatever somebody writes there
            told = (str(error).splitlines() or [""])[0]
            raise UserError(f"{self.path}: annotation {one['id']} has a segmentation that is none ({told})") from error


def _box(one: dict[str, Any], listed: Listed) -> tuple[float, float, float, float] | None:
    """Left, top, right and low edge within the image; None where no area is left."""
    left, top, width, height = one["bbox"]
    right, low = min(left + width, listed.width), min(top + height, listed.height)
    left, top = max(left, 0), max(top, 0)
    return (left, top, right, low) if right > left and low > top else None


def _teaches(listed: Listed) -> bool:
    """Whether an image holds an object that can be learnt from: a crowd is none."""
    return any(not one["iscrowd"] and _box(one, listed) is not None for one in pickle.loads(listed.objects))


def coco(root: Path) -> Splits:
    """COCO 2017 from root/coco/{train2017,val2017} and annotations/instances_{train,val}2017.json.

    Raises:
        UserError: where they are not there, or not in COCO's format.
    """
    place = root / "coco"
    if not place.is_dir():
        told = "COCO needs train2017, val2017 and annotations in it (--set data_root=...)"
        raise UserError(f"{place}: no such folder; {told}")
    train, test = (place / "annotations" / f"instances_{part}2017.json" for part in ("train", "val"))
    names = categories_of(train, test)
    if len(names) != CLASSES:
        raise UserError(f"{train}: holds {len(names)} categories, but COCO has {CLASSES}")
    return _splits((train, place / "train2017"), (test, place / "val2017"))


def cocofile(path: Path) -> Splits:
    """One's own data in COCO's format: PATH/train.json and val.json; images by their file_name in PATH or PATH/images.

    Raises:
        UserError: where they are not there, or not in COCO's format.
    """
    classes_in(path)
    return _splits((path / TRAIN, path), (path / TEST, path))


def _splits(train: tuple[Path, Path], test: tuple[Path, Path]) -> Splits:
    """Of a file of annotations and a folder of images each. Images without an object are tested on, but teach nothing.

    Raises:
        UserError: where a file is not in COCO's format, or holds no images.
    """
    ours, theirs = read(train[0]), read(test[0])
    taught = [image for image in ours.images if _teaches(image)]
    for path, images in ((train[0], taught), (test[0], theirs.images)):
        if not images:
            raise UserError(f"{path}: holds no images{' with objects' if path == train[0] else ''}")
    has_masks = ours.has_masks and theirs.has_masks
    told = [f"{len(ours.images) - len(taught):,} training images without objects are left out"]
    return Splits(
        train=Annotated(train[0], taught, _place_of(train[1], taught[0]), has_masks=has_masks),
        test=Annotated(test[0], list(theirs.images), _place_of(test[1], theirs.images[0]), has_masks=has_masks),
        class_names=tuple(ours.categories.values()),
        told="; ".join(told * (len(taught) < len(ours.images)) + ["objects have no masks"] * (not has_masks)),
    )


def _place_of(folder: Path, first: Listed) -> Path:
    """The folder that the names of the files are seen from: this one, or images in it."""
    beside = not files.is_file(folder / first.file) and files.is_file(folder / "images" / first.file)
    return folder / "images" if beside else folder
