"""Label maps: pictures whose pixels are numbers of classes. Which there are, and how one is read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from acmix_bench import files
from acmix_bench.data.pictures import decoded
from acmix_bench.data.tree import files_below, is_picture, parts_of
from acmix_bench.errors import UserError, a_few
from acmix_bench.spec import strict

SUFFIXES = (".png", ".bmp", ".pgm", ".tif", ".tiff")  # those that lose nothing
IGNORED = 255  # the pixels that are of no class
MODES = ("1", "L", "P", "I;16", "I")  # of a palette the numbers count, and not the colours
CLASSES = "classes.txt"
IMAGES, LABELS = "images", "labels"

Pair = tuple[str, str]  # the files of an image and its label map


def read_label_map(path: Path | str, classes: int, *, from_one: bool = False) -> Image.Image:
    """The numbers of the classes, mode L: 0 to classes - 1, or 255 where a pixel is of none.

    Args:
        from_one: the file counts from 1, and its 0 is of no class.

    Raises:
        UserError: naming the file, where it cannot be read or holds another number.
    """
    numbers = _numbers(path)
    first, known = (1, numbers <= classes) if from_one else (0, (numbers < classes) | (numbers == IGNORED))
    if not known.all():
        told = "" if from_one else f", or {IGNORED} where it is ignored"
        raise UserError(f"{path}: holds class {numbers[~known][0]}; it must be {first} to {classes + first - 1}{told}")
    return Image.fromarray(numbers.astype(np.uint8) - np.uint8(first))  # 0 - 1 is 255


def _numbers(path: Path | str) -> NDArray[np.int64]:
    """As they stand in the file, (height, width).

    Raises:
        UserError: naming the file, where it cannot be read.
    """
    return decoded(path, _as_they_stand)


def _as_they_stand(image: Image.Image) -> NDArray[np.int64]:
    if image.mode not in MODES:
        raise UserError(f"a label map has one number a pixel, and this is a picture of mode {image.mode}")
    return np.asarray(image).astype(np.int64)


def pairs_in(images: Path, labels: Path) -> list[Pair]:
    """Images with the label maps that have their names but for the suffix, in one order on every machine.

    Raises:
        UserError: where there are none, or one is without the other.
    """
    ours, theirs = _by_name(images, is_picture), _by_name(labels, _is_label_map)
    if not ours:
        raise UserError(f"{images}: no pictures")
    for found, others, folder, what in ((ours, theirs, labels, "label maps"), (theirs, ours, images, "images")):
        alone = [file for name, file in found.items() if name not in others]
        if alone:
            raise UserError(f"{folder}: no {what} for {len(alone):,} of {len(found):,} files, such as {alone[0]}")
    return [(file, theirs[name]) for name, file in ours.items()]


def _is_label_map(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def _by_name(folder: Path, wanted: Callable[[str], bool]) -> dict[str, str]:
    """The files below a folder by their paths in it without the suffix.

    Raises:
        UserError: where two have the same, or the folder cannot be read.
    """
    found: dict[str, str] = {}
    for file in files_below(folder):
        if wanted(file.name):
            name = str(Path(file.path).relative_to(folder).with_suffix(""))
            if name in found:
                raise UserError(f"{file.path}: another file has this name with another suffix, {found[name]}")
            found[name] = file.path
    return found


def pairs_of(place: Path) -> tuple[list[Pair], list[Pair]]:
    """The images with label maps to train and to test on: PATH/{images,labels}/train, and val or test.

    Raises:
        UserError: where they are not there as a whole.
    """
    train, test = parts_of(place / IMAGES)
    if test is None:
        raise UserError(f"{place / IMAGES}: holds no train, and neither val nor test")
    return pairs_in(train, place / LABELS / train.name), pairs_in(test, place / LABELS / test.name)


def classes_in(place: Path) -> tuple[str, ...]:
    """The names of the classes by their numbers: the lines of PATH/classes.txt, or where it is not there the numbers
    in the label maps, which takes as long as reading all of them.

    Raises:
        UserError: where there are fewer than two or more than 255, or a label map cannot be read.
    """
    written = place / CLASSES
    if not files.is_file(written):
        pairs = [label for part in pairs_of(place) for _, label in part]
        return tuple(f"class {number}" for number in range(_counted(tuple(pairs), fingerprint(place))))
    names = strict.text_of(written, str(written)).rstrip().splitlines()
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not 2 <= len(names) <= IGNORED:
        told = f"holds {a_few(twice)} twice" if twice else f"holds {len(names)} classes, and must hold 2 to {IGNORED}"
        raise UserError(f"{written}: {told}")
    return tuple(names)


@cache
def _counted(labels: Sequence[str], content: str) -> int:
    """How many classes the label maps of this content number.

    Raises:
        UserError: where they number fewer than two, or more than 255.
    """
    most = -1
    for label in labels:
        numbers = _numbers(label)
        most = max(most, int(numbers.max(where=numbers != IGNORED, initial=-1)))
        if numbers.min() < 0 or most > IGNORED:
            raise UserError(f"{label}: holds numbers that are no classes; they must be 0 to {IGNORED}")
    if most < 1:
        raise UserError(f"{Path(labels[0]).parent}: the label maps hold fewer than two classes")
    return most + 1


def fingerprint(place: Path) -> str:
    """A hash of the names and sizes of all images and label maps, and of the names of the classes."""
    told = hashlib.sha256()
    for part in pairs_of(place):
        for file in (file for pair in part for file in pair):
            told.update(f"{os.path.relpath(file, place)} {Path(file).stat().st_size}\n".encode())
    written = place / CLASSES
    told.update(strict.text_of(written, str(written)).encode() if files.is_file(written) else b"")
    return told.hexdigest()[:16]
