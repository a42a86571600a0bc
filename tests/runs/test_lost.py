"""A row that takes others with it: a device that is lost, memory that is full, a step that fails late."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from cells import QUICK, cell_of
from fake_accelerator import ASSERTED

from acmix_bench.meters import conditions, latency
from acmix_bench.meters.subject import Subject
from acmix_bench.runs import local
from acmix_bench.runs.process import Answer
from acmix_bench.train import devices

ROWS = ("acmix", "conv3x3", "mix=fixed")
NO_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def alternate(fails: Callable[[Subject, int], Exception | None], batch: int = 8) -> list[Any]:
    """Time three rows by a clock that only steps move; `fails` says what a row raises at a batch."""
    now = [0.0]

    def prepare(subject: Subject, batch: int) -> Callable[[], None]:
        if error := fails(subject, batch):
            raise error
        return lambda: now.__setitem__(0, now[0] + 0.1)

    protocol = QUICK.model_copy(update={"batch": batch, "seconds": 1.0})
    subjects = [Subject.of(cell_of(row, "inference", protocol=protocol)) for row in ROWS]
    return latency.alternate(subjects, prepare, lambda: now[0])


def test_the_row_that_halved_the_batch_of_all_is_named() -> None:
    results = alternate(lambda subject, batch: NO_MEMORY if subject.label == "conv3x3" and batch > 2 else None)
    assert [values["batch"] for values in results] == [2, 2, 2]
    assert all(values["halved_by"] == ["conv3x3"] for values in results)
    assert all("halved_by" not in values for values in alternate(lambda subject, batch: None))


def test_a_lost_device_is_no_rows_own_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    fails = lambda subject, batch: ASSERTED if subject.label == "conv3x3" else None  # noqa: E731
    monkeypatch.setattr(devices, "is_lost", lambda device: True)
    with pytest.raises(devices.DeviceLost, match="conv3x3: AcceleratorError: CUDA error: device-side assert"):
        alternate(fails)
    monkeypatch.setattr(devices, "is_lost", lambda device: False)
    assert [isinstance(one, Exception) for one in alternate(fails)] == [False, True, False]


def test_a_lost_device_is_not_taken_for_full_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """After an illegal access cuDNN gives the error that it has for memory too: halving would go on in vain."""
    internal = RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR")
    monkeypatch.setattr(devices, "is_lost", lambda device: True)
    with pytest.raises(devices.DeviceLost):
        alternate(lambda subject, batch: internal)


def in_a_process_that(fails: Callable[[list[str]], bool]) -> tuple[Callable[..., Answer], list[list[str]]]:
    """In place of a process: it gives nothing for the groups of rows that fail, as `_measure` does."""
    asked: list[list[str]] = []

    def answer_of(function: Any, cells: Any, limits: Any) -> Answer:
        rows = [cell.row.label for cell in cells]
        asked.append(rows)
        if fails(rows) and len(rows) > 1:
            return Answer(status="ok", content=[], output="")
        status = "crashed" if fails(rows) else "ok"
        return Answer(status="ok", content=[local.Outcome(status=status) for _ in rows], output="")

    return answer_of, asked


def test_where_a_process_is_of_no_use_each_row_is_tried_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    answer_of, asked = in_a_process_that(lambda rows: "conv3x3" in rows)
    monkeypatch.setattr(local, "answer_of", answer_of)
    outcomes = local.measure([cell_of(row, "inference") for row in ROWS], 60)
    assert asked == [list(ROWS), *([row] for row in ROWS)]
    assert [outcome.status for outcome in outcomes] == ["ok", "crashed", "ok"]


@pytest.mark.parametrize("error", [devices.DeviceLost("conv3x3: gone"), NO_MEMORY])
def test_what_ends_a_group_is_charged_to_none_before_each_was_tried(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(latency, "alternate", fail)
    monkeypatch.setattr(conditions, "hold", lambda protocol: {})
    cells = [cell_of(row, "inference") for row in ROWS]
    assert local._measure(cells, turns=None, folder=None) == []
    (outcome,) = local._measure(cells[:1], turns=None, folder=None)
    assert outcome.status == "crashed"
    assert type(error).__name__ in outcome.reason


def test_a_step_that_fails_when_it_is_sampled_fails_alone() -> None:
    cells = [cell_of(row, "inference") for row in ("conv3x3", "operator=operators_of_mine:RaisesLate")]
    fine, late = local.measure(cells, 120)
    assert (fine.status, late.status) == ("ok", "crashed")
    assert late.reason == "RuntimeError: not the first time"


def test_the_device_is_set_before_a_meter_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    monkeypatch.setattr(conditions, "use_device", lambda name: log.append(name) or {"gpu": {"name": "a GPU"}})
    cell = cell_of("conv3x3", "operators_of_mine:METER_DEVICE", protocol=QUICK.model_copy(update={"device": "cuda:1"}))
    (outcome,) = local._measure([cell], turns=None, folder=None)
    assert outcome.values == {"score": 1, "gpu": {"name": "a GPU"}}
    local._measure([cell], turns=None, folder=None, device="cuda:3")
    assert log == ["cuda:1", "cuda:3"]
