"""The features of every backbone: its stages' own outputs, at any size, without its head."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from acmix_bench import backbones
from acmix_bench.backbones import Backbone
from acmix_bench.backbones.build import build
from acmix_bench.backbones.features import STRIDES, Features
from acmix_bench.errors import UserError
from acmix_bench.runs.contract_others import of_backbone

SMALL = {"resnet26": 64, "san10": 128, "pvt-t": 64, "swin-t": 64}
MODELS = [f"{name}{kind}" for name in SMALL for kind in ("", "-acmix")]
ROUNDS_UP = ("resnet26", "swin-t")


def built(model: str, size: int = 224) -> tuple[nn.Module, str]:
    row = backbones.find_model(model)
    name = row.case.backbone
    return build(name, row.variant, in_channels=3, num_classes=10, image_size=size), name


@pytest.mark.parametrize("model", MODELS)
def test_features_are_what_the_stages_give_in_the_whole_model(model: str) -> None:
    whole, name = built(model, SMALL[backbones.find_model(model).case.backbone])
    size = SMALL[name]
    features, image = Features(whole.eval(), name), torch.randn(1, 3, size, size)
    given: list[Tensor] = []
    for module, _ in backbones.find(name).stages:
        whole.get_submodule(module).register_forward_hook(lambda _, __, out: given.append(out))
    with torch.no_grad():
        whole(image)
        wanted, given = given, []
        maps = features(image)
    assert [info["reduction"] for info in features.feature_info] == list(STRIDES)
    assert [info["num_chs"] for info in features.feature_info] == [one.shape[1] for one in maps]
    if name == "swin-t":
        wanted = [F.layer_norm(one, one.shape[-1:]).permute(0, 3, 1, 2) for one in wanted]
    if name == "pvt-t":  # there the last one gives its class token, which attends to the pixels, and they to it
        del wanted[3]
        last = maps.pop(3)
        stage = whole.stages[3]
        with torch.no_grad():
            tokens = stage.norm(stage.patches(maps[2]).flatten(2).transpose(1, 2)) + stage.pos_embed[:, 1:]
            for block in stage.blocks:
                tokens = block(tokens, *last.shape[2:])
        wanted.append(tokens.transpose(1, 2).reshape(last.shape))
        maps.append(last)
    for one, other in zip(maps, wanted, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("model", MODELS)
def test_features_at_odd_sizes_train_all_that_they_hold(model: str) -> None:
    features = Features(*built(model))
    more = 64 if features.name == "san10" else 0
    for sides in ((75 + more, 101 + more), (66 + more, 97 + more)):
        maps, wanted = features(torch.randn(2, 3, *sides)), []
        for stride, (_, channels) in zip(STRIDES, backbones.find(features.name).stages, strict=True):
            rounded = (-(-side // stride) if features.name in ROUNDS_UP else side // stride for side in sides)
            wanted.append((2, channels, *rounded))
        assert [tuple(one.shape) for one in maps] == wanted
    sum(one.square().mean() for one in maps).backward()
    idle = [name for name, p in features.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert idle == []


def test_positions_of_pvt_are_interpolated_as_in_its_code_for_detection() -> None:
    stage = built("pvt-t")[0].stages[0]
    image = torch.randn(1, 3, 75, 101)
    grid = stage.pos_embed.reshape(1, 56, 56, -1).permute(0, 3, 1, 2)
    positions = F.interpolate(grid, size=(18, 25), mode="bilinear").reshape(1, -1, 18 * 25).permute(0, 2, 1)
    tokens = stage.norm(stage.patches(image).flatten(2).transpose(1, 2)) + positions
    for block in stage.blocks:
        tokens = block(tokens, 18, 25)
    torch.testing.assert_close(stage(image), tokens.transpose(1, 2).reshape(1, 64, 18, 25))


def test_the_last_stage_of_swin_shifts_its_windows_where_the_map_has_several() -> None:
    """As in Swin's code for dense tasks, though at 224 it has one window alone."""
    block = built("swin-t")[0].layers[3].blocks[1].eval()
    seen = []
    block.attn.register_forward_hook(lambda _, __, kept, out: seen.append(kept["mask"]), with_kwargs=True)
    with torch.no_grad():
        block(torch.randn(1, 7, 7, 768))
        block(torch.randn(1, 8, 13, 768))
    assert seen[0] is None
    assert seen[1].shape == (4, 49, 49)


@pytest.mark.parametrize(
    ("model", "size", "least"),
    [
        ("san10", 96, 128),
        ("resnet50-acmix", 64, 128),
        ("resnet26-acmix", 48, 64),
        ("pvt-t", 31, 32),
        ("swin-t", 20, 32),
    ],
)
def test_an_image_that_is_too_small_is_refused_with_the_least_size(model: str, size: int, least: int) -> None:
    features = Features(*built(model))
    where = f"{features.name} at {size}x{size + 9}"
    with pytest.raises(UserError, match=f"{where}: use an image of {least} pixels each way or more: "):
        features(torch.randn(1, 3, size, size + 9))


class Mine(nn.Module):
    """A pyramid in which the stages are not called from one container, with what no module does between two or not."""

    def __init__(self, between: Callable[[Tensor], Tensor] = nn.Identity()) -> None:  # noqa: B008 - it has no state
        super().__init__()
        self.between = [between]
        self.stem = nn.Conv2d(3, 4, 2, 2)
        self.a, self.b = nn.Conv2d(4, 8, 2, 2), nn.Conv2d(8, 8, 2, 2)
        self.rest = nn.ModuleList([nn.Conv2d(8, 8, 2, 2), nn.Conv2d(8, 16, 2, 2)])
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(self.between[0](self.a(self.stem(x))))
        for module in self.rest:
            x = module(x)
        return self.head(x.mean((2, 3)))


def mine(*stages: tuple[str, int], model: Callable[[], nn.Module] = Mine) -> Backbone:
    return Backbone(summary="mine", build=lambda *_, **__: model(), image_size=32, data="cifar10", stages=stages)


def test_a_backbone_of_ones_own_gives_features(monkeypatch: pytest.MonkeyPatch) -> None:
    own = mine(("a", 8), ("b", 8), ("rest.0", 8), ("rest.1", 16))
    monkeypatch.setitem(backbones.BACKBONES, "mine", own)
    model = Mine()
    features = Features(model, "mine")
    maps = features(torch.randn(2, 3, 66, 97))
    assert [tuple(one.shape[1:]) for one in maps] == [(8, 16, 24), (8, 8, 12), (8, 4, 6), (16, 2, 3)]
    head = {id(p) for p in model.head.parameters()}
    assert {id(p) for p in features.parameters()} == {id(p) for p in model.parameters()} - head


@pytest.mark.parametrize(
    "stages", [("a", "b", "rest.0", "rest.2"), ("b", "a", "rest.0", "rest.1"), ("a", "b", "rest", "rest.1")]
)
def test_stages_that_do_not_follow_one_another_are_refused(
    stages: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(backbones.BACKBONES, "mine", mine(*((stage, 8) for stage in stages)))
    with pytest.raises(UserError, match=f"backbone mine: its stages {', '.join(stages)} must stand one after another"):
        Features(Mine(), "mine")


def test_check_finds_stages_that_do_more_in_the_whole_model(monkeypatch: pytest.MonkeyPatch) -> None:
    for between, holds in ((torch.square, False), (nn.Identity(), True)):
        own = mine(("a", 8), ("b", 8), ("rest.0", 8), ("rest.1", 16), model=partial(Mine, between))
        monkeypatch.setitem(backbones.BACKBONES, "mine", own)
        (stages,) = (promise for promise in of_backbone("mine") if promise.name == "stages")
        assert stages.holds == holds, stages.told
    assert stages.told == "8x8x8 8x4x4 8x2x2 16x1x1"
