"""A data set: a loader, and its declaration."""

from pathlib import Path

import torch
from torch.utils.data import TensorDataset

from acmix_bench.data import DataSet, Splits


def stripes(image_size: int, root: Path) -> Splits:
    """Noisy stripes of four directions, (1, image_size, image_size), to be told apart; the same every time."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(600) % 4
    angles = labels * torch.pi / 4
    y, x = torch.meshgrid(torch.arange(image_size), torch.arange(image_size), indexing="ij")
    phase = 6 * torch.rand(600, generator=draw)
    along = angles.cos()[:, None, None] * x + angles.sin()[:, None, None] * y
    images = (along + phase[:, None, None]).sin() + 0.5 * torch.randn(600, image_size, image_size, generator=draw)
    images = images[:, None]
    return Splits(train=TensorDataset(images[:480], labels[:480]), test=TensorDataset(images[480:], labels[480:]))


STRIPES = DataSet(summary="noisy stripes of four directions, made on the fly", load=stripes, channels=1, classes=4)
