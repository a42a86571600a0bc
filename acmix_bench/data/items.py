"""What an item of a data set must be, by its task: an image, and what is to be learnt of it.

- To classify: a tensor (channels, size, size) or a PIL image, with the number of its class.
- To segment: a PIL image of mode RGB and any size, with one of mode L and the same size, of the number of the class of
  each pixel; 255 is ignored.
- To detect: a PIL image of mode RGB and any size, with a dict of N objects, which may be none: `boxes` (N, 4) of left,
  top, right and low edge; `labels` (N) from 1; `iscrowd` (N), 1 for a crowd, which is not learnt from; `area` (N) in
  pixels; the number `image_id`; and `masks` (N, height, width) of 0 and 1, where the data set has masks.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from acmix_bench.data import DataSet
from acmix_bench.data.labelmaps import IGNORED
from acmix_bench.errors import UserError

KINDS = {"boxes": "float32", "labels": "int64", "iscrowd": "int64", "area": "float32", "masks": "uint8"}


@dataclass(frozen=True, kw_only=True)
class Seen:
    """An image to segment or to detect in that was looked at, with what comes with it.

    Attributes:
        fault: what of it is not as it must be.
        labels: the classes in a label map, or those of the objects.
        content: a hash of the pixels.
    """

    fault: str = ""
    labels: tuple[int, ...] = ()
    content: bytes = b""


def look_at_all(items: Dataset[Any], entry: DataSet) -> Iterator[Seen]:
    """Look at every item, on all cores; in their order."""
    looked = _Looked(items, entry)
    workers = min(len(os.sched_getaffinity(0)), len(looked) // 2000)
    for some in DataLoader(looked, batch_size=32, num_workers=workers, collate_fn=list):
        yield from some


class _Looked(Dataset[Seen]):
    def __init__(self, items: Any, entry: DataSet) -> None:
        self.items, self.entry = items, entry

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, number: int) -> Seen:
        try:
            item = self.items[number]
        except UserError as error:
            return Seen(fault=str(error))
        if fault := fault_of(item, self.entry, 0):
            return Seen(fault=f"image {number}: {fault}")
        image, target = item
        labels = np.unique(target) if self.entry.task == "segment" else target["labels"]
        return Seen(labels=tuple(labels.tolist()), content=hashlib.sha256(image.tobytes()).digest())


def fault_of(item: Any, entry: DataSet, image_size: int) -> str:
    """What of an item is not as its data set declares it, beginning with images or labels; nothing where all is."""
    try:
        image, target = item
    except (TypeError, ValueError):
        return f"items must be pairs of an image and what is to be learnt of it, and one is {_told(item)}"
    if entry.task == "classify":
        return _of_class(image, target, entry, image_size)
    if getattr(image, "mode", None) != "RGB":
        return f"images must be PIL images of mode RGB, and one is {_told(image)}"
    return _of_label_map(image, target, entry) if entry.task == "segment" else _of_objects(image, target, entry)


def _of_class(image: Any, label: Any, entry: DataSet, image_size: int) -> str:
    shape, mode = (entry.channels, image_size, image_size), {1: "L", 3: "RGB"}.get(entry.channels)
    if tuple(getattr(image, "shape", ())) != shape and (mode is None or getattr(image, "mode", None) != mode):
        wanted = f"tensors {shape}" + (f" or PIL images of mode {mode}" if mode else "")
        return f"images must be {wanted}, and one is {_told(image)}"
    return "" if 0 <= int(label) < entry.classes else f"labels must be 0 to {entry.classes - 1}, and one is {label}"


def _of_label_map(image: Any, labels: Any, entry: DataSet) -> str:
    if getattr(labels, "mode", None) != "L" or labels.size != image.size:
        return (
            f"label maps must be PIL images of mode L, of their image's size {image.size}, and one is {_told(labels)}"
        )
    numbers = np.asarray(labels)
    unknown = numbers[(numbers >= entry.classes) & (numbers != IGNORED)]
    wanted = f"labels must be 0 to {entry.classes - 1}, or {IGNORED} where they are ignored"
    return f"{wanted}, and one is {unknown[0]}" if unknown.size else ""


def _of_objects(image: Any, target: Any, entry: DataSet) -> str:
    if not isinstance(target, dict) or not {"boxes", "labels", "iscrowd", "area", "image_id"} <= set(target):
        return f"objects must be a dict of boxes, labels, iscrowd, area and image_id, and one is {_told(target)}"
    if not isinstance(target["labels"], Tensor):
        return f"labels must be a tensor of int64, and one is {_told(target['labels'])}"
    count = len(target["labels"])
    shapes = {"boxes": (count, 4), "masks": (count, image.height, image.width)}
    for name, kind in KINDS.items():
        value, shape = target.get(name), shapes.get(name, (count,))
        is_there = value is not None or name != "masks"
        found = (str(getattr(value, "dtype", "")).removeprefix("torch."), tuple(getattr(value, "shape", ())))
        if is_there and found != (kind, shape):
            return f"{name} must be a tensor {shape} of {kind}, and one is {_told(value)} of {found[0] or 'no kind'}"
    if count and not 1 <= int(target["labels"].min()) <= int(target["labels"].max()) <= entry.classes:
        told = sorted(set(target["labels"].tolist()) - set(range(1, entry.classes + 1)))
        return f"labels must be 1 to {entry.classes}, and one is {told[0]}"
    least, most = target["boxes"][:, :2], target["boxes"][:, 2:]
    if (least < 0).any() or (most <= least).any() or (most > most.new_tensor(image.size)).any():
        return "boxes must have an area, and lie within their image, and one does not"
    return ""


def _told(item: Any) -> str:
    """What an item is, in words: a tensor's sizes, or a PIL image's mode."""
    shape, mode = getattr(item, "shape", None), getattr(item, "mode", None)
    if shape:
        return str(tuple(shape))
    if isinstance(item, dict):
        return f"a dict of {', '.join(map(str, item)) or 'nothing'}"
    return f"a PIL image of mode {mode} and size {item.size}" if isinstance(mode, str) else type(item).__name__
