"""The paper's models: parameters to the last one, MACs, training, and every variant that fits."""

from __future__ import annotations

import pytest
import torch
from full import FULL, full
from torch import nn

from acmix_bench import backbones, data
from acmix_bench.analysis.published import figures_of
from acmix_bench.backbones.build import build
from acmix_bench.meters.macs import count_layers
from acmix_bench.spec import library

PAPER = sorted(name for name, entry in backbones.BACKBONES.items() if entry.data == "imagenet")
MODELS = [*PAPER, *(f"{name}-acmix" for name in PAPER if "pairwise" not in name)]
MODELS += [f"resnet{depth}-attention-only" for depth in (26, 38, 50)]
SMALL = {"resnet26": 112, "san10": 128, "pvt-t": 64, "swin-t": 64}


def built(model: str, *, size: int | None = None, channels: int = 3, classes: int = 1000) -> nn.Module:
    row = backbones.find_model(model)
    sizes = {"in_channels": channels, "num_classes": classes, "image_size": size or row.case.image_size}
    return build(row.case.backbone, row.variant, **sizes)


def cost_of_convolution_path(model: str) -> int:
    """3 k^2 C and k^4 C a pixel of every bottleneck's operator, the latter on the strided grid."""
    depths = {"26": (1, 2, 4, 1), "38": (2, 3, 5, 2), "50": (3, 4, 6, 3)}[model[6:8]]
    total = 0
    for stage, depth in enumerate(depths):
        width, edge = 64 * 2**stage, 56 // 2**stage
        for block in range(depth):
            pixels = (2 * edge) ** 2 if stage and not block else edge**2
            total += 27 * width * pixels + 81 * width * edge**2
    return total


def bias_additions(model: nn.Module, image: torch.Tensor) -> int:
    """One addition for every output of a convolution or linear layer with a bias, attention taps included."""
    added = 0

    def count(layer: nn.Module, _: object, out: torch.Tensor) -> None:
        nonlocal added
        added += out.numel() if layer.bias is not None else 0

    for layer in model.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.register_forward_hook(count)
    with torch.no_grad():
        model(image)
    return added


@pytest.mark.parametrize("model", MODELS)
def test_parameters_and_macs_agree_with_the_released_code(model: str) -> None:
    row = backbones.find_model(model)
    figures = figures_of(row)
    image = torch.randn(1, 3, 224, 224)
    network = built(model).eval()
    parameters = sum(p.numel() for p in network.parameters())
    layers, unknown = count_layers(network, image)
    macs = sum(sum(layer["macs"].values()) for layer in layers)
    assert unknown == {}
    if "counted" in figures:
        assert parameters == round(figures["counted"].params_m * 1e6)
        if model.startswith("san"):  # that count takes every bias for one multiply-add
            macs += bias_additions(network, image)
        assert macs == pytest.approx(figures["counted"].macs_g * 1e9, rel=0.005)
    elif model.endswith("attention-only"):
        # A third party's parameters; its MACs are read off a figure, and ours are 4 to 9 % below them.
        assert parameters == pytest.approx(figures["published"].params_m * 1e6, rel=0.01)
        convolution = cost_of_convolution_path(model)
        acmix = built(model.replace("attention-only", "acmix")).eval()
        both = sum(sum(layer["macs"].values()) for layer in count_layers(acmix, image)[0])
        assert macs == both - convolution
    elif "published" in figures:
        # Never released: within 3 % of the print, which is rounded to the last digit that it shows.
        rounding = 0.5e6 if model.startswith("pvt") else 0.05e6
        printed = figures["published"].params_m * 1e6
        assert abs(parameters - printed) <= 0.03 * printed + rounding
        assert macs == pytest.approx(figures["published"].macs_g * 1e9, rel=0.03)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("variant", sorted(set(library.known("variant")) - {"conv3x3"}))
def test_every_variant_that_fits_trains(name: str, variant: str) -> None:
    size = SMALL[name]
    model = built(f"{name}-{variant}", size=size, channels=1, classes=10)
    out = model(torch.randn(2, 1, size, size))
    out.square().mean().backward()
    assert out.shape == (2, 10)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def losses_of_training(model: str, *, size: int, images: int, steps: int = 5) -> list[float]:
    """The loss before each of a few AdamW steps on the same digits."""
    torch.manual_seed(0)
    pixels, labels = (tensor[:images] for tensor in data.load("digits", size, "").train.tensors)
    network = built(model, size=size, channels=1, classes=10)
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-4)
    losses = []
    for _ in range(steps):
        loss = nn.functional.cross_entropy(network(pixels), labels)
        optimiser.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
        optimiser.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(f"{name}{kind}", marks=full) if name == "san10" and not kind else f"{name}{kind}"
        for name in SMALL
        for kind in ("", "-acmix")
    ],
)
def test_a_few_steps_lower_the_loss_on_real_images(model: str) -> None:
    losses = losses_of_training(model, size=SMALL[backbones.find_model(model).case.backbone], images=8)
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.skipif(not FULL, reason="full sizes run in nox -s full")
@pytest.mark.parametrize("model", MODELS)
def test_training_at_full_size_lowers_the_loss(model: str) -> None:
    losses = losses_of_training(model, size=224, images=2)
    assert losses[-1] < 0.9 * losses[0]
