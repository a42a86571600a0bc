"""Annotations of objects in COCO's format: one JSON file of images, categories, and objects with boxes and masks.

Source: T.-Y. Lin et al., Microsoft COCO: Common Objects in Context, ECCV 2014; https://cocodataset.org/#format-data.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import pickle
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from acmix_bench import files
from acmix_bench.data.tree import files_below, is_picture
from acmix_bench.errors import UserError, a_few

TRAIN, TEST = "train.json", "val.json"
MOST_BYTES = 2**32


@dataclass(frozen=True, kw_only=True)
class Listed:
    """An image with what is annotated in it.

    Attributes:
        objects: pickled, so that hundreds of thousands take little room and are not copied into worker processes.
    """

    id: int
    file: str
    width: int
    height: int
    objects: bytes


@dataclass(frozen=True, kw_only=True)
class Annotations:
    """What a file holds, checked.

    Attributes:
        categories: the names by their ids, which need not be without holes; labels count them from 1 by their ids.
        has_masks: whether objects have masks, which are all of them or none.
    """

    images: tuple[Listed, ...]
    categories: dict[int, str]
    has_masks: bool


def read(path: Path) -> Annotations:
    """Read and check a file of annotations.

    Raises:
        UserError: naming the file, and what in it is not as it must be.
    """
    content = _content(path)
    categories = _categories(path, content)
    listed = _listed(path, content, "images", {"id": int, "file_name": str, "width": int, "height": int})
    ids = {image["id"] for image in listed}
    if len(ids) != len(listed):
        raise UserError(f"{path}: two images have the same id")
    kinds = {"id": int, "image_id": int, "category_id": int, "bbox": list}
    objects: dict[int, list[dict[str, Any]]] = defaultdict(list)
    numbers = {number: label for label, number in enumerate(categories, 1)}
    found = _listed(path, content, "annotations", kinds)
    has_masks = any(one.get("segmentation") for one in found)
    for one in found:
        told = _fault(one, ids, numbers, has_masks)
        if told:
            raise UserError(f"{path}: annotation {one['id']} {told}")
        kept: dict[str, Any] = {key: one[key] for key in ("id", "bbox", "area", "segmentation") if key in one}
        kept |= {"label": numbers[one["category_id"]], "iscrowd": int(bool(one.get("iscrowd", 0)))}
        objects[one["image_id"]].append(kept)
    images = (
        Listed(
            id=image["id"],
            file=image["file_name"],
            width=image["width"],
            height=image["height"],
            objects=pickle.dumps(objects.pop(image["id"], [])),
        )
        for image in listed
    )
    return Annotations(images=tuple(images), categories=categories, has_masks=has_masks)


def _fault(one: dict[str, Any], ids: set[int], numbers: dict[int, int], has_masks: bool) -> str:
    """What of an annotation is not as it must be."""
    if one["image_id"] not in ids:
        return f"is of an unknown image, {one['image_id']}"
    if one["category_id"] not in numbers:
        return f"is of an unknown category, {one['category_id']}"
    if len(one["bbox"]) != 4 or not all(_is_number(value) for value in one["bbox"]):
        return "has no box of four numbers"
    if not _is_number(one.get("area", 0)):
        return "has an area that is no number"
    if has_masks and not one.get("segmentation"):
        return "has no segmentation, where others have one"
    return ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(files.content_of(path, most=MOST_BYTES))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except RecursionError as error:
        raise UserError(f"{path}: is nested too deeply") from error
    except ValueError as error:  # of JSON, of its text, or a number of too many digits
        raise UserError(f"{path}: is no JSON ({(str(error).splitlines() or [''])[0]})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds no images, annotations and categories, which COCO's format has")
    return content


def _listed(path: Path, content: dict[str, Any], key: str, kinds: dict[str, type]) -> list[dict[str, Any]]:
    """The objects of a list, which have at least what is asked for."""
    found = content.get(key)
    if not isinstance(found, list):
        raise UserError(f"{path}: holds no list of {key}, which COCO's format has")
    for place, one in enumerate(found):
        for name, kind in kinds.items():
            value = one.get(name) if isinstance(one, dict) else None
            if not isinstance(value, kind) or isinstance(value, bool):
                told = {int: "whole number", str: "text", list: "list"}[kind]
                raise UserError(f"{path}: {key}[{place}]: '{name}' must be there, a {told}")
    return found


def _categories(path: Path, content: dict[str, Any]) -> dict[int, str]:
    found = _listed(path, content, "categories", {"id": int, "name": str})
    names = {one["id"]: one["name"] for one in sorted(found, key=lambda one: one["id"])}
    if not found or len(names) != len(found):
        raise UserError(f"{path}: {'two categories have the same id' if found else 'holds no categories'}")
    return names


def classes_in(place: Path) -> dict[int, str]:
    """The categories of one's own data, as `categories_of` finds them."""
    return categories_of(place / TRAIN, place / TEST)


def categories_of(train: Path, test: Path) -> dict[int, str]:
    """The categories by their ids, which both files have.

    Raises:
        UserError: where a file cannot be read, or they differ.
    """
    ours, theirs = (_categories_at(path, path.stat().st_mtime_ns if path.is_file() else 0) for path in (train, test))
    if ours != theirs:
        differ = sorted(f"{number} {name}" for number, name in dict(ours.items() ^ theirs.items()).items())
        raise UserError(f"{test}: other categories than in {train.name}: {a_few(differ)}")
    return ours


@cache
def _categories_at(path: Path, changed: int) -> dict[int, str]:
    return _categories(path, _content(path))


def fingerprint(place: Path) -> str:
    """A hash of both files of annotations, and of the names and sizes of the pictures beside and below them."""
    told = hashlib.sha256()
    for path in (place / TRAIN, place / TEST):
        try:
            with files.opened(path) as file:
                told.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    for entry in files_below(place):
        if is_picture(entry.name):
            told.update(f"{os.path.relpath(entry.path, place)} {entry.stat().st_size}\n".encode())
    return told.hexdigest()[:16]
