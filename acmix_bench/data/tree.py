"""Pictures that lie on disk in a folder a class: which there are, told without opening one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from acmix_bench.errors import UserError, a_few

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # torchvision's
TRAIN, TEST = "train", ("val", "test")


def parts_of(folder: Path) -> tuple[Path, Path | None]:
    """The folders of the classes to train and to test on; None where one folder holds all that there is.

    Raises:
        UserError: where it is no folder, or holds one part without the other.
    """
    names = [path.name for path in folders_in(folder)]
    tests = [name for name in TEST if name in names]
    if TRAIN in names and tests:
        return folder / TRAIN, folder / tests[0]
    if TRAIN in names:
        raise UserError(f"{folder}: holds {TRAIN}, but neither {' nor '.join(TEST)}")
    if tests:
        raise UserError(f"{folder}: holds {tests[0]}, but no {TRAIN}")
    return folder, None


def classes_of(train: Path, test: Path | None) -> tuple[str, ...]:
    """The names of the class folders, in the order of their numbers.

    Raises:
        UserError: where there are fewer than two, or the two parts have other ones.
    """
    names = [path.name for path in folders_in(train)]
    if not names:
        flat = any(is_picture(path.name) for path in train.iterdir())
        told = "holds pictures, but no folder a class" if flat else "no folders of classes here"
        raise UserError(f"{train}: {told}")
    if len(names) == 1:
        raise UserError(f"{train}: holds one class only, {names[0]}; it needs a folder a class, and two of them")
    if test is not None:
        others = [path.name for path in folders_in(test)]
        gone = [name for name in names if name not in set(others)]
        more = [name for name in others if name not in set(names)]
        if not others:
            classes_of(test, None)
        if gone or more:
            differ = [f"without {a_few(gone)}"] * bool(gone) + [f"with {a_few(more)}"] * bool(more)
            raise UserError(f"{test}: other classes than in {train}: {', '.join(differ)}")
    return tuple(names)


def classes_in(folder: Path) -> tuple[str, ...]:
    """The classes of a folder's parts, as `parts_of` and `classes_of` find them."""
    return classes_of(*parts_of(folder))


def pictures_in(folder: Path, classes: Sequence[str]) -> list[tuple[str, int]]:
    """The files of the pictures with the number of their class, in one order on every machine.

    Raises:
        UserError: naming the classes that have none.
    """
    found = [[file.path for file in files_below(folder / name) if is_picture(file.name)] for name in classes]
    empty = [name for name, files in zip(classes, found, strict=True) if not files]
    if empty:
        raise UserError(
            f"{folder}: no pictures in {a_few(empty)} ({len(empty)} of {len(classes)} classes); "
            f"files that end with {', '.join(SUFFIXES)} are read"
        )
    return [(file, number) for number, files in enumerate(found) for file in files]


def left_out(folder: Path, classes: Sequence[str]) -> list[str]:
    """The files beside the pictures, which are passed over: hidden ones, and other suffixes."""
    every = (file for name in classes for file in files_below(folder / name, hidden=True))
    return [file.path for file in every if not is_picture(file.name)]


def fingerprint(folder: Path) -> str:
    """A hash of the names and sizes of all pictures below a folder; two that have the same hold the same pictures.

    What changes a picture and not its size stays unseen.
    """
    told = hashlib.sha256()
    train, test = parts_of(folder)
    for part in filter(None, (train, test)):
        for name in classes_of(part, None):
            for file in files_below(part / name):
                if is_picture(file.name):
                    told.update(f"{os.path.relpath(file.path, folder)} {file.stat().st_size}\n".encode())
    return told.hexdigest()[:16]


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder by name, without hidden ones.

    Raises:
        UserError: where it is no folder that can be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except (FileNotFoundError, ValueError) as error:  # a path that holds a NUL
        raise UserError(f"{folder}: no such folder") from error
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror})") from error


def files_below(folder: Path, *, hidden: bool = False) -> Iterator[os.DirEntry[str]]:
    """All files below a folder, sorted; of links what they lead to."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror})") from error
    for entry in entries:
        if entry.name.startswith(".") and not hidden:
            continue
        if entry.is_dir():
            yield from files_below(Path(entry.path), hidden=hidden)
        else:
            yield entry


def is_picture(name: str) -> bool:
    """Whether a file with this name is read as a picture; hidden ones are not."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")
