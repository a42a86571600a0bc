"""Weights as safetensors: written whole or not at all, with what a reader must know of them."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from acmix_bench import files
from acmix_bench.data import Splits
from acmix_bench.errors import UserError
from acmix_bench.spec.recipe import Recipe

State = dict[str, Tensor]
MOST_PACKED = 10  # times as much in an archive as it has bytes


def write(path: Path, writer: Callable[[Path], object]) -> None:
    """Let a file be written beside its place, and put it there once it is whole and on disk.

    Raises:
        UserError: where it cannot be written; what was there before is then as it was.
    """
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        writer(unfinished)
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        unfinished.replace(path)
    except (OSError, RuntimeError) as error:  # torch's writer knows a full disk as a RuntimeError
        reason = getattr(error, "strerror", None) or (str(error).splitlines() or ["no reason given"])[0]
        kept = "; the one before is intact" if path.is_file() else ""
        raise UserError(f"{path}: cannot be written ({reason}){kept}") from error
    finally:
        unfinished.unlink(missing_ok=True)


def save_weights(state: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write tensors by name, from any device, with texts about them.

    Raises:
        UserError: where the file cannot be written; the one before is then as it was.
    """
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
    content = save(tensors, dict(metadata))
    write(path, lambda unfinished: unfinished.write_bytes(content))


def described(*, model: str, data: str, image_size: int, recipe: Recipe, splits: Splits) -> dict[str, str]:
    """What a reader of trained weights must know to give the model the images that it was scored on.

    Images that a data set gives as tensors were normalised by itself: nothing else can be made into one.
    """
    told = {
        "model": model,
        "data": data,
        "image_size": str(image_size),
        "interpolation": recipe.interpolation,
        "crop": repr(recipe.crop),
        "classes": json.dumps(splits.class_names),
    }
    if not isinstance(splits.test[0][0], Tensor):
        told |= {"mean": json.dumps(splits.mean), "deviation": json.dumps(splits.deviation)}
    return told


def description_of(path: Path) -> dict[str, str]:
    """The texts that `save_weights` wrote about weights; none of any other file, which its reader will refuse."""
    try:
        files.opened(path).close()
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError, MemoryError):
        return {}


def refuse_bomb(file: BinaryIO, path: Path) -> None:
    """Refuse an archive that would be much larger in memory than it is on disk: torch packs nothing.

    Raises:
        UserError: saying so.
    """
    try:
        held = sum(part.file_size for part in zipfile.ZipFile(file).infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):  # no archive, or a broken one, of which torch tells
        held = 0
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if held > MOST_PACKED * size:
        raise UserError(f"{path}: is packed, {size} bytes that hold {held}; unpack it, and save it with torch.save")
