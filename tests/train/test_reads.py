"""Losses that an accelerator computes are left there, and read rarely: what comes of a training stays the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_loop import SHORT, Killed, job_of, model_of, same, splits_of, train
from torch import Tensor, nn

from acmix_bench.train import checkpoint, devices, loop
from acmix_bench.train.loop import Diverged


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many losses were read at once, on a device that runs ahead, in an hour without a read that must be."""
    found, summed = list[int](), loop._summed

    def counted(losses: Any, *how: Any) -> float:
        found.append(len(losses))
        return summed(losses, *how)

    monkeypatch.setattr(devices, "runs_ahead", lambda device: True)
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_READS", 3600)
    monkeypatch.setattr(loop, "_summed", counted)
    return found


def test_losses_are_read_first_and_at_the_end_of_an_epoch(reads: list[int]) -> None:
    model = model_of()
    late = train(model, splits_of(), job_of(SHORT))
    assert reads == [1, 3, 4, 4], "three epochs of four updates"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "runs_ahead", lambda device: False)
        other = model_of()
        at_once = train(other, splits_of(), job_of(SHORT))
    assert [(one.loss, one.scores) for one in late] == [(one.loss, one.scores) for one in at_once]
    assert same(model.state_dict(), other.state_dict())


def test_a_checkpoint_holds_losses_that_were_not_read_before(reads: list[int], tmp_path: Path) -> None:
    whole = train(model_of(), splits_of(), job_of(SHORT))

    def kill(progress: Any, *_: Any) -> None:
        if progress.update == 7:
            raise Killed

    options: dict[str, Any] = {"folder": tmp_path, "seconds_between_saves": 0, "keep_weights": False}
    with pytest.raises(Killed):
        train(model_of(), splits_of(), job_of(SHORT), report=kill, **options)
    begun = checkpoint.load(tmp_path / checkpoint.LAST, job_of(SHORT).plan)
    resumed = train(model_of(9), splits_of(), job_of(SHORT), begun=begun, **options)
    assert [(one.loss, one.scores) for one in resumed] == [(one.loss, one.scores) for one in whole]


def test_a_loss_that_is_no_number_is_named_by_its_update_though_read_later(reads: list[int]) -> None:
    model, seen = model_of(), [0]

    def breaks(module: Any, arguments: Any) -> Any:
        seen[0] += module.training
        return (arguments[0] * float("nan"),) if seen[0] == 3 else None

    model.register_forward_pre_hook(breaks)
    with pytest.raises(Diverged, match="loss is nan in update 3, epoch 1 of 3"):
        train(model, splits_of(), job_of(SHORT))
    assert seen[0] == 4, "it was read at the end of the epoch"


def test_a_training_that_loses_its_device_does_not_halve_its_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the lost device's libraries say, and they say that memory is not enough."""
    error, told = RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"), list[str]()

    class Loses(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(64, 3)

        def forward(self, x: Tensor) -> Tensor:
            raise error

    monkeypatch.setattr(devices, "is_lost", lambda device: True)
    with pytest.raises(RuntimeError, match="CUDNN_STATUS_INTERNAL_ERROR"):
        train(Loses(), splits_of(), job_of(SHORT), say=told.append)
    assert not told
