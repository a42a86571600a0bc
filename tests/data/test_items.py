"""Items of one's own data sets to segment and detect: what is told of those that are not what they must be."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from acmix_bench.data import DataSet, Splits
from acmix_bench.data.items import fault_of, look_at_all

IMAGE = Image.new("RGB", (9, 6))


def objects(count: int = 1, **changed: Any) -> dict[str, Any]:
    return {
        "boxes": torch.tensor([[1.0, 2, 9, 6]] * count).reshape(count, 4),
        "labels": torch.full((count,), 3),
        "iscrowd": torch.zeros(count, dtype=torch.int64),
        "area": torch.ones(count),
        "masks": torch.zeros(count, 6, 9, dtype=torch.uint8),
        "image_id": 5,
    } | changed


def declared(task: str) -> DataSet:
    def load(image_size: int, root: Path) -> Splits:
        raise AssertionError

    return DataSet(summary="mine", load=load, channels=3, classes=3, task=task)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("task", "item", "told"),
    [
        ("segment", (IMAGE, Image.new("L", (9, 6), 2)), ""),
        ("segment", (IMAGE, Image.new("L", (9, 6), 255)), ""),
        ("segment", (IMAGE, Image.new("L", (9, 6), 3)), "labels must be 0 to 2, or 255 where .* one is 3"),
        ("segment", (IMAGE, Image.new("L", (6, 9))), "label maps must be .* size \\(9, 6\\), and one is .* \\(6, 9\\)"),
        ("segment", (IMAGE, 2), "label maps must be PIL images of mode L, .* one is int"),
        ("segment", (torch.zeros(3, 6, 9), IMAGE), "images must be PIL images of mode RGB, and one is \\(3, 6, 9\\)"),
        (
            "segment",
            (IMAGE.convert("L"), IMAGE),
            "images must be PIL images of mode RGB, and one is a PIL image of mode L",
        ),
        ("segment", IMAGE, "items must be pairs"),
        ("detect", (IMAGE, objects()), ""),
        ("detect", (IMAGE, objects(0)), ""),
        ("detect", (IMAGE, {name: value for name, value in objects().items() if name != "masks"}), ""),
        ("detect", (IMAGE, {"boxes": 1}), "objects must be a dict of boxes, .* and one is a dict of boxes"),
        ("detect", (IMAGE, objects(labels=torch.tensor([0]))), "labels must be 1 to 3, and one is 0"),
        ("detect", (IMAGE, objects(labels=torch.tensor([4]))), "labels must be 1 to 3, and one is 4"),
        ("detect", (IMAGE, objects(labels=5)), "labels must be a tensor of int64, and one is int"),
        ("detect", (IMAGE, objects(boxes=torch.zeros(2, 4))), "boxes must be a tensor \\(1, 4\\) of float32"),
        ("detect", (IMAGE, objects(area=torch.tensor([1]))), "area must be a tensor \\(1,\\) of float32, .* int64"),
        (
            "detect",
            (IMAGE, objects(masks=torch.zeros(1, 9, 6, dtype=torch.uint8))),
            "masks must be a tensor \\(1, 6, 9\\)",
        ),
        ("detect", (IMAGE, objects(boxes=torch.tensor([[1.0, 2, 10, 6]]))), "boxes must have an area, and lie within"),
        ("detect", (IMAGE, objects(boxes=torch.tensor([[1.0, 2, 1, 6]]))), "boxes must have an area, and lie within"),
    ],
)
def test_an_item_is_what_its_data_set_declares(task: str, item: Any, told: str) -> None:
    found = fault_of(item, declared(task), 0)
    if not told:
        assert found == ""
    else:
        assert re.match(told, found), found
        assert [one.fault for one in look_at_all([item], declared(task))] == [f"image 0: {found}"]
