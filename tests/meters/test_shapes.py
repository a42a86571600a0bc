"""Counting by shapes, where nothing is computed, against counting by running the model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from acmix_bench import backbones
from acmix_bench.meters import macs
from acmix_bench.meters.shapes import ShapesDoNotSuffice, ShapesOnly
from acmix_bench.meters.subject import Subject
from acmix_bench.spec import library

STORED = Path(__file__).parents[2] / "results/shown/backbones/records.jsonl"
BY_VERSION = {"flop_counter_backward", "zero_by_convention", "fvcore_version"}  # of torch, or not stored then


def subject(model: str) -> Subject:
    row = backbones.find_model(model)
    return Subject(variant=row.variant, case=row.case, protocol={}, seed=0)


def refuse(*_: object) -> None:
    raise AssertionError("not this way")


@pytest.mark.parametrize(
    "model",
    [
        *(f"nano-{name}" for name in library.known("variant") if library.load_variant(name).runs.fuses is False),
        *("operator-48-acmix@9", "san10-acmix@128", "san10-pairwise@128", "pvt-t-acmix@64", "swin-t-acmix@56"),
        *("resnet26-acmix@64", "resnet26@64"),
    ],
)
def test_shapes_give_what_a_run_gives(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every count and every name in it, to the last unit."""
    with monkeypatch.context() as patch:
        patch.setattr(Subject, "hollow", refuse)
        run = macs.measure(subject(model))
    with monkeypatch.context() as patch:
        build = Subject.build
        patch.setattr(Subject, "build", lambda self, device=None: build(self, device) if device == "meta" else refuse())
        shapes = macs.measure(subject(model))
    assert not [key for key in shapes if key.endswith("_failed")]
    assert shapes == run


@pytest.mark.parametrize("model", ["resnet50-acmix", "san10-acmix", "pvt-t-acmix", "swin-t"])
def test_the_stored_counts_come_out(model: str) -> None:
    records = [json.loads(line) for line in STORED.read_text().splitlines()]
    cells = [r for r in records if r["cell"]["meter"] == "macs" and r["cell"]["row"]["label"] == model]
    counted = json.loads(json.dumps(macs.measure(subject(model))))
    for key in counted.keys() - BY_VERSION:
        assert counted[key] == cells[-1]["values"][key], key


def test_nothing_is_computed() -> None:
    """A product that would take a thousand times as long as any test may, in memory that no machine has to touch."""
    edge = 2**15
    with ShapesOnly(), torch.no_grad():
        x = torch.empty(edge, edge) @ torch.empty(edge, edge)
        for _ in range(100):
            x = x @ x
    assert x.shape == (edge, edge)


def test_a_model_that_looks_at_values_says_so() -> None:
    class Nosy(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with ShapesOnly(), pytest.raises(ShapesDoNotSuffice, match="value of a tensor"):
        Nosy()(torch.ones(3))
