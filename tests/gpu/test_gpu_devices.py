"""On a real GPU: memory that runs out, a lost device, what is recorded of it, and a sweep from end to end."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from cells import QUICK, cell_of
from package import run_in

from acmix_bench.runs import accelerators, local

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available() and os.environ.get("ACMIX_BENCH_GPU") != "1", reason="torch sees no GPU here"
)
ON_GPU = QUICK.model_copy(update={"device": "cuda", "batch": 8})
HAS_NVML = importlib.util.find_spec("pynvml") is not None


def measured(*variants: str, meter: str = "inference", **protocol: Any) -> list[local.Outcome]:
    chosen = ON_GPU.model_copy(update=protocol)
    return local.measure([cell_of(variant, meter, protocol=chosen) for variant in variants], 120)


def test_the_row_that_runs_out_of_memory_is_named_and_the_batch_of_all_is_halved() -> None:
    outcomes = measured("conv3x3", "operator=gpu_operators:Hungry")
    assert [outcome.status for outcome in outcomes] == ["ok", "ok"], outcomes[1].reason
    assert [outcome.values["batch"] for outcome in outcomes] == [4, 4]
    assert outcomes[0].values["halved_by"] == ["operator=gpu_operators:Hungry"]


def test_a_failed_assertion_in_a_kernel_is_charged_to_its_row_alone() -> None:
    outcomes = measured("conv3x3", "operator=gpu_operators:Asserts", "mix=fixed")
    assert [outcome.status for outcome in outcomes] == ["ok", "crashed", "ok"]
    assert "device-side assert triggered" in str(outcomes[1].reason)


def test_a_training_that_loses_its_gpu_says_so() -> None:
    (outcome,) = measured("operator=gpu_operators:Asserts", meter="accuracy")
    assert outcome.status == "crashed"
    assert "device-side assert triggered" in str(outcome.reason)


def test_what_the_gpu_is_stands_in_the_values_and_in_the_environment() -> None:
    (outcome,) = measured("conv3x3")
    told = outcome.values["gpu"]
    assert told["name"] == torch.cuda.get_device_name()
    assert told["capability"] == ".".join(map(str, torch.cuda.get_device_capability()))
    assert told["uuid"] == str(torch.cuda.get_device_properties(0).uuid)
    assert told["memory_mib"] > 1000
    assert told["multiprocessors"] > 0
    assert told["cudnn"] == torch.backends.cudnn.version()
    assert not HAS_NVML or (told["driver"] and told["mig"] in ("on", "off", None))
    environment = accelerators.environment_on("cuda")
    assert environment.on(told) == environment, "the process that plans reads what the one that measures does"
    assert told["name"] in str(environment)


def state_of(_: None) -> dict[str, Any]:
    from acmix_bench.meters import gpu
    from acmix_bench.train import devices

    return gpu.state(devices.use("cuda"))


@pytest.mark.skipif(not HAS_NVML, reason="pip install 'acmix-bench[gpu]'")
def test_the_state_of_the_gpu_is_read() -> None:
    status, state = local.call(state_of, None, 60)
    assert status == "ok"
    assert 0 < state["clock_mhz"] <= state["max_clock_mhz"]
    assert 10 < state["temperature_c"] < 110
    assert isinstance(state["throttled"], list)


def test_the_smoke_experiment_runs_on_it(tmp_path: Path) -> None:
    settings = ("device=cuda", "processes=1", "meters=params,inference,training")
    code, out, err = run_in(tmp_path, "ablate", "-e", "smoke", *(w for s in settings for w in ("--set", s)))
    assert code == 0, err
    assert torch.cuda.get_device_name() in " ".join(out.split())
    assert all(record["environment"]["gpu"] for record in records_of(tmp_path))


def records_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "results/smoke/records.jsonl").read_text().splitlines()]


def test_trainings_run_on_all_gpus_and_learn(tmp_path: Path) -> None:
    settings = ("seeds=1", "epochs=2", "meters=accuracy")
    words = [word for setting in settings for word in ("--set", setting)]
    code, _, err = run_in(tmp_path, "ablate", "-e", "smoke", "--devices", "all", *words)
    assert code == 0, err
    scored = [record for record in records_of(tmp_path) if record["cell"]["meter"] == "accuracy"]
    assert all(record["values"]["accuracy"] > 0.5 for record in scored)
    assert {record["cell"]["protocol"]["device"] for record in scored} == {"cuda"}
    used = {record["values"]["gpu"]["uuid"] for record in scored}
    assert len(used) == min(torch.cuda.device_count(), len(scored))


def test_a_number_that_is_not_there_is_told_beside_those_that_are(tmp_path: Path) -> None:
    code, out, err = run_in(tmp_path, "throughput", "nano", "--set", "device=cuda:99")
    assert (code, out) == (2, "")
    assert err.startswith("error: device=cuda:99: is not here; there is cpu, cuda:0")
    assert len(err.splitlines()) == 1


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there is no second GPU")
def test_what_is_timed_on_the_second_gpu_is_of_the_second_gpu() -> None:
    (outcome,) = measured("conv3x3", device="cuda:1")
    assert outcome.values["gpu"]["uuid"] == str(torch.cuda.get_device_properties(1).uuid)
    assert all(second > 1e-6 for second in outcome.values["seconds"])
    assert outcome.values["peak_bytes"] > 0
