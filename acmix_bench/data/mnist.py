"""MNIST and Fashion-MNIST, read from their authors' idx files by torchvision.

Sources: Y. LeCun, C. Cortes and C. Burges, The MNIST database, 1998; H. Xiao et al., Fashion-MNIST, 2017.
"""

from __future__ import annotations

from pathlib import Path

from torchvision.datasets import MNIST, FashionMNIST
from torchvision.datasets.mnist import read_image_file, read_label_file

from acmix_bench.data import Splits
from acmix_bench.data.fetch import fetched
from acmix_bench.errors import UserError

CLASSES = 10
# Mean and deviation of the training images, over all pixels.
NORMS = {False: ((0.1307,), (0.3081,)), True: ((0.2860,), (0.3530,))}


def mnist(root: Path, *, fashion: bool) -> Splits:
    """PIL images of 28x28 pixels, mode L, with one of 10 classes.

    Raises:
        UserError: naming the file that is not there, or not what it should be.
    """
    reader = FashionMNIST if fashion else MNIST
    folder = root / reader.__name__ / "raw"
    for part in ("train", "t10k"):
        _check(folder, part, "fashion-mnist" if fashion else "mnist")
    mean, deviation = NORMS[fashion]
    return Splits(
        train=reader(root, train=True),
        test=reader(root, train=False),
        mean=mean,
        deviation=deviation,
        class_names=tuple(reader.classes),
    )


def fetch(root: Path, *, fashion: bool) -> None:
    """Download what is not there, as torchvision does.

    Raises:
        UserError: where that fails.
    """
    reader = FashionMNIST if fashion else MNIST
    fetched(reader.__name__, root, lambda: reader(root, download=True))


def _check(folder: Path, part: str, name: str) -> None:
    """Try the two files of a part: torchvision's reader names none of them.

    Raises:
        UserError: naming the file that is not there, or not what it should be.
    """
    images, labels = folder / f"{part}-images-idx3-ubyte", folder / f"{part}-labels-idx1-ubyte"
    found = []
    for path, read in ((images, read_image_file), (labels, read_label_file)):
        if not path.is_file():
            packed = "; unpack the .gz beside it with gunzip" if path.with_name(f"{path.name}.gz").is_file() else ""
            raise UserError(
                f"{path}: no such file{packed}; {name} is read from DATA_ROOT/{folder.parent.name}/raw/ "
                "(--set data_root=..., or acmix-bench train --download)"
            )
        try:
            found.append(read(str(path)))
        except Exception as error:  # it asserts, and a cut file leads to any
            raise UserError(f"{path}: is no whole idx file of bytes") from error
    if len(found[0]) != len(found[1]):
        raise UserError(f"{labels}: holds {len(found[1])} labels for {len(found[0])} images")
    if not len(found[1]) or int(found[1].max()) >= CLASSES:
        raise UserError(f"{labels}: must hold labels from 0 to {CLASSES - 1}")
