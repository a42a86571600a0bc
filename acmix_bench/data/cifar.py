"""CIFAR-10 and CIFAR-100, read from their authors' pickled batches by torchvision.

Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from torchvision.datasets import CIFAR10, CIFAR100

from acmix_bench import files
from acmix_bench.data import Splits
from acmix_bench.data.fetch import fetched
from acmix_bench.errors import UserError

# Means and deviations of the training images, over all pixels.
NORMS = {
    10: ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    100: ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}
# All that the batches are made of. Whatever else a pickle names could be any code.
HARMLESS = {
    ("_codecs", "encode"),
    *((module, "_reconstruct") for module in ("numpy.core.multiarray", "numpy._core.multiarray")),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}


def cifar(root: Path, classes: int) -> Splits:
    """PIL images of 32x32 pixels, mode RGB, with one of 10 or 100 classes (the fine ones).

    Raises:
        UserError: naming the file that is not there, or not what it should be.
    """
    names = _checked(root, classes)
    reader = _reader(classes)
    mean, deviation = NORMS[classes]
    return Splits(
        train=reader(root, train=True),
        test=reader(root, train=False),
        mean=mean,
        deviation=deviation,
        class_names=names,
    )


def fetch(root: Path, classes: int) -> None:
    """Download what is not there, as torchvision does.

    Raises:
        UserError: where that fails.
    """
    fetched(f"CIFAR-{classes}", root, lambda: _reader(classes)(root, download=True))


def _reader(classes: int) -> type[CIFAR10]:
    """torchvision's, which reads a part of the data set too: it asks for the files of the whole by their sums."""
    whole = CIFAR10 if classes == 10 else CIFAR100
    files = {
        "train_list": [[name, None] for name, _ in whole.train_list],
        "test_list": [[name, None] for name, _ in whole.test_list],
        "meta": whole.meta | {"md5": None},
    }
    return type(whole.__name__, (whole,), files)


def _checked(root: Path, classes: int) -> tuple[str, ...]:
    """Try every file of the data set, which torchvision would unpickle as it is; the names of the classes.

    Raises:
        UserError: naming the file that is not there, or not what it should be.
    """
    reader = _reader(classes)
    folder = root / reader.base_folder
    key = "labels" if classes == 10 else "fine_labels"
    for name, _ in reader.train_list + reader.test_list:
        batch = _read(folder / name, f"cifar{classes}")
        images, labels = batch.get("data"), batch.get(key)
        if (
            not isinstance(images, np.ndarray)
            or images.dtype != np.uint8
            or images.ndim != 2
            or images.shape[1] != 3072
        ):
            raise UserError(f"{folder / name}: its data must be rows of 3072 bytes")
        if not isinstance(labels, list) or len(labels) != len(images) or not set(labels) <= set(range(classes)):
            raise UserError(f"{folder / name}: its {key} must be a number from 0 to {classes - 1} for each image")
    meta = folder / reader.meta["filename"]
    names = _read(meta, f"cifar{classes}").get(reader.meta["key"])
    if not isinstance(names, list) or len(names) != classes:
        raise UserError(f"{meta}: must name {classes} classes under {reader.meta['key']}")
    return tuple(names)


def _read(path: Path, name: str) -> dict[str, Any]:
    try:
        with files.opened(path) as file:
            content = _Harmless(file, encoding="latin1").load()
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: no such file; {name} is read as its Python version unpacks, from DATA_ROOT/{path.parent.name}/ "
            "(--set data_root=..., or acmix-bench train --download)"
        ) from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except Exception as error:  # a broken pickle leads to any
        told = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise UserError(f"{path}: is no whole batch of CIFAR's Python version ({told})") from error
    return content if isinstance(content, dict) else {}


class _Harmless(pickle.Unpickler):
    """Makes nothing but arrays and plain containers."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in HARMLESS:
            raise pickle.UnpicklingError(f"it names {module}.{name}, and no code of it is run")
        return super().find_class(module, name)
