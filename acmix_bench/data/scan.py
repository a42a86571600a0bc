"""Looks at every picture of a folder: which cannot be read, what the others are."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from PIL import Image
from torch.utils.data import DataLoader, Dataset

from acmix_bench import files
from acmix_bench.data.pictures import read_picture
from acmix_bench.errors import UserError

ORIENTATION = 0x0112  # of EXIF: 1 is upright


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A picture that was opened.

    Attributes:
        fault: why it cannot be read, with its path.
        size: width and height.
        content: a hash of the file; the same of two copies.
        is_turned: whether its EXIF data ask to turn it.
    """

    path: str
    fault: str = ""
    size: tuple[int, int] = (0, 0)
    content: bytes = b""
    is_turned: bool = False


def scan(paths: Sequence[str]) -> Iterator[Seen]:
    """Open every picture, on all cores; in the order of the paths."""
    workers = min(len(os.sched_getaffinity(0)), len(paths) // 200)
    for some in DataLoader(_Looked(paths), batch_size=32, num_workers=workers, collate_fn=list):
        yield from some


class _Looked(Dataset[Seen]):
    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> Seen:
        return look(self.paths[number])


def look(path: str) -> Seen:
    """Open one picture."""
    try:
        size = read_picture(path).size
    except UserError as error:
        return Seen(path=path, fault=str(error))
    with files.opened(path) as file:
        content = hashlib.file_digest(file, "sha256").digest()
    return Seen(path=path, size=size, content=content, is_turned=_is_turned(path))


def _is_turned(path: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                return image.getexif().get(ORIENTATION, 1) != 1
    except Exception:  # noqa: BLE001 - broken EXIF data lead to any, and turn nothing
        return False
