"""ADE20K as the benchmark of scene parsing has it: 20,210 images to train and 2,000 to test, of 150 classes.

Source: B. Zhou et al., Scene Parsing through ADE20K Dataset, CVPR 2017; its archive ADEChallengeData2016.zip.
"""

from __future__ import annotations

import re
from pathlib import Path

from acmix_bench import files
from acmix_bench.data import DATASETS, Splits
from acmix_bench.data.labelmaps import pairs_in
from acmix_bench.data.segfolder import Labelled
from acmix_bench.errors import UserError
from acmix_bench.spec import strict

CLASSES = DATASETS["ade20k"].classes
FOLDER = "ADEChallengeData2016"
NAMES = "objectInfo150.txt"  # in the folder: a line of titles, then a line a class, its names behind the last tab


def ade20k(root: Path) -> Splits:
    """Pictures of any size with label maps, from root/ADEChallengeData2016/{images,annotations}/{training,validation}.

    In the files 0 is what is of no class, and ignored; classes count from 1 there, and from 0 here.

    Raises:
        UserError: where the folders are not there, an image has no label map, or the file of names is another.
    """
    place = root / FOLDER
    if not place.is_dir():
        raise UserError(f"{place}: no such folder; unpack {FOLDER}.zip in DATA_ROOT (--set data_root=...)")
    train, test = (
        pairs_in(place / "images" / part, place / "annotations" / part) for part in ("training", "validation")
    )
    return Splits(
        train=Labelled(train, CLASSES, from_one=True),
        test=Labelled(test, CLASSES, from_one=True),
        class_names=_names(place / NAMES),
    )


def _names(path: Path) -> tuple[str, ...]:
    """The first name of each class; none where the file is not there.

    Raises:
        UserError: where it is not of these classes.
    """
    if not files.is_file(path):
        return ()
    lines = [line for line in strict.text_of(path, str(path)).splitlines()[1:] if line.strip()]
    if len(lines) != CLASSES:
        raise UserError(f"{path}: has {len(lines)} classes, and must have {CLASSES}, a line each")
    return tuple(re.split("[,;]", line.rpartition("\t")[2])[0].strip() for line in lines)
