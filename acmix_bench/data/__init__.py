"""Data sets, in one dict.

To add one, write a loader `(image_size, root) -> Splits` and enter it here with its channels and classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from acmix_bench.errors import unknown

if TYPE_CHECKING:
    from torch.utils.data import TensorDataset
    from torchvision.datasets import ImageFolder


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """Where a loader is, and what its images and labels look like."""

    summary: str
    loader: str
    channels: int
    classes: int


@dataclass(frozen=True, kw_only=True)
class Splits:
    """Images (channels, size, size), normalised, with their class; the test images are never trained on."""

    train: TensorDataset | ImageFolder
    test: TensorDataset | ImageFolder


DATASETS: dict[str, DataSet] = {
    "digits": DataSet(
        summary="scikit-learn's 1,797 handwritten digits of 8x8 pixels, resized; 80 % to train, stratified",
        loader="acmix_bench.data.digits:digits",
        channels=1,
        classes=10,
    ),
    "imagenet": DataSet(
        summary="ImageNet-1K as folders of a class each, DATA_ROOT/imagenet/train and val",
        loader="acmix_bench.data.folders:imagenet",
        channels=3,
        classes=1000,
    ),
}


def find(name: str) -> DataSet:
    """The entry of a data set by name.

    Raises:
        UserError: naming the known ones.
    """
    if name not in DATASETS:
        raise unknown("data set", name, DATASETS)
    return DATASETS[name]


def load(name: str, image_size: int, root: str) -> Splits:
    """Load a data set at an image size; `root` is the folder of those that are not embedded.

    Raises:
        UserError: where it is not there.
    """
    load_splits: Any = resolve_name(find(name).loader)
    splits: Splits = load_splits(image_size, Path(root))
    return splits
