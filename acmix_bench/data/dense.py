"""From a picture with its label map, or with boxes and masks, to a model's input: all of it is changed together."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2 as transforms
from torchvision.transforms.v2 import functional as F

from acmix_bench.data import Splits
from acmix_bench.data.labelmaps import IGNORED
from acmix_bench.data.transforms import MODES
from acmix_bench.spec.recipe import DenseRecipe

Sized = tuple[int, int]  # height and width
# A label map, or boxes and masks with what is said of each object.
Target = Any
Prepared = Callable[[Image.Image, Target], tuple[Tensor, Target]]


def to_train(recipe: DenseRecipe, size: Sized, splits: Splits) -> Prepared:
    """Prepare a training image (3, H, W), and a label map (H, W) or a dict of objects that lies on it.

    Resized by a random factor of what fits into the size; a random crop, flip and colours; normalised. With a crop, an
    image that is smaller is padded to segment: with 0, the mean, and with 255 in the label map. To detect it is not.
    Crowds are left out, and objects of which the crop leaves nothing.

    All draws are torch's.
    """
    colours = [transforms.RandomPhotometricDistort()] * recipe.photometric
    return partial(_train_item, recipe, size, transforms.Compose([*colours, *_to_input(splits)]))


def _train_item(
    recipe: DenseRecipe, size: Sized, to_input: Callable[[Tensor], Tensor], image: Image.Image, target: Target
) -> tuple[Tensor, Target]:
    pixels, target = _wrapped(image, target)
    factor = float(torch.empty(()).uniform_(recipe.least_scale, recipe.most_scale))
    height, width = fitting(_size_of(pixels), size, factor)
    mode = MODES[recipe.interpolation]
    pixels, target = _both(lambda part: F.resize(part, [height, width], mode, antialias=True), pixels, target)
    if recipe.train_crop:
        rows, columns = min(recipe.train_crop, height), min(recipe.train_crop, width)
        top, left = _up_to(height - rows), _up_to(width - columns)
        pixels, target = _both(lambda part: F.crop(part, top, left, rows, columns), pixels, target)
    if float(torch.rand(())) < recipe.flip:
        pixels, target = _both(F.horizontal_flip, pixels, target)
    pixels = to_input(pixels)
    if isinstance(target, dict):
        return _plain(pixels), _learnt_from(target)
    if recipe.train_crop:
        beyond = [0, 0, recipe.train_crop - pixels.shape[-1], recipe.train_crop - pixels.shape[-2]]
        pixels, target = F.pad(pixels, beyond, fill=0), F.pad(target, beyond, fill=IGNORED)
    return _plain(pixels), _plain(target)[0].long()


def to_test(recipe: DenseRecipe, size: Sized, splits: Splits) -> Prepared:
    """Prepare a test image (3, H, W), as large as fits into the size; what is to be found stays as it is in the file.

    The target is a dict: `labels` (h, w) to segment, or the objects, in pixels of the file; and `original` (h, w), the
    size in the file, in which predictions are scored.
    """
    return partial(_test_item, recipe, size, transforms.Compose(_to_input(splits)))


def _test_item(
    recipe: DenseRecipe, size: Sized, to_input: Callable[[Tensor], Tensor], image: Image.Image, target: Target
) -> tuple[Tensor, Target]:
    pixels, target = _wrapped(image, target)
    original = _size_of(pixels)
    resized = F.resize(pixels, list(fitting(original, size)), MODES[recipe.interpolation], antialias=True)
    if not isinstance(target, dict):
        return _plain(to_input(resized)), {"labels": _plain(target)[0].long(), "original": original}
    return _plain(to_input(resized)), {name: _plain(value) for name, value in target.items()} | {"original": original}


def fitting(original: Sized, size: Sized, factor: float = 1.0) -> Sized:
    """The largest height and width of an image's own ratio whose short and long edge are within those of a size.

    Args:
        factor: of both edges of the size.
    """
    scale = factor * min(min(size) / min(original), max(size) / max(original))
    height, width = (max(1, int(edge * scale + 0.5)) for edge in original)
    return height, width


def _wrapped(image: Image.Image, target: Target) -> tuple[Tensor, Target]:
    """As tensors that torchvision changes by what they are."""
    pixels = F.to_image(image)
    if not isinstance(target, dict):
        return pixels, tv_tensors.Mask(F.pil_to_tensor(target))
    wrapped = dict(target)
    wrapped["boxes"] = tv_tensors.BoundingBoxes(target["boxes"], format="XYXY", canvas_size=_size_of(pixels))
    if "masks" in target:
        wrapped["masks"] = tv_tensors.Mask(target["masks"])
    return pixels, wrapped


def _both(change: Callable[[Any], Any], pixels: Tensor, target: Target) -> tuple[Tensor, Target]:
    """Change an image and what lies on it in the same way."""
    if not isinstance(target, dict):
        return change(pixels), change(target)
    lie = (tv_tensors.BoundingBoxes, tv_tensors.Mask)
    return change(pixels), {name: change(value) if isinstance(value, lie) else value for name, value in target.items()}


def _learnt_from(target: dict[str, Any]) -> dict[str, Any]:
    """The objects that have an area left, without crowds."""
    boxes = _plain(target["boxes"])
    kept = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]) & (target["iscrowd"] == 0)
    return {name: _plain(value)[kept] if isinstance(value, Tensor) else value for name, value in target.items()}


def _to_input(splits: Splits) -> list[Any]:
    return [
        transforms.ToDtype(torch.float32, scale=True),
        transforms.Normalize(list(splits.mean), list(splits.deviation)),
    ]


def _size_of(pixels: Tensor) -> Sized:
    return pixels.shape[-2], pixels.shape[-1]


def _up_to(most: int) -> int:
    return int(torch.randint(most + 1, ()))


def _plain(value: Any) -> Any:
    """A tensor that is nothing more."""
    return value.as_subclass(Tensor) if isinstance(value, tv_tensors.TVTensor) else value
