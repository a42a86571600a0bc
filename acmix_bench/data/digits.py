"""Real images that need no download: the handwritten digits that scikit-learn ships."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.utils.data import TensorDataset

from acmix_bench.data import Splits


def digits(image_size: int) -> Splits:
    """1,437 images to train and 360 to test, (1, image_size, image_size), the same stratified split every time.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998 (its test part).
    """
    bunch = load_digits()
    images = torch.tensor(bunch.images, dtype=torch.float32)[:, None] / 16
    images = F.interpolate(images, size=(image_size, image_size), mode="bilinear", align_corners=False)
    labels = torch.tensor(bunch.target)
    train, test = train_test_split(range(len(labels)), test_size=0.2, stratify=labels, random_state=0)
    mean, deviation = images[train].mean(), images[train].std()
    images = (images - mean) / deviation
    return Splits(
        train=TensorDataset(images[train], labels[train]),
        test=TensorDataset(images[test], labels[test]),
    )
