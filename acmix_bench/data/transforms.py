"""From a picture of any size to a model's input, as the recipe says: crops, augmentation, normalisation."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image, ImageOps
from timm.data.auto_augment import rand_augment_transform
from torchvision.transforms import v2 as transforms

from acmix_bench.data import Splits
from acmix_bench.spec.recipe import Recipe

MODES = {name: transforms.InterpolationMode(name) for name in ("bilinear", "bicubic")}


def to_train(recipe: Recipe, image_size: int, splits: Splits) -> transforms.Compose:
    """A training image: a random crop and flip, RandAugment, erasing. Without a random crop, as a test image.

    RandAugment is timm's, whose strengths the recipes name; it fills with the data set's mean, and draws from Python's
    and numpy's random numbers, all else from torch's.
    """
    mode = MODES[recipe.interpolation]
    steps: list[Any] = (
        [transforms.RandomResizedCrop(image_size, scale=(recipe.random_crop, 1), interpolation=mode, antialias=True)]
        if recipe.random_crop < 1
        else _still(recipe, image_size)
    )
    if recipe.flip:
        steps.append(transforms.RandomHorizontalFlip(recipe.flip))
    if recipe.randaugment:
        steps.append(_rand_augment(recipe.randaugment, image_size, splits))
    steps += _to_input(splits)
    if recipe.erasing:
        steps.append(transforms.RandomErasing(recipe.erasing, value="random"))
    return transforms.Compose(steps)


def to_test(recipe: Recipe, image_size: int, splits: Splits) -> transforms.Compose:
    """A test image: the shorter edge is resized so that the middle crop is the recipe's share of it."""
    return transforms.Compose([*_still(recipe, image_size), *_to_input(splits)])


def _still(recipe: Recipe, image_size: int) -> list[Any]:
    resized = round(image_size / recipe.crop)
    return [
        transforms.Resize(resized, interpolation=MODES[recipe.interpolation], antialias=True),
        transforms.CenterCrop(image_size),
    ]


def _to_input(splits: Splits) -> list[Any]:
    return [
        transforms.ToImage(),
        transforms.ToDtype(torch.float32, scale=True),
        transforms.Normalize(list(splits.mean), list(splits.deviation)),
    ]


def _rand_augment(name: str, image_size: int, splits: Splits) -> Any:
    """timm's, which may leave an image no bits at all: black, where newer releases of Pillow refuse."""
    fill = tuple(round(255 * channel) for channel in splits.mean)
    made = rand_augment_transform(name, {"img_mean": fill, "translate_const": image_size // 2})
    for operation in made.ops:
        if "Posterize" in operation.name:
            operation.aug_fn = _posterize
    return made


def _posterize(image: Image.Image, bits: int, **_: Any) -> Image.Image:
    return ImageOps.posterize(image, bits) if bits else Image.new(image.mode, image.size)
