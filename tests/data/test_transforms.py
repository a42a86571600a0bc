"""From a picture to a model's input, by every recipe."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from acmix_bench.data import Splits
from acmix_bench.data.transforms import to_test, to_train
from acmix_bench.spec import library
from acmix_bench.spec.recipe import Recipe
from acmix_bench.tasks import classify
from acmix_bench.train.batches import Drawn

PIXELS = np.random.default_rng(0).integers(0, 255, (30, 50, 3), dtype=np.uint8)
PAIRS = [(Image.fromarray(PIXELS), 1), (Image.fromarray(PIXELS[:, :20]), 2)]
SPLITS = Splits(train=PAIRS, test=PAIRS)  # type: ignore[arg-type]


def drawn_by(recipe: Recipe, seed: int) -> Drawn:
    prepare = to_train(recipe, 24, SPLITS)
    return Drawn(PAIRS, lambda image, label: (prepare(image), label), classify.collate, seed)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(library.known("recipe")))
def test_every_recipe_draws_images_of_a_size(name: str) -> None:
    """Often enough that all of RandAugment is drawn, also at its strongest."""
    recipe = library.load_recipe(name)
    drawn = drawn_by(recipe, 0)
    for epoch in range(150):
        batch = drawn.__getitems__([(epoch, 0, 0), (epoch, 1, 0)])
        assert batch[0].shape == (2, 3, 24, 24)  # type: ignore[index]
        assert batch[0].isfinite().all()  # type: ignore[index]


def test_what_is_drawn_depends_on_seed_epoch_and_image_alone() -> None:
    recipe = library.load_recipe("pvt")
    one, same, other = (drawn_by(recipe, seed) for seed in (3, 3, 4))
    first = one.__getitems__([(5, 1, 2)])[0]  # type: ignore[index]
    same.__getitems__([(0, 0, 0)])
    assert torch.equal(same.__getitems__([(5, 1, 2)])[0], first)  # type: ignore[index]
    for others in (other.__getitems__([(5, 1, 2)]), one.__getitems__([(6, 1, 2)]), one.__getitems__([(5, 1, 1)])):
        assert not torch.equal(others[0], first)  # type: ignore[index]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_a_test_image_is_resized_and_its_middle_cropped(interpolation: str) -> None:
    """Literally, by Pillow: the shorter edge becomes 24 / 0.75 pixels."""
    recipe = Recipe(crop=0.75, interpolation=interpolation)  # type: ignore[arg-type]
    ours = to_test(recipe, 24, SPLITS)(PAIRS[0][0])
    mode = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[interpolation]
    literal = np.asarray(PAIRS[0][0].resize((53, 32), mode).crop((14, 4, 38, 28)), dtype=np.float32) / 255
    wanted = (literal - np.array(SPLITS.mean)) / np.array(SPLITS.deviation)
    np.testing.assert_allclose(ours.permute(1, 2, 0).numpy(), wanted, atol=1e-5)
