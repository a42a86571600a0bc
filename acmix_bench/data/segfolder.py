"""Data sets of pictures and their label maps, which lie on disk."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from torch.utils.data import Dataset

from acmix_bench.data import Splits
from acmix_bench.data.labelmaps import Pair, classes_in, pairs_of, read_label_map
from acmix_bench.data.pictures import read_picture
from acmix_bench.errors import UserError


class Labelled(Dataset[tuple[Image.Image, Image.Image]]):
    """Pairs of files, which are read when they are asked for."""

    def __init__(self, pairs: list[Pair], classes: int, *, from_one: bool = False) -> None:
        self.pairs, self.classes, self.from_one = pairs, classes, from_one

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Image.Image, Image.Image]:
        file, label = self.pairs[index]
        image, numbers = read_picture(file), read_label_map(label, self.classes, from_one=self.from_one)
        if image.size != numbers.size:
            ours, theirs = ("x".join(map(str, size)) for size in (numbers.size, image.size))
            raise UserError(f"{label}: is of {ours} pixels, and its image of {theirs}")
        return image, numbers


def segfolder(path: Path) -> Splits:
    """Pictures of any size with label maps, from PATH/{images,labels}/{train,val}; 255 is ignored.

    Raises:
        UserError: where they are not there, or not in pairs.
    """
    names, (train, test) = classes_in(path), pairs_of(path)
    return Splits(train=Labelled(train, len(names)), test=Labelled(test, len(names)), class_names=names)
