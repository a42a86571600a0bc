"""Runs on a GPU: what their tables say beside the numbers, and which of two runs' peaks and timings are compared."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from fake_meter import answer

from acmix_bench import ablate
from acmix_bench.analysis import gate
from acmix_bench.analysis.compare import compare
from acmix_bench.analysis.thresholds import load_thresholds
from acmix_bench.report.frame import to_csv
from acmix_bench.report.table import tables
from acmix_bench.runs import accelerators
from acmix_bench.runs.local import Outcome
from acmix_bench.runs.record import Record, Run
from acmix_bench.runs.store import Store
from acmix_bench.spec import library
from acmix_bench.spec.cell import Cell

H100 = {"name": "H100", "cudnn": 9}
STATE = {"clock_mhz": 1980, "temperature_c": 50, "power_w": 300.0, "throttled": []}


def run(folder: Path, *settings: str, slower: dict[str, float] | None = None, **told: Any) -> Run:
    """A run of the fake meter on a GPU, whose host hands a step out in half its time, and with what else is told."""
    chosen = ["meters=params,inference", "device=cuda", "processes=3", *settings]
    experiment = library.with_settings(library.load_experiment("smoke"), chosen)

    def measure(cells: Sequence[Cell], timeout: float) -> list[Outcome]:
        return [_on_gpu(cell, outcome, told) for cell, outcome in zip(cells, answer(cells), strict=True)]

    with looking_at(told.get("gpu", H100)):
        plan = ablate.plan_of(experiment, ablate.rows_of(experiment))
        return ablate.ablate(plan, Store(folder), measure=measure, misfits=lambda cells, timeout: {}).comparison.run


def looking_at(identity: dict[str, Any]) -> AbstractContextManager[Any]:
    """Plan where such a GPU is."""
    names = {"cpu": {}, "cuda": identity}
    look = lambda name: accelerators.Device(name=name, identity=names[name])  # noqa: E731
    return patch("acmix_bench.runs.accelerators.look", look)


def _on_gpu(cell: Cell, outcome: Outcome, told: dict[str, Any]) -> Outcome:
    if cell.meter != "inference" or experiment_is_on_cpu(cell):
        return outcome
    seconds = outcome.values["seconds"]
    more = {
        "host_seconds": [each / 2 for each in seconds],
        "reserved_bytes": 2**21,
        "gpu": {"name": "H100", "cudnn": 9},
    }
    more |= {"gpu_states": [STATE] * len(seconds), "throttled_blocks": 0, "left_out_blocks": 0, "clock_settled": True}
    return Outcome(status="ok", values=outcome.values | more | told)


def experiment_is_on_cpu(cell: Cell) -> bool:
    return cell.protocol["device"] == "cpu"


def notes(run: Run) -> str:
    return " ".join(note for table in tables(compare(run)) for note in table.notes)


def test_a_gpus_setting_is_told(tmp_path: Path) -> None:
    table, *_ = tables(compare(run(tmp_path)))
    assert "cuda, ieee products; median" in " ".join(table.notes)
    assert "cuda, ieee products." in table.conditions
    other = run(tmp_path / "other", "products=tf32", "cache=cold", "launch=graph", "cudnn_benchmark=true")
    told = "cuda, tf32 products, cuDNN's search of algorithms, cold L2 cache, CUDA graphs;"
    assert told in " ".join(tables(compare(other))[0].notes)


def test_nothing_of_it_is_told_of_a_cpu(tmp_path: Path) -> None:
    found = run(tmp_path, "device=cpu", "products=tf32")
    assert not [word for word in ("products", "clock", "Throttled", "host") if word in notes(found)]
    assert "host_share" not in to_csv(compare(found))


def test_where_the_gpu_waited_for_the_host_is_told(tmp_path: Path) -> None:
    assert "waited for the host" not in notes(run(tmp_path / "half"))
    bound = notes(run(tmp_path / "bound", host_seconds=[1.0] * 3, seconds=[1.05] * 3))
    assert "waited for the host (which took 90% of a step or more to hand it out): baseline in inference" in bound
    text = to_csv(compare(run(tmp_path / "half")))
    assert "inference_host_share" in text
    assert "0.5" in text


def test_throttled_blocks_are_told(tmp_path: Path) -> None:
    """Three rows in three processes, with three blocks that count."""
    assert "Throttled" not in notes(run(tmp_path / "cool"))
    left_out = notes(run(tmp_path / "some", throttled_blocks=2, left_out_blocks=2))
    assert "Throttled: 18 of 45 samples, of which 18 were left out." in left_out
    kept = notes(run(tmp_path / "all", throttled_blocks=3, left_out_blocks=0))
    assert "Throttled: 27 of 27 samples, of which 0 were left out; 27 of them count, for want of others." in kept


def test_a_clock_that_moves_is_told_with_what_holds_it(tmp_path: Path) -> None:
    assert "The GPU's clock was 1980 MHz." in notes(run(tmp_path / "steady"))
    states = [STATE, STATE | {"clock_mhz": 1500}, STATE]
    moving = notes(run(tmp_path / "moving", gpu_states=states, clock_settled=False))
    assert "clock moved between 1500 and 1980 MHz; nvidia-smi --lock-gpu-clocks holds it." in moving
    assert "In 3 of 3 processes the clock had not settled after five seconds." in moving


def test_columns_of_a_gpu_can_be_chosen(tmp_path: Path) -> None:
    found = run(tmp_path)
    experiment = found.plan.experiment.model_copy(
        update={"columns": ("inference_peak_bytes", "inference_reserved_bytes", "inference_host_share")}
    )
    plan = found.plan.model_copy(update={"experiment": experiment})
    table, *_ = tables(compare(found.model_copy(update={"plan": plan})))
    assert table.rows[0] == ["baseline", "1", "2", "50 %"]


@pytest.mark.parametrize(
    ("settings", "told", "compared"),
    [
        ([], {"gpu": {"name": "H100", "cudnn": 9, "uuid": "another of its kind"}}, True),
        ([], {"gpu": {"name": "H100", "cudnn": 10}}, False),
        ([], {"gpu": {"name": "A100", "cudnn": 9}}, False),
        (["device=cpu"], {}, False),
    ],
)
def test_peaks_are_compared_on_one_gpu_and_its_libraries_alone(
    tmp_path: Path, settings: list[str], told: dict[str, Any], compared: bool
) -> None:
    base, head = run(tmp_path / "base"), run(tmp_path / "head", *settings, peak_bytes=2**21, **told)
    found = gate.findings(base, head, load_thresholds(None, base.plan.experiment), timings=False)
    verdicts = {each.verdict for each in found if each.metric == "inference peak_bytes"}
    assert verdicts == ({"regression"} if compared and not settings else set())
    lines = [line for line in gate.not_compared(base, head) if "peak_bytes" in line]
    assert bool(lines) != compared
    if told and not compared:
        other = "cuDNN 10 and cuDNN 9" if told["gpu"]["name"] == "H100" else "A100 and H100"
        assert lines[0] == f"baseline: inference peak_bytes: not compared across GPUs or libraries ({other})"


def test_timings_in_other_arithmetic_are_unlike(tmp_path: Path) -> None:
    base = run(tmp_path / "base")
    assert gate.unlike(base, run(tmp_path / "same")) == []
    assert gate.unlike(base, run(tmp_path / "head", "products=tf32")) == ["products (ieee and tf32)"]
    before = base.model_copy(update={"records": tuple(as_before(record) for record in base.records)})
    assert "products (not set and ieee)" in gate.unlike(before, base)
    assert gate.unlike(before, before) == []


def test_on_the_cpu_it_makes_nothing_unlike(tmp_path: Path) -> None:
    base, head = run(tmp_path / "base", "device=cpu"), run(tmp_path / "head", "device=cpu", "products=tf32")
    assert gate.unlike(base, head) == []


def as_before(record: Record) -> Record:
    """As a version wrote it that knew nothing of it."""
    kept = {key: value for key, value in record.cell.protocol.items() if key not in ("products", "cudnn_benchmark")}
    return record.model_copy(update={"cell": record.cell.model_copy(update={"protocol": kept})})


def test_a_gpu_run_of_before_is_shown_as_it_was(tmp_path: Path) -> None:
    found = run(tmp_path)
    plain = ("host_seconds", "reserved_bytes", "gpu_states", "throttled_blocks", "left_out_blocks", "clock_settled")
    records = []
    for record in map(as_before, found.records):
        values = {key: value for key, value in record.values.items() if key not in plain}
        if record.cell.meter != "as_timed":
            records.append(record.model_copy(update={"values": values}))
    code = {key: value for key, value in found.plan.code.items() if not key.endswith("as_timed")}
    plan = type(found.plan).model_validate(found.plan.model_dump() | {"code": code})
    before = Run(plan=plan, records=tuple(records))
    told = notes(before)
    assert "products as torch comes" in told
    assert "not measured" not in told
    assert compare(before).lines[0].timings["inference"].gpu is None
