"""An image and what lies on it are changed together, by every draw."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from acmix_bench.data import Splits
from acmix_bench.data.dense import fitting, to_test, to_train
from acmix_bench.errors import UserError
from acmix_bench.spec import strict
from acmix_bench.spec.recipe import DenseRecipe

SPLITS = Splits(train=[], test=[], mean=(0.5, 0.4, 0.3), deviation=(0.2, 0.2, 0.2))  # type: ignore[arg-type]
BOX = (20, 12, 50, 30)  # left, top, right and low edge
EDGES = st.integers(1, 300)


def drawn(width: int = 90, height: int = 60) -> tuple[Image.Image, Image.Image, dict[str, object]]:
    """A white rectangle on grey, its label map, and its box with its mask; beside them a crowd and a small one."""
    left, top, right, low = BOX
    mask = np.zeros((height, width), np.uint8)
    mask[top:low, left:right] = 1
    small = np.zeros_like(mask)
    small[0, 0] = 1
    target = {
        "boxes": torch.tensor([BOX, (0, 0, width, height), (0, 0, 1, 1)], dtype=torch.float32),
        "labels": torch.tensor([4, 5, 6]),
        "masks": torch.from_numpy(np.stack([mask, np.ones_like(mask), small])),
        "iscrowd": torch.tensor([0, 1, 0]),
        "area": torch.tensor([540.0, 5400.0, 1.0]),
        "image_id": 7,
    }
    return Image.fromarray(mask * 195 + 60).convert("RGB"), Image.fromarray(mask * 3), target


def extent(mask: torch.Tensor) -> list[int]:
    rows, columns = torch.nonzero(mask, as_tuple=True)
    return [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]


@given(
    seed=st.integers(0, 2**32),
    least=st.floats(0.3, 1),
    most=st.floats(1, 2),
    crop=st.sampled_from([0, 24, 64]),
    flip=st.sampled_from([0.0, 0.5, 1.0]),
)
@settings(max_examples=40, deadline=None)
def test_image_label_map_box_and_mask_stay_aligned(
    seed: int, least: float, most: float, crop: int, flip: float
) -> None:
    recipe = DenseRecipe(least_scale=least, most_scale=most, train_crop=crop, flip=flip)
    prepare = to_train(recipe, (60, 90), SPLITS)
    image, labels, target = drawn()
    torch.manual_seed(seed)
    pixels, numbers = prepare(image, labels)
    torch.manual_seed(seed)
    same, found = prepare(image, target)
    height, width = same.shape[-2:]
    assert torch.equal(pixels[:, :height, :width], same), "the same draws for both tasks"
    assert pixels.shape[-2:] == numbers.shape == (crop or height, crop or width)
    inside, scene = numbers[:height, :width] == 3, pixels[0] * 0.2 + 0.5
    assert (numbers[height:] == 255).all() and (numbers[:, width:] == 255).all()
    assert (pixels[:, height:] == 0).all() and (pixels[:, :, width:] == 0).all()
    assert (scene[:height, :width] > 0.2).all(), "of the image alone"
    assert set(numbers.unique().tolist()) <= {0, 3, 255}
    assert found["masks"].shape[1:] == (height, width) and found["image_id"] == 7
    assert len(found["boxes"]) == len(found["labels"]) == len(found["masks"]) == len(found["area"])
    assert 5 not in found["labels"].tolist(), "a crowd"
    boxes = found["boxes"]
    assert ((boxes[:, 2:] > boxes[:, :2]) & (boxes[:, :2] >= 0)).all()
    assert (boxes[:, 2:] <= torch.tensor([width, height])).all()
    is_there = found["labels"] == 4
    if is_there.any():
        mask = found["masks"][is_there][0].bool()
        assert torch.equal(mask, inside)
        if mask.sum() > 16:
            assert np.abs(np.subtract(extent(mask), boxes[is_there][0].tolist())).max() <= 1.01
            bright = scene[:height, :width] > 0.5
            assert (bright ^ mask).sum() <= 2 * (height + width), "but for its edge"
    else:
        assert inside.sum() <= max(height, width)


@given(original=st.tuples(EDGES, EDGES), size=st.tuples(EDGES, EDGES))
def test_an_image_is_the_largest_that_fits(original: tuple[int, int], size: tuple[int, int]) -> None:
    height, width = fitting(original, size)
    short, long = sorted((height, width))
    assert short <= min(size) and long <= max(size)
    assert short == min(size) or long == max(size)
    if short > 1:  # else its ratio is lost
        scale = long / max(original)
        assert abs(short - min(original) * scale) <= 0.5 * (1 + min(original) / max(original)) + 1e-6


def test_the_papers_sizes() -> None:
    assert fitting((480, 640), (800, 1333)) == fitting((480, 640), (1333, 800)) == (800, 1067)
    assert fitting((427, 640), (800, 1333)) == (800, 1199)
    assert fitting((300, 640), (800, 1333)) == (625, 1333)
    assert fitting((683, 512), (512, 2048)) == (683, 512)
    assert fitting((100, 100), (512, 2048), 0.5) == (256, 256)


def test_a_test_image_is_resized_and_its_target_is_not() -> None:
    image, labels, target = drawn()
    prepare = to_test(DenseRecipe(train_crop=24, flip=1.0, photometric=True), (30, 60), SPLITS)
    pixels, numbers = prepare(image, labels)
    assert pixels.shape == (3, 30, 45)
    literal = np.asarray(image.resize((45, 30), Image.Resampling.BILINEAR), np.float32) / 255
    wanted = (literal - np.array(SPLITS.mean)) / np.array(SPLITS.deviation)
    np.testing.assert_allclose(pixels.permute(1, 2, 0).numpy(), wanted, atol=0.021)
    assert numbers["original"] == (60, 90)
    assert torch.equal(numbers["labels"], torch.tensor(np.array(labels)).long())
    same, found = prepare(image, target)
    assert torch.equal(same, pixels)
    assert found["original"] == (60, 90) and found["labels"].tolist() == [4, 5, 6]
    assert found["boxes"].tolist() == target["boxes"].tolist()  # type: ignore[union-attr, attr-defined]
    assert all(type(value) is torch.Tensor for value in found.values() if isinstance(value, torch.Tensor))


def test_colours_change_the_image_alone() -> None:
    image, labels, _ = drawn()
    grey = Image.fromarray(np.asarray(image) // 2 + 40)
    torch.manual_seed(0)
    plain = to_train(DenseRecipe(), (60, 90), SPLITS)(grey, labels)
    others = [to_train(DenseRecipe(photometric=True), (60, 90), SPLITS)(grey, labels) for _ in range(4)]
    assert all(torch.equal(numbers, plain[1]) for _, numbers in others)
    assert sum(not torch.allclose(pixels, plain[0]) for pixels, _ in others) >= 3


def test_images_without_objects_and_boxes_without_masks() -> None:
    image, _, target = drawn()
    none = {name: value[:0] if isinstance(value, torch.Tensor) else value for name, value in target.items()}
    recipe = DenseRecipe(least_scale=0.5, most_scale=2, train_crop=24, flip=0.5)
    _, found = to_train(recipe, (60, 90), SPLITS)(image, none)
    assert found["boxes"].shape == (0, 4) and found["masks"].shape == (0, 24, 24)
    del target["masks"]
    _, found = to_train(DenseRecipe(), (60, 90), SPLITS)(image, target)
    assert "masks" not in found and found["labels"].tolist() == [4, 6]


def test_scales_are_in_order() -> None:
    with pytest.raises(UserError, match="least_scale=2 is more than most_scale=1"):
        strict.validated(DenseRecipe, {"least_scale": 2}, where="a recipe")
