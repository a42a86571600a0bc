"""A head on a backbone that was trained as a classifier: what the stages start from."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from acmix_bench import ablate as flow
from acmix_bench.backbones import weights
from acmix_bench.backbones.saved import save_weights
from acmix_bench.errors import UserError
from acmix_bench.meters.subject import Subject


def start_of(path: Path, model: str) -> torch.nn.Module:
    row, experiment = flow.row_to_train(model, None, [])
    subject = Subject.of(flow.plan_of(experiment, [row]).cells[0])
    return subject.build_to_train(start=partial(weights.load_weights, path=path, new_head=True))


@pytest.mark.parametrize("backbone", ["resnet26-acmix", "pvt-t", "swin-t-acmix", "san10-pairwise"])
def test_the_stages_are_those_of_the_classifier(backbone: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    classifier = weights.build(backbone)
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter.normal_()
    path = tmp_path / "trained.safetensors"
    save_weights(classifier.state_dict(), path, {"model": backbone})
    dense = start_of(path, f"{backbone}+semantic-fpn@128x160").state_dict()
    theirs = {value.sum().item() for value in classifier.state_dict().values() if value.is_floating_point()}
    stages = {name: v for name, v in dense.items() if name.startswith("features.stages.") and v.is_floating_point()}
    assert len(stages) > 50
    assert [name for name, value in stages.items() if value.sum().item() not in theirs] == []


def test_positions_of_another_size_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "trained.safetensors"
    save_weights(weights.build("pvt-t").state_dict(), path, {"model": "pvt-t"})
    with pytest.raises(UserError, match=r"wrong shape: .*pos_embed.* is \d+.* instead of"):
        start_of(path, "pvt-t+semantic-fpn@64")
