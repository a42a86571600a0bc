"""Scenes for segmentation and detection: real digits on real photographs, made as they are asked for.

The digits and the two photographs, of a temple and a flower, are those that scikit-learn ships. Training scenes are
made of training digits over the left halves of the photographs, test scenes of test digits over the right halves.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_images
from torch.utils.data import Dataset

from acmix_bench.data import Splits
from acmix_bench.data.digits import split_digits
from acmix_bench.errors import UserError

TRAIN, TEST = 1000, 200
SEEDS = {"train": 0, "test": 1}
DIM = 0.6  # of the photographs, so that ink is brighter than what lies below
MOST_DIGITS, TRIES = 4, 20  # on a scene; places that are tried for one before it is left out
LEAST, MOST, CANVAS = 12, 28, 64  # edges of a digit in pixels, on a canvas of this edge; all grow with the canvas
WINDOW = 64, 320  # edges in pixels of the square of a photograph that becomes the canvas
FAINTEST = 200  # of bright ink, in each colour, up to 255
INK = 0.4  # of a digit's ink: more of it belongs to its mask
HIDDEN = 0.1  # of a digit: later ones hide less than this share of it
SMALLEST = 16  # edge of a scene; digits of a smaller one may have no pixel
MEAN, DEVIATION = (0.259, 0.264, 0.240), (0.232, 0.197, 0.205)  # of the training scenes' pixels
DIGITS = tuple(map(str, range(10)))

Bytes = NDArray[np.uint8]
Visible = list[tuple[int, NDArray[np.bool_]]]  # a scene's digits, and of each the pixels (size, size) that are seen


def scenes(image_size: int, task: Literal["segment", "detect"]) -> Splits:
    """1,000 scenes to train and 200 to test, of image_size pixels; each is a function of its number alone.

    In a label map, 0 is the background and 1 to 10 are the digits 0 to 9, as the labels of the boxes are.

    Raises:
        UserError: for scenes that are too small.
    """
    if image_size < SMALLEST:
        raise UserError(f"image_size={image_size}: too small for scenes of digits, which need {SMALLEST} pixels")
    return Splits(
        train=Scenes("train", TRAIN, image_size, task),
        test=Scenes("test", TEST, image_size, task),
        mean=MEAN,
        deviation=DEVIATION,
        class_names=("background", *DIGITS) if task == "segment" else DIGITS,
    )


class Scenes(Dataset[tuple[Image.Image, Any]]):
    """Scenes with their label maps, or with the boxes and masks of their digits."""

    def __init__(self, part: str, count: int, size: int, task: str) -> None:
        self.part, self.count, self.size, self.task = part, count, size, task

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Image.Image, Any]:
        if not 0 <= index < self.count:
            raise IndexError(index)
        pixels, visible = drawn(self.part, index, self.size)
        target = _label_map(visible, self.size) if self.task == "segment" else _objects(visible, self.size, index)
        return Image.fromarray(pixels), target


def drawn(part: str, index: int, size: int) -> tuple[Bytes, Visible]:
    """A scene's pixels (size, size, 3), and its digits in the order in which they are drawn."""
    digits, labels, photographs = _sources(part)
    random = np.random.default_rng([SEEDS[part], index])
    canvas = _ground(photographs, size, random)
    visible: Visible = []
    whole: list[int] = []  # pixels of each digit's mask before others hide some
    for _ in range(random.integers(1, MOST_DIGITS + 1)):
        chosen = random.integers(len(digits))
        edge = round(random.uniform(LEAST, MOST) * size / CANVAS)
        ink = np.asarray(digits[chosen].resize((edge, edge), Image.Resampling.BILINEAR))
        colour = random.uniform(FAINTEST, 255, 3)
        for row, column in random.integers(0, size - edge + 1, (TRIES, 2)):
            mask = np.zeros((size, size), bool)
            place = np.s_[row : row + edge, column : column + edge]
            mask[place] = ink > INK
            left = [seen & ~mask for _, seen in visible]
            if all(seen.sum() > (1 - HIDDEN) * pixels for seen, pixels in zip(left, whole, strict=True)):
                canvas[place] += ink[..., None] * (colour - canvas[place])
                visible = [(number, seen) for (number, _), seen in zip(visible, left, strict=True)]
                visible.append((int(labels[chosen]), mask))
                whole.append(int(mask.sum()))
                break
    return canvas.round().astype(np.uint8), visible


@cache
def _sources(part: str) -> tuple[list[Image.Image], NDArray[np.int64], list[Image.Image]]:
    """A part's digits, of ink from 0 to 1, their numbers, and its halves of the photographs."""
    images, labels, train, test = split_digits()
    chosen = train if part == "train" else test
    photographs = [Image.fromarray(photograph) for photograph in load_sample_images().images]
    middles = [image.width // 2 for image in photographs]
    halves = [
        image.crop((0, 0, middle, image.height) if part == "train" else (middle, 0, image.width, image.height))
        for image, middle in zip(photographs, middles, strict=True)
    ]
    return [Image.fromarray(image[0].numpy()) for image in images[chosen]], labels[chosen].numpy(), halves


def _ground(photographs: list[Image.Image], size: int, random: np.random.Generator) -> NDArray[np.float64]:
    """A square of one of the photographs, dimmed."""
    photograph = photographs[random.integers(len(photographs))]
    edge = int(random.integers(WINDOW[0], WINDOW[1] + 1))
    left, top = random.integers(0, photograph.width - edge + 1), random.integers(0, photograph.height - edge + 1)
    box = (float(left), float(top), float(left + edge), float(top + edge))
    return np.asarray(photograph.resize((size, size), Image.Resampling.BILINEAR, box=box)) * DIM


def _label_map(visible: Visible, size: int) -> Image.Image:
    labels = np.zeros((size, size), np.uint8)
    for number, mask in visible:
        labels[mask] = number + 1
    return Image.fromarray(labels)


def _objects(visible: Visible, size: int, index: int) -> dict[str, Any]:
    masks = np.stack([mask for _, mask in visible])
    boxes = []
    for mask in masks:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        boxes.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    return {
        "boxes": torch.tensor(np.array(boxes), dtype=torch.float32),
        "labels": torch.tensor([number + 1 for number, _ in visible]),
        "masks": torch.from_numpy(masks.astype(np.uint8)),
        "iscrowd": torch.zeros(len(visible), dtype=torch.int64),
        "area": torch.from_numpy(masks.sum((1, 2), dtype=np.float32)),
        "image_id": index,
    }
