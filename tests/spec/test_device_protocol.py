"""What of the protocol only an accelerator has: it is in no key of a CPU, and in every one of a GPU."""

from __future__ import annotations

import json

import pytest
from cells import cell_of

from acmix_bench import ablate
from acmix_bench.errors import UserError
from acmix_bench.runs.record import Plan
from acmix_bench.spec import library
from acmix_bench.spec.cell import read_by
from acmix_bench.spec.experiment import ON_DEVICE, Protocol

SET = {"products": "tf32", "cudnn_benchmark": True, "deterministic": True}


@pytest.mark.parametrize("meter", ["inference", "training", "matmul", "accuracy", "miou", "as_timed"])
def test_on_the_cpu_nothing_of_it_is_read(meter: str) -> None:
    plain, changed = (cell_of("acmix", meter, protocol=Protocol(threads=1, **more)) for more in ({}, SET))
    assert not set(plain.protocol) & set(ON_DEVICE)
    assert plain.key == changed.key


@pytest.mark.parametrize(
    ("meter", "changed"),
    [
        ("inference", {"products": "tf32"}),
        ("training", {"cudnn_benchmark": True}),
        ("inference", {"cache": "cold"}),
        ("training", {"launch": "graph"}),
        ("accuracy", {"products": "tf32"}),
        ("accuracy", {"deterministic": True}),
        ("as_timed", {"products": "tf32"}),
    ],
)
def test_on_a_gpu_it_is_part_of_the_key(meter: str, changed: dict[str, object]) -> None:
    (key,) = changed
    base = Protocol(threads=1, device="cuda:1")
    other = base.model_copy(update=changed)
    assert read_by(meter, base)[key] != read_by(meter, other)[key]
    assert cell_of("acmix", meter, protocol=base).key != cell_of("acmix", meter, protocol=other).key


@pytest.mark.parametrize("setting", ["cache=cold", "launch=graph"])
@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_what_only_cuda_has_is_refused_in_one_line(setting: str, device: str) -> None:
    experiment = library.load_experiment("smoke")
    told = f"--set device={device} {setting}: {setting}: needs device=cuda, and device is {device}; leave it out"
    with pytest.raises(UserError, match=told):
        library.with_settings(experiment, [f"device={device}", setting])
    for order in ([setting, "device=cuda"], ["device=cuda:1", setting]):
        library.with_settings(experiment, order)


@pytest.mark.parametrize(
    ("settings", "checked"),
    [
        ([], ["parity"]),
        (["dtype=float64"], ["parity"]),
        (["layout=channels-last"], ["parity"]),
        (["dtype=bfloat16"], ["parity", "as_timed"]),
        (["device=cuda"], ["parity", "as_timed"]),
        (["meters=params", "device=cuda"], []),
    ],
)
def test_timings_are_checked_as_timed_where_float64_on_the_cpu_says_too_little(
    settings: list[str], checked: list[str]
) -> None:
    experiment = library.with_settings(library.load_experiment("smoke"), ["meters=params,inference", *settings])
    plan = ablate.plan_of(experiment, ablate.rows_of(experiment))
    meters = [cell.meter for cell in plan.cells]
    assert [name for name in dict.fromkeys(meters) if name in ("parity", "as_timed")] == checked
    if checked:
        assert max(meters.index(name) for name in checked) < meters.index("inference")


def test_a_plan_of_before_has_the_cells_that_it_had() -> None:
    experiment = library.with_settings(library.load_experiment("smoke"), ["meters=inference", "device=cuda"])
    plan = ablate.plan_of(experiment, ablate.rows_of(experiment))
    content = json.loads(plan.model_dump_json())
    for key in ON_DEVICE:
        del content["experiment"]["protocol"][key]
    content["code"] = {key: code for key, code in content["code"].items() if not key.endswith("as_timed")}
    before = Plan.model_validate(content)
    assert {cell.meter for cell in before.cells} == {"parity", "inference"}
    assert len(before.cells) == len(plan.cells) - len(plan.rows)
