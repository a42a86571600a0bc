"""Data sets. A table of contents: nothing is imported until one is loaded.

To add one, write a loader `(image_size, root) -> Splits` and declare it with its channels and classes: here, or in a
module of your own, as `DataSet(...)`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

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

    To segment or detect, it is a PIL image, and what comes with it is said in `data/items.py`.

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
        classes: to segment, a background that is learnt is one; to detect, it is none.
        task: what is to be learnt: the class of an image, of each pixel, or of objects with their boxes.
        fetch: downloads it into `root`, where that can be done.
        fingerprint: tells its files from others of the same name: numbers of the ones are none of the others.
    """

    summary: str
    load: Callable[[int, Path], Any]
    channels: int = Field(ge=1)
    classes: int = Field(ge=1)
    task: Literal["classify", "segment", "detect"] = "classify"
    fetch: Callable[[Path], None] | None = None
    fingerprint: Callable[[], str] | None = None


def _digits(image_size: int, root: Path) -> Splits:
    from acmix_bench.data.digits import digits

    return digits(image_size)


def _cluttered(image_size: int, root: Path) -> Splits:
    from acmix_bench.data.cluttered import cluttered

    return cluttered(image_size)


def _imagenet(image_size: int, root: Path) -> Splits:
    from acmix_bench.data.folders import imagenet

    return imagenet(root)


def _folder(image_size: int, root: Path, *, path: str) -> Splits:
    from acmix_bench.data.folders import folder

    return folder(Path(path).expanduser())


def _scenes(image_size: int, root: Path, *, task: Literal["segment", "detect"]) -> Splits:
    from acmix_bench.data.scenes import scenes

    return scenes(image_size, task)


def _ade20k(image_size: int, root: Path) -> Splits:
    from acmix_bench.data.ade20k import ade20k

    return ade20k(root)


def _segfolder(image_size: int, root: Path, *, path: str) -> Splits:
    from acmix_bench.data.segfolder import segfolder

    return segfolder(Path(path).expanduser())


def _coco(image_size: int, root: Path) -> Splits:
    from acmix_bench.data.coco import coco

    return coco(root)


def _cocofile(image_size: int, root: Path, *, path: str) -> Splits:
    from acmix_bench.data.coco import cocofile

    return cocofile(Path(path).expanduser())


def _cifar(image_size: int, root: Path, *, classes: int) -> Splits:
    from acmix_bench.data.cifar import cifar

    return cifar(root, classes)


def _fetch_cifar(root: Path, *, classes: int) -> None:
    from acmix_bench.data.cifar import fetch

    fetch(root, classes)


def _mnist(image_size: int, root: Path, *, fashion: bool) -> Splits:
    from acmix_bench.data.mnist import mnist

    return mnist(root, fashion=fashion)


def _fetch_mnist(root: Path, *, fashion: bool) -> None:
    from acmix_bench.data.mnist import fetch

    fetch(root, fashion=fashion)


DATASETS: dict[str, DataSet] = {
    "digits": DataSet(
        summary="scikit-learn's 1,797 handwritten digits of 8x8 pixels, resized; 80 % to train, stratified",
        load=_digits,
        channels=1,
        classes=10,
    ),
    "cluttered": DataSet(
        summary="20,000 canvases of scikit-learn's digits among pieces of others; the largest whole one is to be named",
        load=_cluttered,
        channels=1,
        classes=10,
    ),
    **{
        f"cifar{classes}": DataSet(
            summary=f"CIFAR-{classes}: 60,000 photographs of 32x32 pixels, in DATA_ROOT/{place}",
            load=partial(_cifar, classes=classes),
            channels=3,
            classes=classes,
            fetch=partial(_fetch_cifar, classes=classes),
        )
        for classes, place in ((10, "cifar-10-batches-py"), (100, "cifar-100-python"))
    },
    **{
        name: DataSet(
            summary=f"{title}: 70,000 grey images of 28x28 pixels, in DATA_ROOT/{place}/raw",
            load=partial(_mnist, fashion=fashion),
            channels=1,
            classes=10,
            fetch=partial(_fetch_mnist, fashion=fashion),
        )
        for name, title, place, fashion in (
            ("mnist", "MNIST's handwritten digits", "MNIST", False),
            ("fashion-mnist", "Fashion-MNIST's clothes", "FashionMNIST", True),
        )
    },
    "imagenet": DataSet(
        summary="ImageNet-1K as folders of a class each, DATA_ROOT/imagenet/train and val",
        load=_imagenet,
        channels=3,
        classes=1000,
    ),
    "scenes-segment": DataSet(
        summary="1,200 scenes of scikit-learn's digits over its photographs; the digit in each pixel, or background",
        load=partial(_scenes, task="segment"),
        channels=3,
        classes=11,
        task="segment",
    ),
    "scenes-detect": DataSet(
        summary="the same scenes; the boxes and masks of the digits",
        load=partial(_scenes, task="detect"),
        channels=3,
        classes=10,
        task="detect",
    ),
    "ade20k": DataSet(
        summary="ADE20K's 150 classes of scene parsing, DATA_ROOT/ADEChallengeData2016/images and annotations",
        load=_ade20k,
        channels=3,
        classes=150,
        task="segment",
    ),
    "coco": DataSet(
        summary="COCO 2017's objects of 80 classes, DATA_ROOT/coco/train2017, val2017 and annotations",
        load=_coco,
        channels=3,
        classes=80,
        task="detect",
    ),
}

# Of the user's own: what begins the name, which a path follows.
FOLDER, SEGFOLDER, COCOFILE = "folder:", "segfolder:", "cocofile:"
OWN = {
    FOLDER: "your own pictures, a folder a class: PATH/train with PATH/val or PATH/test, or PATH, split 80 to 20",
    SEGFOLDER: "your own pictures and label maps in pairs: PATH/images/train and val, PATH/labels/train and val",
    COCOFILE: "your own objects in COCO's format: PATH/train.json, PATH/val.json, and the pictures beside them",
}

RANDOM = "random numbers of "


def random_of(sizes: Sequence[int]) -> str:
    """The name of a data set that a whole model of the user's is counted on: its sizes, without the batch."""
    return RANDOM + "x".join(map(str, sizes))


def sizes_of(name: str, size: tuple[int, int]) -> tuple[int, ...]:
    """Of one of its images, at a size that it is asked for: (channels, height, width), or what random numbers have."""
    if name.startswith(RANDOM):
        return tuple(map(int, name.removeprefix(RANDOM).split("x")))
    return find(name).channels, *size


def _nothing(image_size: int, root: Path) -> Splits:
    raise UserError("random numbers have no classes to learn")


def find(name: str) -> DataSet:
    """A data set by name or reference.

    Raises:
        UserError: naming the known ones, or for files of the user's own that are not there or not what they must be.
    """
    if is_own(name):
        form, _, path = name.partition(":")
        return _found_in(f"{form}:", path)
    if name.startswith(RANDOM):
        return DataSet(summary="no data set", load=_nothing, channels=sizes_of(name, (0, 0))[0], classes=1)
    if name not in DATASETS and name not in plugins.installed("data set") and Path(name).expanduser().is_dir():
        raise UserError(f"unknown data set '{name}'; for a folder of pictures write {FOLDER}{name}")
    return plugins.find("data set", name, DATASETS, DataSet)


def is_own(name: str) -> bool:
    """Whether it names files of the user's own."""
    return name.startswith(tuple(OWN))


def _found_in(form: str, path: str) -> DataSet:
    """Files of the user's own as a data set, by what a look at their folder tells of them."""
    from acmix_bench.data import cocojson, labelmaps, tree

    if not path:
        raise UserError(f"{form} which? write {form}PATH")
    place = Path(path).expanduser()
    found: dict[str, tuple[Any, Any, Any]] = {
        FOLDER: ("classify", tree, _folder),
        SEGFOLDER: ("segment", labelmaps, _segfolder),
        COCOFILE: ("detect", cocojson, _cocofile),
    }
    task, files, load = found[form]
    classes, told = len(files.classes_in(place)), partial(files.fingerprint, place)
    loads = partial(load, path=path)
    return DataSet(summary=OWN[form], load=loads, channels=3, classes=classes, task=task, fingerprint=told)


def fingerprint(name: str) -> str:
    """What tells the files of a data set from others of the same name; nothing where it declares none.

    Raises:
        UserError: as `find`, or where the files cannot be read.
    """
    entry = find(name)
    return entry.fingerprint() if entry.fingerprint else ""


def load(name: str, image_size: int, root: str, download: bool = False) -> Splits:
    """Load a data set at an image size; `root` is the folder of those that are not embedded, ~ being the home.

    Args:
        download: fetch what is not there yet.

    Raises:
        UserError: where it is not there, cannot be fetched, or gives other images than it declares.
    """
    from acmix_bench.data.items import fault_of

    entry, place = find(name), Path(root).expanduser()
    if download and entry.fetch is None:
        known = ", ".join(known for known, other in DATASETS.items() if other.fetch)
        raise UserError(f"data set {name}: cannot be downloaded; those that can are {known}")
    if download and entry.fetch:
        entry.fetch(place)
    splits = entry.load(image_size, place)
    if not isinstance(splits, Splits):
        raise UserError(f"data set {name}: its loader must return Splits, and returned {type(splits).__name__}")
    for part, images in (("train", splits.train), ("test", splits.test)):
        if told := fault_of(images[0], entry, image_size):
            raise UserError(f"data set {name}: {part} {told}")
    return splits
