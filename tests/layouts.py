"""Data sets in the layouts that their authors give them, with few images."""

from __future__ import annotations

import io
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
