"""Data sets of pictures that lie on disk in a folder a class."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

from PIL import Image
from sklearn.model_selection import train_test_split
from torch.utils.data import Dataset

from acmix_bench.data import DATASETS, Splits
from acmix_bench.data.pictures import read_picture
from acmix_bench.data.tree import classes_of, parts_of, pictures_in
from acmix_bench.errors import UserError, a_few

IMAGENET = DATASETS["imagenet"].classes
TEST_SHARE = 0.2


class Pictures(Dataset[tuple[Image.Image, int]]):
    """Files with the number of their class, below a folder; a picture is read when it is asked for."""

    def __init__(self, files: list[tuple[str, int]], place: Path) -> None:
        self.files, self.place = files, place

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        file, number = self.files[index]
        return read_picture(file), number


def folder(path: Path) -> Splits:
    """Pictures of any size, mode RGB, from PATH/train and PATH/val or test; or PATH alone, of which a fifth tests.

    That split is stratified, and the same every time.

    Raises:
        UserError: where the folders are not there, have other classes, one class only, or one without a picture.
    """
    train, test = parts_of(path)
    classes = classes_of(train, test)
    found = pictures_in(train, classes)
    if test is not None:
        theirs = pictures_in(test, classes)
        told = f"trained on {train.name}, tested on {test.name}"
        return Splits(train=Pictures(found, train), test=Pictures(theirs, test), class_names=classes, told=told)
    numbers = [number for _, number in found]
    counts = Counter(numbers)
    alone = [name for number, name in enumerate(classes) if counts[number] == 1]
    if alone:
        raise UserError(f"{path}: one picture only in {a_few(alone)}, which cannot both train and test")
    tests = max(math.ceil(TEST_SHARE * len(found)), len(classes))
    ours, theirs = train_test_split(found, test_size=tests, stratify=numbers, random_state=0)
    told = "split 80 to 20, stratified, the same every time"
    return Splits(train=Pictures(ours, path), test=Pictures(theirs, path), class_names=classes, told=told)


def imagenet(root: Path) -> Splits:
    """ImageNet-1K from root/imagenet/{train,val}/<class>/<image>, pictures of any size, mode RGB.

    Raises:
        UserError: where the folders are not there, hold another number of classes, or other ones in val.
    """
    place = root / "imagenet"
    train, val = place / "train", place / "val"
    try:
        classes = classes_of(train, val)
    except UserError as error:
        told = str(error)
        if told.startswith(f"{val}: holds pictures"):
            told += f"; {_sorted_by_torchvision(place)}"
        elif not train.is_dir() or not val.is_dir():
            told += "; ImageNet needs train and val, each with a folder a class (--set data_root=...)"
        raise UserError(told) from error
    if len(classes) != IMAGENET:
        raise UserError(f"{train}: holds {len(classes)} classes, but ImageNet-1K has {IMAGENET}")
    ours, theirs = pictures_in(train, classes), pictures_in(val, classes)
    return Splits(train=Pictures(ours, train), test=Pictures(theirs, val), class_names=classes)


def _sorted_by_torchvision(place: Path) -> str:
    return (
        "remove val, put ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz, which says the class of each, beside "
        f"it, and run python -c \"from torchvision.datasets import ImageNet; ImageNet({str(place)!r}, 'val')\""
    )
