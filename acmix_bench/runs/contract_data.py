"""What a data set promises; of pictures in folders, all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from acmix_bench import data
from acmix_bench.data.folders import Pictures
from acmix_bench.data.items import Seen, look_at_all
from acmix_bench.data.scan import scan
from acmix_bench.data.tree import left_out
from acmix_bench.errors import a_few
from acmix_bench.runs.bar import Bar
from acmix_bench.runs.contract import Broken, NotPromised, Promise, tried

SIZES = 16, 24
MOST_TRAIN, MOST_TEST, MOST_AGAIN = 2000, 500, 20  # images that are looked at


def promises(name: str, root: str) -> Iterator[Promise]:
    """Try a data set at two sizes, or look at all pictures of its folders, or at all that is to segment or detect."""
    entry = data.find(name)
    loaded: list[data.Splits] = []

    def load(size: int) -> str:
        splits = data.load(name, size, root)
        loaded.append(splits)
        train, test = (len(part) for part in (splits.train, splits.test))  # type: ignore[arg-type]
        told = f", {splits.told}" if splits.told else ""
        sizes = f", {entry.channels}x{size}x{size}" if entry.task == "classify" else ""
        return f"{train:,} images to train and {test:,} to test{sizes}{told}"

    first = tried("loads", lambda: load(SIZES[0]))
    yield first
    files = _files_of(entry, root)
    if files:
        yield from _of_pictures(*files)
    elif first.holds and entry.task != "classify":
        yield from _of_items(loaded[0], entry)
    elif first.holds:
        yield tried("another size", lambda: load(SIZES[1]))
        yield tried("labels", lambda: _labels(loaded[0], entry.classes))
        yield tried("split", lambda: _apart(loaded[0]))
        yield tried("determinism", lambda: _still(loaded[0], data.load(name, SIZES[0], root)))


def _files_of(entry: data.DataSet, root: str) -> tuple[Pictures, Pictures, tuple[str, ...]] | None:
    """Its pictures to train and to test and its classes, where it is made of files, even if the first is broken."""
    try:
        splits = entry.load(SIZES[0], Path(root).expanduser())
    except Exception:  # noqa: BLE001 - it was told when it was loaded
        return None
    if isinstance(splits, data.Splits) and isinstance(splits.train, Pictures) and isinstance(splits.test, Pictures):
        return splits.train, splits.test, splits.class_names
    return None


def _of_pictures(train: Pictures, test: Pictures, classes: tuple[str, ...]) -> Iterator[Promise]:
    """Look at every file of a data set of folders."""
    paths, seen = [file for file, _ in [*train.files, *test.files]], []
    with Bar("pictures") as bar:
        for one in scan(paths):
            seen.append(one)
            bar.show(len(seen), len(paths))
    ours, theirs = seen[: len(train.files)], seen[len(train.files) :]

    def counts() -> str:
        of = Counter(number for _, number in [*train.files, *test.files])
        few, many = min(of.values()), max(of.values())
        each = a_few([f"{name} {of[number]:,}" for number, name in enumerate(classes)])
        return f"{len(classes):,} with {few:,} to {many:,} pictures: {each}"

    def readable() -> str:
        faults = [one.fault for one in seen if one.fault]
        if faults:
            raise Broken(f"{len(faults):,} of {len(seen):,} cannot be read: {a_few(faults)}")
        return f"all {len(seen):,} can be read"

    def sizes() -> str:
        areas = sorted((one.size for one in seen if not one.fault), key=lambda size: size[0] * size[1])
        if not areas:
            raise Broken("no picture can be read")
        return f"{_by(areas[0])} to {_by(areas[-1])}, in the middle {_by(areas[len(areas) // 2])}"

    def apart() -> str:
        trained = {one.content for one in ours if not one.fault}
        twice = [one.path for one in theirs if not one.fault and one.content in trained]
        if twice:
            raise Broken(f"{len(twice):,} of the test images are trained on: {a_few(twice)}")
        return "no test image is trained on"

    def upright() -> str:
        turned = [one.path for one in seen if one.is_turned]
        if turned:
            raise NotPromised(f"the EXIF data of {len(turned):,} ask to turn them, which is not done: {a_few(turned)}")
        return "no EXIF data ask to turn one"

    def beside() -> str:
        others = [name for folder in sorted({train.place, test.place}) for name in left_out(folder, classes)]
        if others:
            raise NotPromised(f"{len(others):,} files are no pictures, and passed over: {a_few(others)}")
        return "none"

    yield tried("classes", counts)
    yield tried("pictures", readable)
    yield tried("sizes", sizes)
    yield tried("split", apart)
    yield tried("orientation", upright)
    yield tried("other files", beside)


def _of_items(splits: data.Splits, entry: data.DataSet) -> Iterator[Promise]:
    """Look at every image that is to be segmented or detected in, and at what comes with it."""
    seen: list[tuple[str, Seen]] = []
    parts: dict[str, Any] = {"train": splits.train, "test": splits.test}
    with Bar("images") as bar:
        for name, part in parts.items():
            for one in look_at_all(part, entry):
                seen.append((name, one))
                bar.show(len(seen), sum(map(len, parts.values())))

    def whole() -> str:
        faults = [f"{part} {one.fault}" for part, one in seen if one.fault]
        if faults:
            raise Broken(f"{len(faults):,} of {len(seen):,} are not what they must be: {a_few(faults)}")
        return f"all {len(seen):,} are what they must be"

    def counts() -> str:
        of = Counter(label for _, one in seen for label in one.labels)
        numbers = range(1, entry.classes + 1) if entry.task == "detect" else range(entry.classes)
        names = splits.class_names or tuple(f"class {number}" for number in numbers)
        where = "objects" if entry.task == "detect" else "images"
        each = a_few([f"{name} {of[number]:,}" for number, name in zip(numbers, names, strict=True)])
        never = sum(not of[number] for number in numbers)
        return f"{entry.classes:,}, {never} of them never; {where}: {each}"

    def apart() -> str:
        trained = {one.content for part, one in seen if part == "train" and not one.fault}
        twice = sum(part == "test" and not one.fault and one.content in trained for part, one in seen)
        if twice:
            raise Broken(f"{twice:,} of the test images are trained on")
        return "no test image is trained on"

    yield tried("items", whole)
    yield tried("classes", counts)
    yield tried("split", apart)


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _labels(splits: data.Splits, classes: int) -> str:
    for part in (splits.train, splits.test):
        for number in range(min(MOST_TRAIN, len(part))):  # type: ignore[arg-type]
            label = int(part[number][1])
            if not 0 <= label < classes:
                raise Broken(f"label {label} of image {number} is none of 0 to {classes - 1}")
    return f"0 to {classes - 1}"


def _apart(splits: data.Splits) -> str:
    seen = set(_first(splits.train, MOST_TRAIN))
    twice = sum(image in seen for image in _first(splits.test, MOST_TEST))
    if twice:
        raise Broken(f"{twice} of the test images are trained on")
    return "no test image is trained on"


def _still(splits: data.Splits, again: data.Splits) -> str:
    if _first(splits.test, MOST_AGAIN) != _first(again.test, MOST_AGAIN):
        raise Broken("the test images differ from one loading to the next")
    return "the test images are always the same"


def _first(images: Any, most: int) -> list[bytes]:
    """The bytes of the first images, tensors or PIL images."""
    return [np.asarray(images[number][0]).tobytes() for number in range(min(most, len(images)))]
