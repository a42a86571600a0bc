"""Real images that need no download: the handwritten digits that scikit-learn ships."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.utils.data import TensorDataset

from acmix_bench.data import Splits


def digits(image_size: int) -> Splits:
    """1,437 images to train and 360 to test, (1, image_size, image_size), the same stratified split every time."""
    images, labels, train, test = split_digits()
    images = F.interpolate(images, size=(image_size, image_size), mode="bilinear", align_corners=False)
    mean, deviation = images[train].mean(), images[train].std()
    images = (images - mean) / deviation
    return Splits(
        train=TensorDataset(images[train], labels[train]),
        test=TensorDataset(images[test], labels[test]),
        mean=(float(mean),),
        deviation=(float(deviation),),
    )


def split_digits() -> tuple[Tensor, Tensor, list[int], list[int]]:
    """Images (1797, 1, 8, 8) from 0 to 1, their classes, and which of them train and which test.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998 (its test part).
    """
    bunch = load_digits()
    images = torch.tensor(bunch.images, dtype=torch.float32)[:, None] / 16
    train, test = train_test_split(range(len(images)), test_size=0.2, stratify=bunch.target, random_state=0)
    return images, torch.tensor(bunch.target), train, test
