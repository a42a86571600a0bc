"""Data sets that lie on disk as folders of images, a folder a class."""

from __future__ import annotations

from pathlib import Path

import torch
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2 as transforms

from acmix_bench.data import DATASETS, Splits
from acmix_bench.errors import UserError

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def imagenet(image_size: int, root: Path) -> Splits:
    """ImageNet-1K from root/imagenet/{train,val}/<class>/<image>, (3, image_size, image_size), normalised.

    Training images are cropped and flipped at random; test images are resized to 8/7 of the size and cropped in the
    middle (256 and 224 in the papers).

    Raises:
        UserError: where the folders are not there, or hold another number of classes.
    """
    folder = root / "imagenet"
    random = [transforms.RandomResizedCrop(image_size, antialias=True), transforms.RandomHorizontalFlip()]
    centre = still_size(image_size)
    return Splits(train=_images(folder / "train", random), test=_images(folder / "val", centre))


def still_size(image_size: int) -> list[transforms.Transform]:
    """Resize the shorter edge to 8/7 of the size, and crop the middle."""
    return [transforms.Resize(round(image_size * 8 / 7), antialias=True), transforms.CenterCrop(image_size)]


def to_input() -> list[transforms.Transform]:
    """An RGB image to a normalised tensor."""
    return [transforms.ToImage(), transforms.ToDtype(torch.float32, scale=True), transforms.Normalize(MEAN, DEVIATION)]


def _images(folder: Path, crops: list[transforms.Transform]) -> ImageFolder:
    try:
        images = ImageFolder(str(folder), transforms.Compose([*crops, *to_input()]))
    except FileNotFoundError as error:
        raise UserError(f"{folder}: no images here; it needs a folder a class (--set data_root=...)") from error
    if len(images.classes) != DATASETS["imagenet"].classes:
        raise UserError(f"{folder}: holds {len(images.classes)} classes, but ImageNet-1K has 1000")
    return images
