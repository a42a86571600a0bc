"""Scenes of digits: what is seen of each, always the same, and made of the digits of their own part."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from acmix_bench import data
from acmix_bench.data import scenes
from acmix_bench.data.digits import split_digits
from acmix_bench.data.items import fault_of
from acmix_bench.errors import UserError


@pytest.mark.parametrize("size", [16, 64, 100])
@pytest.mark.parametrize("name", ["scenes-segment", "scenes-detect"])
def test_items_are_what_is_promised_and_always_the_same(name: str, size: int) -> None:
    splits, again = data.load(name, size, "data"), data.load(name, size, "data")
    assert (len(splits.train), len(splits.test)) == (1000, 200)
    for part, other in ((splits.train, again.train), (splits.test, again.test)):
        for number in (31, 7, len(part) - 1):
            assert fault_of(part[number], data.find(name), size) == ""
            assert part[number][0].size == (size, size)
            assert part[number][0].tobytes() == other[number][0].tobytes()
        with pytest.raises(IndexError):
            part[len(part)]


def test_label_map_boxes_and_masks_are_of_one_scene() -> None:
    segment, detect = data.load("scenes-segment", 64, "data").train, data.load("scenes-detect", 64, "data").train
    counts = set()
    for number in range(100):
        (image, labels), (same, target) = segment[number], detect[number]
        assert image.tobytes() == same.tobytes()
        literal = np.zeros((64, 64), np.uint8)
        for label, mask, box in zip(target["labels"], target["masks"].numpy(), target["boxes"], strict=True):
            assert not literal[mask == 1].any(), "no pixel belongs to two"
            literal[mask == 1] = label
            rows, columns = np.nonzero(mask)
            assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert np.array_equal(literal, np.asarray(labels))
        assert target["area"].tolist() == target["masks"].sum((1, 2)).tolist()
        counts.add(len(target["labels"]))
    assert counts == {1, 2, 3, 4}


def test_no_digit_is_hidden_by_a_tenth(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of digits that are full squares, of which a tenth of its box is hidden at most."""
    digits, labels, photographs = scenes._sources("train")
    squares = [Image.fromarray(np.ones((8, 8), np.float32))] * len(digits)
    monkeypatch.setattr(scenes, "_sources", lambda part: (squares, labels, photographs))

    def least_seen() -> float:
        shares = []
        for number in range(100):
            for _, mask in scenes.drawn("train", number, 64)[1]:
                rows, columns = np.nonzero(mask)
                shares.append(mask.sum() / (np.ptp(rows) + 1) / (np.ptp(columns) + 1))
        return min(shares)

    assert 0.9 < least_seen() < 1
    monkeypatch.setattr(scenes, "HIDDEN", 0.7)
    assert least_seen() < 0.7


def test_ink_is_brighter_than_the_ground_and_lies_where_the_mask_says() -> None:
    for number in range(50):
        pixels, visible = scenes.drawn("test", number, 64)
        inside = np.logical_or.reduce([mask for _, mask in visible])
        assert pixels[inside].mean() > pixels[~inside].mean() + 40


def test_test_scenes_hold_nothing_of_training_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    """With training digits emptied and left halves blackened, test scenes are as before and training scenes are not."""
    images, labels, train, test = split_digits()
    before = {part: scenes.drawn(part, 3, 64)[0] for part in ("train", "test")}
    empty = images.clone()
    empty[train] = 0
    real = scenes.load_sample_images()
    dark = [photograph.copy() for photograph in real.images]
    for photograph in dark:
        photograph[:, : photograph.shape[1] // 2] = 0
    real.images = dark
    monkeypatch.setattr(scenes, "split_digits", lambda: (empty, labels, train, test))
    monkeypatch.setattr(scenes, "load_sample_images", lambda: real)
    scenes._sources.cache_clear()
    assert np.array_equal(scenes.drawn("test", 3, 64)[0], before["test"])
    assert before["train"].any() and not scenes.drawn("train", 3, 64)[0].any()
    scenes._sources.cache_clear()


def test_scenes_that_are_too_small_are_refused() -> None:
    with pytest.raises(UserError, match="image_size=8: too small for scenes"):
        data.load("scenes-detect", 8, "data")
