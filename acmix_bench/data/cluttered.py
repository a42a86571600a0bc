"""Cluttered digits: real ones on a larger canvas among pieces of others, made as they are asked for.

After the cluttered translated MNIST of V. Mnih et al., Recurrent Models of Visual Attention, NeurIPS 2014, made of
the digits that scikit-learn ships.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import TensorDataset

from acmix_bench.data import Splits
from acmix_bench.data.digits import split_digits

TRAIN, TEST, TOGETHER = 20_000, 2_000, 500  # images; so many are made at a time
LARGEST = 56  # edge of a canvas; a larger image is a larger view of it
# Of a canvas of edge 2: half the edge of the digit that is to be named, and what the others have of it.
LEAST, MOST, OTHERS = 0.5, 0.65, 0.5
WHOLE, PIECES = 1, 3  # smaller whole digits, and pieces of half a digit's edge, on each canvas
TURN = math.radians(25)  # at most, either way: further, a 6 may be a 9
MEAN, DEVIATION = 0.2, 0.3


def cluttered(image_size: int) -> Splits:
    """Images (1, image_size, image_size) of which the class is that of the largest whole digit.

    Training images are made of the training digits of `digits` alone, test images of its test digits. Which image has
    which number is fixed.
    """
    train, test = made(min(image_size, LARGEST))
    return Splits(
        train=Canvases(*train, image_size),
        test=Canvases(*test, image_size),
        mean=(MEAN,),
        deviation=(DEVIATION,),
        told="the class is that of the largest whole digit",
    )


class Canvases(TensorDataset):
    """Bytes (N, 1, h, w) with the numbers of their classes (N,), which are given normalised, and in a size."""

    def __init__(self, canvases: Tensor, labels: Tensor, image_size: int) -> None:
        super().__init__(canvases, labels)
        self.image_size = image_size

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        """One image, or of several numbers as many."""
        canvases, labels = super().__getitem__(index)
        images = (canvases.float() / 255 - MEAN) / DEVIATION
        if images.shape[-1] != self.image_size:
            sizes = (self.image_size, self.image_size)
            larger = F.interpolate(images.reshape(-1, *images.shape[-3:]), sizes, mode="bilinear", align_corners=False)
            images = larger.reshape(*images.shape[:-2], *sizes)
        return images, labels


@cache
def made(edge: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """All canvases of an edge with their classes, to train and to test: 0.05 ms each at 28 pixels, 0.1 ms at 56."""
    digits, labels, train, test = split_digits()
    seeds = range(TRAIN // TOGETHER), range(TRAIN // TOGETHER, (TRAIN + TEST) // TOGETHER)
    ours = [drawn(digits[train], labels[train], edge, seed) for seed in seeds[0]]
    theirs = [drawn(digits[test], labels[test], edge, seed) for seed in seeds[1]]
    return _joined(ours), _joined(theirs)


def _joined(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    canvases, labels = zip(*parts, strict=True)
    return torch.cat(canvases), torch.cat(labels)


def drawn(digits: Tensor, labels: Tensor, edge: int, seed: int) -> tuple[Tensor, Tensor]:
    """Canvases (TOGETHER, 1, edge, edge) of bytes, and the classes of their largest digits, (TOGETHER,)."""
    random = torch.Generator().manual_seed(seed)

    def uniform(count: int, least: float, most: float) -> Tensor:
        return least + (most - least) * torch.rand(TOGETHER, count, generator=random)

    half = uniform(1, LEAST, MOST)
    chosen = torch.randint(len(digits), (TOGETHER, 1 + WHOLE + PIECES), generator=random)
    whole, cut = digits[chosen[:, : 1 + WHOLE]], digits[chosen[:, 1 + WHOLE :]]
    # A piece is a quarter of a digit, cut out anywhere.
    rows, columns = torch.randint(cut.shape[-1] // 2 + 1, (2, TOGETHER, PIECES), generator=random)
    span = torch.arange(cut.shape[-1] // 2)
    images, pieces = torch.arange(TOGETHER)[:, None, None, None], torch.arange(PIECES)[:, None, None]
    cut = cut[images, pieces, 0, rows[..., None, None] + span[:, None], columns[..., None, None] + span][:, :, None]
    canvas = torch.zeros(TOGETHER, 1, edge, edge)
    _draw(canvas, whole[:, :1], half, uniform(1, -TURN, TURN), uniform(2, -1, 1))
    _draw(canvas, whole[:, 1:], half.expand(-1, WHOLE) * OTHERS, uniform(WHOLE, -TURN, TURN), uniform(2 * WHOLE, -1, 1))
    _draw(canvas, cut, half.expand(-1, PIECES) / 2, uniform(PIECES, -math.pi, math.pi), uniform(2 * PIECES, -1, 1))
    return (canvas * 255).round().byte(), labels[chosen[:, 0]]


def _draw(canvas: Tensor, sprites: Tensor, halves: Tensor, turns: Tensor, places: Tensor) -> None:
    """Draw sprites (B, N, 1, h, w), turned and scaled to half edges (B, N), over canvases (B, 1, edge, edge).

    Args:
        places: (B, 2 N) from -1 to 1, of the room that a sprite has within the canvas.
    """
    (batch, count), edge = halves.shape, canvas.shape[-1]
    centres = places.reshape(batch, count, 2) * (1 - halves[..., None])  # x, y
    # Only a patch of the canvas is computed, which holds the sprite however it is turned.
    patch = min(edge, math.ceil(math.sqrt(2) * float(halves.max()) * edge) + 1)
    corners = (((centres + 1) * edge - patch) / 2).round().clamp(0, edge - patch)
    cosine, sine = turns.cos() / halves, turns.sin() / halves
    turn = torch.stack([torch.stack([cosine, sine], -1), torch.stack([-sine, cosine], -1)], -2)
    shift = (2 * corners + patch) / edge - 1 - centres
    theta = torch.cat([turn * (patch / edge), turn @ shift[..., None]], -1).flatten(0, 1)
    grid = F.affine_grid(theta, [batch * count, 1, patch, patch], align_corners=False)
    ink = F.grid_sample(sprites.flatten(0, 1), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    column, row = corners.long().unbind(-1)
    span = torch.arange(patch)
    where = (row[..., None, None] + span[:, None]) * edge + column[..., None, None] + span
    canvas.flatten(1).scatter_reduce_(1, where.flatten(1), ink.reshape(batch, -1), "amax")
