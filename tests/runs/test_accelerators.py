"""GPUs in a run: which of them a cell gets, what the environment says of them, and what is refused."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from cells import QUICK, cell_of
from typer.testing import CliRunner

from acmix_bench import ablate
from acmix_bench.cli import app
from acmix_bench.errors import UserError
from acmix_bench.runs import accelerators
from acmix_bench.runs.accelerators import Device
from acmix_bench.runs.environment import Environment, Gpu, this_environment
from acmix_bench.runs.launch.here import here
from acmix_bench.runs.launch.launcher import Group
from acmix_bench.runs.local import Outcome
from acmix_bench.runs.record import Record
from acmix_bench.runs.sweep import group_of
from acmix_bench.runs.work import Work
from acmix_bench.spec import library
from acmix_bench.spec.cell import Cell

H100 = {"name": "NVIDIA H100", "capability": "9.0", "driver": "580", "runtime": "CUDA 13.0", "power_limit_w": 700}
GPUS = [Device(name=f"cuda:{number}", identity=H100 | {"uuid": f"u{number}"}) for number in range(2)]


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two GPUs, as a process that looks would find them."""
    monkeypatch.setattr(accelerators, "list_here", lambda: ("cpu", "cuda:0", "cuda:1"))
    known = {"cuda": GPUS[0], "cpu": Device(name="cpu", identity={})} | {one.name: one for one in GPUS}
    missing = UserError("device=cuda:9: is not here; there is cpu, cuda:0, cuda:1")
    monkeypatch.setattr(accelerators, "look", lambda name: known.get(name, missing))


def plan_of(*settings: str) -> Any:
    experiment = library.with_settings(library.load_experiment("smoke"), ["seeds=3", "processes=2", *settings])
    return ablate.plan_of(experiment, ablate.rows_of(experiment))


def launched(devices: Sequence[Device], jobs: int = 1) -> list[tuple[str, dict[str, Any]]]:
    """The meter and the place of each group, in the order in which they began; no two trainings on one GPU at once."""
    found: list[tuple[str, dict[str, Any]]] = []
    busy, lock = Counter[str](), threading.Lock()
    together = threading.Barrier(max(1, len(devices)), timeout=10)

    def work(cells: Sequence[Cell], **how: Any) -> list[Record]:
        name = how.get("device", "")
        with lock:
            found.append((cells[0].meter, how))
            busy[name] += 1
            assert busy[name] == 1 or not name
        if cells[0].meter == "accuracy" and len(devices) > 1:
            together.wait()  # which all GPUs come to at once, or it breaks
        busy[name] -= 1
        return []

    plan = plan_of("meters=params,inference,accuracy", "device=cuda")
    cells = [cell for cell in plan.cells if cell.meter != "accuracy"]
    scores = [cell for cell in plan.cells if cell.meter == "accuracy"]
    groups: list[Group] = [group_of([cell], plan) for cell in (*cells, *scores[: 2 * len(devices)])]
    launch = here(jobs, devices).launch
    assert here(jobs, devices).jobs == max(jobs, len(devices))
    list(launch(groups, work, lambda cells, where: None))  # type: ignore[arg-type]
    return found


def test_each_gpu_gets_a_training_and_timings_run_alone_on_the_first(two: None) -> None:
    found = launched(GPUS)
    assert {how.get("device") for meter, how in found if meter == "params"} == {None}
    assert {how["device"] for meter, how in found if meter == "inference"} == {"cuda:0"}
    assert Counter(how["device"] for meter, how in found if meter == "accuracy") == {"cuda:0": 2, "cuda:1": 2}
    kinds = [meter for meter, _ in found if meter not in ("params", "parity", "as_timed")]
    assert kinds == sorted(kinds, reverse=True), "no training beside a timing"


def test_one_gpu_of_several_can_be_chosen_for_all(two: None) -> None:
    found = launched(GPUS[1:])
    assert {how["device"] for meter, how in found if meter in ("inference", "accuracy")} == {"cuda:1"}


def test_trainings_share_the_cores_near_their_gpu(two: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    cores = {"cuda:0": (0, 1, 2, 3), "cuda:1": (4, 5, 6, 7)}
    near = [Device(name=name, identity={}, cores=those) for name, those in cores.items()]
    assert {how["device"]: how["cores"] for meter, how in launched(near) if meter == "accuracy"} == cores
    found = {how["device"]: how["cores"] for meter, how in launched(GPUS) if meter == "accuracy"}
    assert sorted(found.values()) == [(0, 2, 4, 6), (1, 3, 5, 7)], "nobody tells what is near"


def test_devices_are_listed_or_all(two: None) -> None:
    assert accelerators.chosen("all", "cpu") == accelerators.chosen("cuda:0, cuda:1", "cuda") == GPUS
    for names, told in (
        ("cuda:2", r"--devices: unknown device 'cuda:2'; did you mean .* \(known: all, cuda:0, cuda:1\)"),
        ("cuda:1,cuda:1", "cuda:1 stands twice"),
        ("cpu", "unknown device 'cpu'"),
    ):
        with pytest.raises(UserError, match=told):
            accelerators.chosen(names, "cpu")
    with pytest.raises(UserError, match="device=cuda:1 asks for another; leave that out"):
        accelerators.chosen("all", "cuda:1")


def test_a_plan_on_several_names_their_kind_and_is_made_for_the_first(two: None) -> None:
    experiment = library.load_experiment("smoke")
    plan = ablate.plan_of(experiment, ablate.rows_of(experiment), devices=GPUS)
    assert plan.environment.gpu == Gpu.of(H100)
    assert {cell.protocol["device"] for cell in plan.cells if "device" in cell.protocol} == {"cuda"}
    alone = library.with_settings(experiment, ["device=cuda", f"threads={plan.experiment.protocol.threads}"])
    keys = [cell.key for cell in ablate.plan_of(alone, ablate.rows_of(alone)).cells]
    assert [cell.key for cell in plan.cells] == keys, "which GPU it was changes no cell"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--devices", "all", "--launcher", "ray"], "--devices: is for GPUs of this machine; --launcher ray takes"),
        (["--devices", "all", "--set", "device=cuda:0"], "device=cuda:0 asks for another"),
        (["--set", "device=cuda:9"], "device=cuda:9: is not here; there is cpu, cuda:0, cuda:1"),
        (["--set", "device=gpu"], "'gpu' is no device; write cpu, cuda, cuda:N, mps, xpu or xpu:N"),
        (["--set", "device=cuda:-1"], "'cuda:-1' is no device"),
    ],
)
def test_what_cannot_be_computed_on_is_one_line(two: None, tmp_path: Any, arguments: list[str], told: str) -> None:
    ended = CliRunner().invoke(app, ["ablate", "-e", "smoke", "--results", str(tmp_path), *arguments])
    assert isinstance(ended.exception, UserError)
    assert told in str(ended.exception)
    assert not list(tmp_path.iterdir()), "before anything is there"


def test_where_there_is_no_gpu_that_is_said() -> None:
    with pytest.raises(UserError, match=r"^device=cuda:7: is not here; there is cpu"):
        accelerators.device_here("cuda:7")


def test_the_environment_holds_the_gpu_that_is_computed_on(two: None) -> None:
    assert plan_of().environment.gpu is None
    told = plan_of("device=cuda").environment
    assert told.gpu == Gpu.of(H100)
    assert "NVIDIA H100 (driver 580, CUDA 13.0, 700 W)" in str(told)
    assert plan_of("device=cuda:1").environment == told, "two of a kind are one environment"


def measured_on(**identity: Any) -> Environment:
    """What a record says where the measuring process was on this GPU."""

    def measure(cells: Sequence[Cell], timeout: float) -> list[Outcome]:
        return [Outcome(status="ok", values={"parameters": 1, "gpu": identity} if identity else {})]

    cell = cell_of("conv3x3", "params", protocol=QUICK)
    (record,) = Work(measure=measure, timeout=1, device="cuda")([cell])
    return record.environment


def test_a_record_says_on_which_kind_of_gpu_its_process_was(two: None) -> None:
    assert measured_on().gpu == measured_on(**H100, uuid="another").gpu == Gpu.of(H100)
    assert measured_on(**H100 | {"power_limit_w": 500}).gpu != Gpu.of(H100)


def test_an_environment_of_before_is_read_as_it_was() -> None:
    old = this_environment().model_dump() | {"gpu": "NVIDIA A100-SXM4-80GB"}
    read = Environment.model_validate(old)
    assert read.gpu == Gpu(name="NVIDIA A100-SXM4-80GB")
    assert ", NVIDIA A100-SXM4-80GB, Linux" in str(read)
    del old["gpu"]
    assert Environment.model_validate(old | {"gpu": None}) == Environment.model_validate(old)
    written = Environment.model_validate(old | {"gpu": H100})
    assert Environment.model_validate_json(written.model_dump_json()) == written
