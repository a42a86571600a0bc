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
# What depends on the version of torch, or was not stored then.
BY_VERSION = {
    "flop_counter_backward",
    "flop_counter_not_counted",
    "fvcore_not_counted",
    "zero_by_convention",
    "fvcore_version",
}


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
    weight = torch.empty(2**15, 2**15)
    with ShapesOnly([weight]), torch.no_grad():
        x = weight @ weight
        for _ in range(100):
            x = x @ x
    assert x.shape == weight.shape


class Nosy(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


def test_a_model_that_looks_at_values_says_so() -> None:
    x = torch.ones(3)
    with ShapesOnly([x]), pytest.raises(ShapesDoNotSuffice, match="value of a tensor"):
        Nosy()(x)


def test_what_depends_on_no_weight_is_computed_and_may_be_kept() -> None:
    """A cache that was filled while shapes were counted holds true values."""
    weight = torch.ones(4)
    with ShapesOnly([weight]):
        index = torch.arange(4) * 2 + 1
        out = torch.zeros(4)
        kept = out + index
        out[:2] = weight[:2]
        with pytest.raises(ShapesDoNotSuffice):
            out[3].item()
    assert index.tolist() == [1, 3, 5, 7]
    assert kept.tolist() == [1, 3, 5, 7]


@pytest.mark.parametrize("model", ["operator-16-acmix@17", "san10-acmix@128", "pvt-t-acmix@64", "swin-t-acmix@56"])
def test_a_run_after_a_count_is_what_it_was(model: str) -> None:
    """In one process, with caches of masks and indices that the count filled."""
    one = subject(model)
    macs.measure(one)
    literal, ours = (which.build("cpu").eval().double() for which in (one.as_reference(), one))
    image = one.images(1, "cpu").double()
    with torch.no_grad():
        torch.testing.assert_close(ours(image), literal(image))
