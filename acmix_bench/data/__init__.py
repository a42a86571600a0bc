"""Data sets. A table of contents: nothing is imported until one is loaded.

To add one, write a loader `(image_size, root) -> Splits` and declare it with its channels and classes: here, or in a
module of your own, as `DataSet(...)`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from acmix_bench.errors import UserError
from acmix_bench.spec import plugins

if TYPE_CHECKING:
    from torch.utils.data import Dataset


@dataclasses.dataclass(frozen=True, kw_only=True)
class Splits:
    """Images with the number of their class; the test images are never trained on.

    An image is a tensor (channels, size, size), normalised, which is taken as it is; or a PIL image of any size, which
    the recipe crops, augments, and normalises by `mean` and `deviation` (a number a channel).

    Attributes:
        class_names: the classes in the order of their numbers, where they have names.
        told: what a reader of the result must know of the split, in a line.
    """

    train: Dataset[Any]
    test: Dataset[Any]
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    deviation: tuple[float, ...] = (0.229, 0.224, 0.225)
    class_names: tuple[str, ...] = ()
    told: str = ""


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A data set of this package or of your own.

    Attributes:
        load: `(image_size, root) -> Splits`; `root` is the folder of those that are not embedded.
    """

    summary: str
    load: Callable[[int, Path], Any]
    channels: int = Field(ge=1)
    classes: int = Field(ge=1)


def _digits(image_size: int, root: Path) -> Splits:
    from acmix_bench.data.digits import digits

    return digits(image_size)


def _imagenet(image_size: int, root: Path) -> Splits:
    from acmix_bench.data.folders import imagenet

    return imagenet(image_size, root)


DATASETS: dict[str, DataSet] = {
    "digits": DataSet(
        summary="scikit-learn's 1,797 handwritten digits of 8x8 pixels, resized; 80 % to train, stratified",
        load=_digits,
        channels=1,
        classes=10,
    ),
    "imagenet": DataSet(
        summary="ImageNet-1K as folders of a class each, DATA_ROOT/imagenet/train and val",
        load=_imagenet,
        channels=3,
        classes=1000,
    ),
}


RANDOM = "random numbers of "


def random_of(sizes: Sequence[int]) -> str:
    """The name of a data set that a whole model of the user's is counted on: its sizes, without the batch."""
    return RANDOM + "x".join(map(str, sizes))


def sizes_of(name: str, image_size: int) -> tuple[int, ...]:
    """Of one of its images, at a size that it is asked for: (channels, size, size), or what random numbers have."""
    if name.startswith(RANDOM):
        return tuple(map(int, name.removeprefix(RANDOM).split("x")))
    return find(name).channels, image_size, image_size


def _nothing(image_size: int, root: Path) -> Splits:
    raise UserError("random numbers have no classes to learn")


def find(name: str) -> DataSet:
    """A data set by name or reference.

    Raises:
        UserError: naming the known ones.
    """
    if name.startswith(RANDOM):
        return DataSet(summary="no data set", load=_nothing, channels=sizes_of(name, 0)[0], classes=1)
    return plugins.find("data set", name, DATASETS, DataSet)


def load(name: str, image_size: int, root: str) -> Splits:
    """Load a data set at an image size; `root` is the folder of those that are not embedded, ~ being the home.

    Raises:
        UserError: where it is not there, or gives other images than it declares.
    """
    entry = find(name)
    splits = entry.load(image_size, Path(root).expanduser())
    if not isinstance(splits, Splits):
        raise UserError(f"data set {name}: its loader must return Splits, and returned {type(splits).__name__}")
    for part, images in (("train", splits.train), ("test", splits.test)):
        pixels, label = images[0]
        wanted = (entry.channels, image_size, image_size)
        if tuple(getattr(pixels, "shape", ())) != wanted:
            told = tuple(getattr(pixels, "shape", ())) or type(pixels).__name__
            raise UserError(f"data set {name}: {part} images must be tensors {wanted}, and the first is {told}")
        if not 0 <= int(label) < entry.classes:
            raise UserError(
                f"data set {name}: {part} labels must be 0 to {entry.classes - 1}, and the first is {label}"
            )
    return splits
