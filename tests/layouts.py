"""Data sets in the layouts that their authors give them, with few images."""

from __future__ import annotations

import io
import json
import pickle
import struct
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"blue sky": (0, 0, 255), "grass": (0, 255, 0), "roses": (255, 0, 0)}


def folders(place: Path, classes: dict[str, tuple[int, int, int]] = COLOURS, each: int = 5) -> Path:
    """A folder a class, of pictures of one colour, of which no two are the same."""
    for name, colour in classes.items():
        (place / name).mkdir(parents=True)
        for number in range(each):
            Image.new("RGB", (9, 6 + number), colour).save(place / name / f"picture {number}.png")
    return place


def imagenet(root: Path, classes: int = 1000) -> None:
    """One picture of 6x5 pixels a class."""
    for split in ("train", "val"):
        names = {f"n{number:08d}": (number % 256, 0, 0) for number in range(classes)}
        folders(root / "imagenet" / split, names, each=1)


class Python2(pickle._Pickler):  # type: ignore[name-defined]
    """Writes strings of either kind as Python 2 wrote its own."""

    dispatch = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def save_text(self, text: str | bytes) -> None:
        content = text.encode() if isinstance(text, str) else text
        self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)
        self.memoize(text)

    dispatch[str] = dispatch[bytes] = save_text


def pickled(content: dict[str, object]) -> bytes:
    """As Python 2 and the numpy of its time wrote it."""
    file = io.BytesIO()
    Python2(file, protocol=2).dump(content)
    return file.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def cifar(root: Path, classes: int, each: int = 10) -> Path:
    """The pickled batches. Image i of a batch has value i, and 200 in red."""
    folder = root / ("cifar-10-batches-py" if classes == 10 else "cifar-100-python")
    folder.mkdir(parents=True)
    names = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"] if classes == 10 else ["train", "test"]
    labels = {10: "labels", 100: "fine_labels"}[classes]
    for name in names:
        pixels = np.arange(each, dtype=np.uint8)[:, None].repeat(3072, 1)
        pixels[:, :1024] = 200  # red
        content = {"batch_label": name, labels: [(7 * i) % classes for i in range(each)], "data": pixels}
        (folder / name).write_bytes(pickled(content))
    meta, key = ("batches.meta", "label_names") if classes == 10 else ("meta", "fine_label_names")
    (folder / meta).write_bytes(pickled({key: [f"class {number}" for number in range(classes)]}))
    return folder


def mnist(root: Path, name: str = "MNIST", each: int = 10) -> Path:
    """The idx files. Image i is grey of value i, of class i modulo 10."""
    folder = root / name / "raw"
    folder.mkdir(parents=True)
    for part in ("train", "t10k"):
        pixels = np.arange(each, dtype=np.uint8)[:, None].repeat(784, 1)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 2051, each, 28, 28) + pixels.tobytes())
        labels = bytes(number % 10 for number in range(each))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, each) + labels)
    return folder


def labelled(images: Path, labels: Path, numbers: list[np.ndarray]) -> None:
    """Pairs of a picture, of grey values as large as a hash of its place, and a label map as PNG."""
    for folder in (images, labels):
        folder.mkdir(parents=True)
    for place, number in enumerate(numbers):
        grey = np.full((*number.shape, 3), (37 * place + len(str(images))) % 256, np.uint8)
        Image.fromarray(grey).save(images / f"scene {place}.jpg")
        Image.fromarray(number.astype(np.uint8)).save(labels / f"scene {place}.png")


def ade20k(root: Path) -> Path:
    """Two images to train and one to validate; 0 in a corner, classes 1, 7 and 150 beside it."""
    number = np.full((6, 9), 7)
    number[0, 0], number[5, 8], number[0, 8] = 0, 150, 1
    for part, count in (("training", 2), ("validation", 1)):
        place = root / "ADEChallengeData2016"
        labelled(place / "images" / part, place / "annotations" / part, [number] * count)
    return root / "ADEChallengeData2016"


def segfolder(place: Path, classes: int = 3) -> Path:
    """Pairs below a folder a part; the highest class stands in the test part alone, and 255 in both."""
    for part, most in (("train", classes - 2), ("val", classes - 1)):
        number = np.full((6, 9), most)
        number[:2], number[0, 0] = 0, 255
        labelled(place / "images" / part, place / "labels" / part, [number] * 2)
    return place


SQUARE = [2.0, 1.0, 6.0, 1.0, 6.0, 5.0, 2.0, 5.0]  # of 4 pixels from (2, 1)
RUNS = [0, 2, 4, 2, 52]  # 2 pixels of the first column from above, and of the second; of 10 wide and 6 high
PACKED = "0240`1"  # the same runs, compressed


def coco_json(ids: list[int], first_image: int = 1) -> dict[str, object]:
    """Six images of 10x6 pixels: a polygon, both kinds of runs, a crowd alone, a box without area alone, none."""
    shapes = [
        {"bbox": [2, 1, 4, 4], "segmentation": [SQUARE], "area": 16.0, "category_id": ids[-1]},
        {"bbox": [0, 0, 2, 2], "segmentation": {"counts": RUNS, "size": [6, 10]}, "area": 4, "category_id": ids[0]},
        {"bbox": [0, 0, 2, 2], "segmentation": {"counts": PACKED, "size": [6, 10]}, "area": 4, "category_id": ids[1]},
        {
            "bbox": [0, 0, 2, 2],
            "segmentation": {"counts": RUNS, "size": [6, 10]},
            "area": 4,
            "category_id": ids[0],
            "iscrowd": 1,
        },
        {"bbox": [4, 1, 0, 4], "segmentation": [SQUARE], "area": 16.0, "category_id": ids[0]},
    ]
    numbers = range(first_image, first_image + len(shapes) + 1)
    return {
        "images": [{"id": number, "file_name": f"{number:012d}.jpg", "width": 10, "height": 6} for number in numbers],
        "categories": [{"id": number, "name": f"thing {number}"} for number in ids],
        "annotations": [
            {"id": 100 + number, "image_id": number, "iscrowd": 0} | shape
            for number, shape in zip(numbers, shapes, strict=False)
        ],
    }


def coco_images(place: Path, content: dict[str, object]) -> None:
    """Pictures of one grey each; the second is grey, and the third CMYK."""
    place.mkdir(parents=True, exist_ok=True)
    for count, listed in enumerate(content["images"]):  # type: ignore[arg-type, var-annotated]
        image = Image.new("RGB", (listed["width"], listed["height"]), (20 * listed["id"] % 256,) * 3)
        image.convert({1: "L", 2: "CMYK"}.get(count, "RGB")).save(place / listed["file_name"])


HOLES = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
COCO_IDS = [number for number in range(1, 91) if number not in HOLES]


def coco(root: Path) -> Path:
    """COCO 2017's layout, with its 80 ids of categories."""
    place = root / "coco"
    (place / "annotations").mkdir(parents=True)
    for part, first in (("train", 1), ("val", 101)):
        content = coco_json(COCO_IDS, first)
        (place / "annotations" / f"instances_{part}2017.json").write_text(json.dumps(content))
        coco_images(place / f"{part}2017", content)
    return place


def cocofile(place: Path, images: str = "") -> Path:
    """One's own data in COCO's format, of three categories with holes between their ids."""
    for part, first in (("train", 1), ("val", 101)):
        content = coco_json([3, 7, 9], first)
        coco_images(place / images, content)
        (place / f"{part}.json").write_text(json.dumps(content))
    return place
