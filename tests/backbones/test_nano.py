"""Every backbone with every variant: shapes, gradients, and the initialisation that survives."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from acmix_bench import data
from acmix_bench.backbones.build import build
from acmix_bench.ops.acmix import ACmix
from acmix_bench.ops.convolution import shift_kernel
from acmix_bench.spec import library


@pytest.mark.parametrize("variant", library.known("variant"))
@pytest.mark.parametrize("size", [13, 16, 32])
def test_nano_takes_every_variant(variant: str, size: int) -> None:
    model = build("nano", library.load_variant(variant), in_channels=1, num_classes=10, image_size=size)
    out = model(torch.randn(2, 1, size, size))
    out.square().mean().backward()
    assert out.shape == (2, 10)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_nano_has_a_few_hundred_thousand_parameters() -> None:
    for variant in library.known("variant"):
        model = build("nano", library.load_variant(variant), in_channels=1, num_classes=10, image_size=14)
        assert 100_000 < sum(p.numel() for p in model.parameters()) < 500_000


@pytest.mark.parametrize("variant", ["acmix", "kernel-fixed", "init-random"])
def test_the_chosen_initialisation_survives_the_backbone(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a backbone does to all its parameters, the operator's own start is there when it is built."""

    def ruthless(operator, *, in_channels: int, num_classes: int, image_size: int) -> nn.Module:
        model = nn.Sequential(operator(in_channels, 8, stride=1), nn.Flatten(), nn.LazyLinear(num_classes))
        for tensor in (*model[0].parameters(), *model[0].buffers()):
            nn.init.constant_(tensor, 7)
        return model

    monkeypatch.setattr("acmix_bench.backbones.nano.nano", ruthless)
    model = build("nano", library.load_variant(variant), in_channels=3, num_classes=2, image_size=8)
    kernel = model[0].convolution.kernel
    if variant == "init-random":
        assert 0 < kernel.std() < 0.5
        assert kernel.unique().numel() > 100
    else:
        torch.testing.assert_close(kernel.detach(), shift_kernel(8, 3))
    assert [weight.item() for weight in model[0].mix.weights()] == [0.5, 0.5]


@pytest.mark.parametrize("variant", ["acmix", "kernel-fixed"])
def test_the_nano_backbone_keeps_the_shift(variant: str) -> None:
    model = build("nano", library.load_variant(variant), in_channels=1, num_classes=10, image_size=14)
    layers = [module for module in model.modules() if isinstance(module, ACmix)]
    assert len(layers) == 5
    for layer in layers:
        torch.testing.assert_close(layer.convolution.kernel.detach(), shift_kernel(layer.channels, 3))


@pytest.mark.parametrize("size", [8, 16, 31])
def test_digits_are_split_the_same_way_every_time(size: int) -> None:
    first, second = data.load("digits", size, "data"), data.load("digits", size, "data")
    assert (len(first.train), len(first.test)) == (1437, 360)
    images, labels = first.test.tensors
    assert images.shape == (360, 1, size, size)
    assert set(labels.tolist()) == set(range(10))
    assert labels.bincount().min() >= 34, "stratified"
    torch.testing.assert_close(images, second.test.tensors[0])
    train_images = first.train.tensors[0]
    assert abs(train_images.mean()) < 1e-4
    assert abs(train_images.std() - 1) < 1e-4


def test_no_test_image_is_trained_on() -> None:
    splits = data.load("digits", 8, "data")
    trained = {image.numpy().tobytes() for image in splits.train.tensors[0]}
    repeated = sum(image.numpy().tobytes() in trained for image in splits.test.tensors[0])
    assert repeated == 0
