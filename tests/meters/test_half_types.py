"""Steps in half types: in inference each weight is lowered once, and nothing asks for the device in a step."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from cells import QUICK, cell_of
from torch import nn

from acmix_bench.meters import steps
from acmix_bench.meters.subject import Subject


def subject(dtype: str) -> Subject:
    cell = cell_of("acmix", "inference", "operator-8", 12, QUICK)
    return replace(Subject.of(cell), protocol=cell.protocol | {"dtype": dtype})


def lowered(step) -> int:
    """How many tensors a step converts."""
    with torch.profiler.profile() as profile:
        step()
    return sum(event.count for event in profile.key_averages() if event.key == "aten::_to_copy")


@pytest.fixture
def two_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of the model: two kernels, two biases and the image are lowered; what lies between is so already."""
    model = nn.Sequential(nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3))
    monkeypatch.setattr(Subject, "build", lambda self: model)
    monkeypatch.setattr(Subject, "prepare", lambda self, built: built)


@pytest.mark.usefixtures("two_convolutions")
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_in_inference_a_weight_is_lowered_once(dtype: str) -> None:
    step, _ = steps.inference(subject(dtype), 2)
    assert [lowered(step) for _ in range(3)] == [5, 1, 1]
    assert not torch.is_autocast_enabled("cpu"), "and nothing else is"


@pytest.mark.usefixtures("two_convolutions")
def test_in_training_a_weight_is_lowered_in_each_step() -> None:
    """It has changed."""
    step, _ = steps.training(subject("bfloat16"), 2)
    first, second = lowered(step), lowered(step)
    assert first == second > 5


def test_float32_runs_in_inference_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[bool] = []
    model = lambda x: modes.append(torch.is_inference_mode_enabled())  # noqa: E731
    monkeypatch.setattr(Subject, "prepare", lambda self, built: model)
    for dtype in ("float32", "bfloat16"):
        steps.inference(subject(dtype), 2)[0]()
    assert modes == [True, False]


@pytest.mark.parametrize("make", [steps.inference, steps.training])
def test_a_step_does_not_ask_for_the_device(make, monkeypatch: pytest.MonkeyPatch) -> None:
    step, _ = make(subject("bfloat16"), 2)
    step()
    asked: list[object] = []
    honest = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *a, **k: asked.append(a) or honest(*a, **k))
    step()
    assert asked == []
