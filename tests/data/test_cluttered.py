"""Cluttered digits: fixed images, made of the digits of their own part alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from acmix_bench import data
from acmix_bench.data import cluttered
from acmix_bench.data.digits import split_digits


@pytest.fixture
def _few(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fewer images, which are made sooner."""
    monkeypatch.setattr(cluttered, "TRAIN", 1000)
    monkeypatch.setattr(cluttered, "TEST", 500)
    cluttered.made.cache_clear()
    yield
    cluttered.made.cache_clear()


def test_images_are_what_they_are_said_to_be() -> None:
    splits = data.load("cluttered", 28, "data")
    assert (len(splits.train), len(splits.test)) == (cluttered.TRAIN, cluttered.TEST)
    images, labels = splits.train[list(range(2000))]
    assert images.shape == (2000, 1, 28, 28)
    assert labels.bincount(minlength=10).min() > 150
    assert abs(images.mean()) < 0.1
    assert abs(images.std() - 1) < 0.1
    assert torch.equal(splits.train[7][0], images[7])
    assert len({image.numpy().tobytes() for image in images}) == 2000


@pytest.mark.parametrize("size", [28, 40, 90])
@pytest.mark.usefixtures("_few")
def test_an_image_is_the_same_in_every_process_and_of_every_size(size: int) -> None:
    first = data.load("cluttered", size, "data").test[3]
    cluttered.made.cache_clear()
    again = data.load("cluttered", size, "data").test[3]
    assert first[0].shape == (1, size, size)
    assert torch.equal(first[0], again[0])
    assert first[1] == again[1]


def test_the_class_is_that_of_the_largest_whole_digit() -> None:
    """Of digits that are full squares, each of a brightness of its own, the largest square is the one that is named."""
    levels = torch.arange(1, 11) / 10
    squares = levels[:, None, None, None].expand(10, 1, 8, 8)
    canvases, labels = cluttered.drawn(squares, torch.arange(10), 56, seed=0)
    bytes_of = (levels * 255).round()
    seen = torch.stack([(canvases.float() == level).sum((1, 2, 3)) for level in bytes_of], 1)
    # What lies over it may hide most of it where others are brighter: so the brightest alone are looked at.
    brightest = labels == 9
    assert brightest.sum() > 20
    assert (seen[brightest].argmax(1) == 9).all()


@pytest.mark.usefixtures("_few")
def test_test_images_are_made_of_test_digits_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """With training digits blackened, training images are black and test images as before."""
    images, labels, train, test = split_digits()
    assert not set(train) & set(test)
    black = images.clone()
    black[train] = 0
    before = data.load("cluttered", 28, "data")
    monkeypatch.setattr(cluttered, "split_digits", lambda: (black, labels, train, test))
    cluttered.made.cache_clear()
    after = data.load("cluttered", 28, "data")
    assert after.train[5][0].unique().numel() == 1
    assert torch.equal(after.test[list(range(50))][0], before.test[list(range(50))][0])


def test_a_digit_lies_where_it_is_put() -> None:
    """A white square of half edge 0.25 in the right upper corner, and one of half edge 0.5 in the left lower."""
    for half, place, rows, columns in (
        (0.25, (1.0, -1.0), slice(0, 10), slice(30, 40)),
        (0.5, (-1.0, 1.0), slice(20, 40), slice(0, 20)),
    ):
        canvas = torch.zeros(1, 1, 40, 40)
        sprite = torch.ones(1, 1, 1, 8, 8)
        cluttered._draw(canvas, sprite, torch.full((1, 1), half), torch.zeros(1, 1), torch.tensor([place]))
        expected = torch.zeros(40, 40)
        expected[rows, columns] = 1
        # Its edges are blurred by less than one of its 8 rows.
        assert ((canvas[0, 0] - expected).abs() > 0.6).sum() == 0
        assert canvas[0, 0][rows, columns].mean() > 0.8
