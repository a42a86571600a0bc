"""Every head on every family of backbones, plain and ACmix: it learns, and says something at any size."""

from __future__ import annotations

import os
from contextlib import nullcontext
from itertools import product
from typing import Any

import pytest
import torch

from acmix_bench import backbones, data, heads
from acmix_bench.analysis.published import figures_of
from acmix_bench.meters.macs import total_macs
from acmix_bench.meters.subject import Subject
from acmix_bench.spec.recipe import DenseRecipe
from acmix_bench.tasks import Job, find

FAMILIES = ("resnet26", "san10", "pvt-t", "swin-t")
# One of each family and head; all pairs in nox -s full.
FEW = {("resnet26-acmix", "semantic-fpn"), ("pvt-t", "retinanet")}
PAIRS = [
    pytest.param(
        model,
        head,
        marks=pytest.mark.skipif(
            (model, head) not in FEW and not os.environ.get("ACMIX_BENCH_FULL"), reason="nox -s full"
        ),
    )
    for model, head in product([f"{family}{v}" for family in FAMILIES for v in ("", "-acmix")], heads.HEADS)
]


def subject_of(name: str, place: str = "") -> Subject:
    row = backbones.find_model(name)
    case = row.case.model_copy(update={"data": place} if place else {})
    return Subject(variant=row.variant, case=case, protocol={}, seed=0)


@pytest.mark.parametrize(("model", "head"), PAIRS)
def test_a_step_lowers_the_loss_and_two_odd_sizes_have_an_answer(model: str, head: str) -> None:
    place = f"scenes-{heads.find(head).task}"
    built_for = 224 if model.startswith(("pvt", "swin")) else 128
    subject = subject_of(f"{model}+{head}@{built_for}", place)
    task, splits = find(subject.task), data.load(place, 128, "")
    classes = data.find(place).classes
    job = Job(
        recipe=DenseRecipe(),
        image_size=built_for,
        size=(128, 128),
        classes=classes,
        seed=0,
        plan={},
        autocast=nullcontext,
    )
    prepare, loss_of = task.transform(job, splits, trains=True), task.losses(job)
    batch: Any = task.collate([prepare(*splits.train[number]) for number in range(2)])
    network = subject.build_to_train().train()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4)
    losses = []
    for _ in range(4):
        torch.manual_seed(0)  # the regions that are drawn
        optimizer.zero_grad()
        loss = loss_of(network, batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses[1:]) < losses[0]
    network.eval()
    for size in ((128, 171), (165, 133)):
        with torch.inference_mode():
            said = network(torch.randn(1, 3, *size))
        if subject.task == "segment":
            assert said.shape == (1, classes, *size)
            assert said.isfinite().all()
        else:
            assert len(said) == 1
            assert {"boxes", "scores", "labels"} <= set(said[0])


@pytest.mark.parametrize(
    "name",
    [
        "swin-t+upernet@512x2048",
        "swin-t+mask-rcnn@800x1280",
        "swin-t+cascade-mask-rcnn@800x1280",
        "swin-s+upernet@512x2048",
    ],
)
def test_counts_are_the_printed_ones_to_their_last_digit(name: str) -> None:
    printed = figures_of(backbones.find_model(name))["published"]
    subject = subject_of(name)
    parameters = sum(parameter.numel() for parameter in subject.hollow().parameters())
    assert printed.params_m == pytest.approx(parameters / 1e6, abs=0.55)
    assert printed.macs_g == pytest.approx(total_macs(subject) / 1e9, abs=1.6)


def test_a_head_needs_stages_and_a_known_name() -> None:
    with pytest.raises(backbones.UserError, match="backbone nano has no four stages at stride 4 to 32 for upernet"):
        backbones.find_model("nano+upernet")
    with pytest.raises(backbones.UserError, match="unknown head 'uppernet'; did you mean 'upernet'"):
        backbones.find_model("resnet26+uppernet")
    with pytest.raises(backbones.UserError, match="'64x64' is not an image size in pixels"):
        backbones.find_model("resnet26@64x64")
