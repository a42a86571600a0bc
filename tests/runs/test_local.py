"""Cells in processes of their own: real meters on real variants, and every way to go wrong."""

from __future__ import annotations

import json
import re
import sys

import pytest
import torch
from cells import QUICK, cell_of
from full import FULL, full

from acmix_bench import backbones
from acmix_bench.errors import UserError
from acmix_bench.meters import METERS, conditions
from acmix_bench.ops.cost import STAGES, operator_macs
from acmix_bench.runs import local
from acmix_bench.spec import library
from acmix_bench.spec.cell import Cell
from acmix_bench.spec.experiment import Case
from acmix_bench.spec.variant import Variant


def measure(cell: Cell, timeout: float) -> local.Outcome:
    (outcome,) = local.measure([cell], timeout)
    return outcome


def threads_in_use(threads: int) -> int:
    conditions.hold({"threads": threads, "allocator": "default"})
    return torch.get_num_threads()


@pytest.mark.parametrize("threads", [1, 2])
def test_torch_is_held_to_its_threads(threads: int) -> None:
    assert local.call(threads_in_use, threads, 60) == ("ok", threads)


@pytest.mark.parametrize("allocator", ["keep", "default"])
def test_the_allocator_is_left_as_it_is_only_where_asked(allocator: str) -> None:
    cell = cell_of("conv3x3", "inference", protocol=QUICK.model_copy(update={"allocator": allocator}))
    assert measure(cell, 120).values["keeps_memory"] == (allocator == "keep")


def imported(name: str) -> bool:
    return name in sys.modules


def test_processes_start_with_what_all_need_and_no_more() -> None:
    """Whatever the server of processes imports, every command waits for."""
    assert local.call(imported, "torch._dynamo", 60) == ("ok", True)
    assert local.call(imported, "scipy", 60) == ("ok", False)


def places(threads: int) -> list[int]:
    """Where tensors lie, from the first."""
    conditions.hold({"threads": threads, "allocator": "keep"})
    tensors = [torch.empty(size) for size in (200_000, 50_000, 100_000, 10_000)]
    return [tensor.data_ptr() - tensors[0].data_ptr() for tensor in tensors]


def test_each_process_has_a_memory_layout_of_its_own() -> None:
    assert len({str(local.call(places, 1, 60)) for _ in range(4)}) == 4


@pytest.mark.parametrize("meter", sorted(set(METERS) - {"accuracy", "miou", "ap"}))
@pytest.mark.parametrize("variant", ["acmix", "conv3x3"])
def test_meters_measure(meter: str, variant: str) -> None:
    outcome = measure(cell_of(variant, meter), 120)
    assert outcome.status == "ok"
    if "seconds" in outcome.values:
        assert len(outcome.values["seconds"]) >= 3
        assert all(second > 0 for second in outcome.values["seconds"])
        assert outcome.values["peak_bytes"] > 0
        assert measure(cell_of(variant, meter), 120).values["peak_bytes"] == outcome.values["peak_bytes"]


def test_accuracy_is_far_above_chance_and_the_seed_decides_it() -> None:
    cell = cell_of("conv3x3", "accuracy", protocol=QUICK.model_copy(update={"epochs": 2}))
    first, second = measure(cell, 300), measure(cell, 300)
    other = measure(cell.model_copy(update={"repeat": 1}), 300)
    assert first.values["accuracy"] > 0.8
    assert first.values["loss_by_epoch"] == second.values["loss_by_epoch"]
    assert first.values["loss_by_epoch"] != other.values["loss_by_epoch"]


@pytest.mark.parametrize("name", library.known("variant"))
@pytest.mark.parametrize(("backbone", "size"), [("operator-64", 28), ("nano", 16), ("nano", 13)])
def test_macs_meter_equals_the_closed_form(name: str, backbone: str, size: int) -> None:
    values = measure(cell_of(name, "macs", backbone, size), 120).values
    assert values["macs"] == sum(values["macs_by_stage"].values())
    assert values["macs"] == sum(expected_stages(library.load_variant(name), backbone, size).values())
    assert values["macs_by_stage"] == expected_stages(library.load_variant(name), backbone, size)
    assert values["no_formula"] == {}
    attention = values["macs_by_stage"]["attention"]
    assert values["macs"] - values["fvcore"] == attention
    assert values["macs"] - values["flop_counter"] == attention


def expected_stages(variant: Variant, backbone: str, size: int) -> dict[str, int]:
    """The whole model's MACs written out by hand, from its published layout."""
    half, quarter = -(-size // 2), -(-size // 4)
    # in channels, channels, input edge, stride of every operator
    layout = [(32, 32, size, 1), (32, 64, size, 2), (64, 64, half, 1), (64, 128, half, 2), (128, 128, quarter, 1)]
    rest = 9 * 32 * size**2 + 128 * 10  # the stem and the head
    if backbone == "operator-64":
        layout, rest = [(64, 64, size, 1)], 0
    stages = dict.fromkeys(STAGES, 0)
    for c_in, c, edge, stride in layout:
        out = -(-edge // stride)
        if backbone != "operator-64":
            rest += c * c * out**2 + (c_in * c * out**2 if stride > 1 or c_in != c else 0)
        if variant.operator in ("conv", "plain"):
            stages["stage_1"] += 9 * c_in * c * out**2
            continue
        axes = {"heads": 4, "window": 7, "kernel_size": 3, "stride": stride}
        one = operator_macs(c_in, c, edge, edge, paths=variant.paths, shift=variant.shift, **axes)
        stages = {stage: stages[stage] + one[stage] for stage in STAGES}
    stages["rest"] += rest
    return stages


def test_an_operator_of_mine_is_measured_without_a_change_here() -> None:
    values = measure(cell_of("operator=operators_of_mine:Counted", "macs"), 120).values
    assert values["macs_by_stage"]["stage_1"] > 0
    assert values["no_formula"] == {}
    unknown = measure(cell_of("operator=operators_of_mine:Works", "macs"), 120).values
    assert unknown["no_formula"] == {"Works beside its layers": 5}
    hidden = measure(cell_of("operator=operators_of_mine:Hidden", "macs"), 120).values
    assert hidden["no_formula"] == {"Hidden": 5}, "a convolution of one's own may do more than convolve"


@pytest.mark.parametrize("kind", ["numpy_int", "zero_dim", "flag", "part", "negative", "number", "nothing", "total"])
def test_what_a_formula_gives_is_checked_where_it_comes_in(kind: str) -> None:
    """Integers of any library are taken; what cannot be is that row's failure, saying what the contract asks."""
    outcome = measure(cell_of(f"operator=operators_of_mine:Miscounted,kind={kind}", "macs"), 120)
    if kind in ("numpy_int", "zero_dim"):
        assert outcome.status == "ok"
        assert outcome.values["macs_by_stage"]["stage_1"] == 5 * 7
        assert outcome.values["no_formula"] == {}
        return
    assert outcome.status == "crashed"
    asked = {"number": "must give a dict", "nothing": "must give a dict", "total": "unknown stage 'total'"}
    assert outcome.reason.startswith("Miscounted.macs: ")
    assert asked.get(kind, "multiply-adds must be whole numbers, and stage_1 is") in outcome.reason


def test_what_torch_multiplies_beside_its_layers_has_no_formula() -> None:
    """nn.MultiheadAttention has layers, and more: the sum of its layers is a lower bound, equal to nothing."""
    values = measure(cell_of("operator=operators_of_mine:Attends", "macs"), 120).values
    assert values["no_formula"] == {"Attends beside its layers": 5, "MultiheadAttention beside its layers": 5}


@pytest.mark.parametrize(
    ("operator", "meter", "timeout", "status", "reason"),
    [
        ("Raises", "inference", 120, "crashed", "RuntimeError: the first line"),
        ("Killed", "inference", 120, "crashed", "its process was ended by SIGKILL; the system may have run out"),
        ("Hangs", "inference", 8, "timeout", "no answer within 8 seconds"),
        ("Diverges", "accuracy", 120, "diverged", "loss is nan in update 1, epoch 1 of 1"),
    ],
)
def test_what_goes_wrong_is_told_apart(operator: str, meter: str, timeout: float, status: str, reason: str) -> None:
    outcome = measure(cell_of(f"operator=operators_of_mine:{operator}", meter), timeout)
    assert outcome.status == status
    assert outcome.reason.startswith(reason)
    assert "\n" not in outcome.reason
    if operator == "Raises":
        assert "operators_of_mine.py" in outcome.values["traceback"]


@pytest.mark.parametrize(
    ("variant", "backbone", "size", "message"),
    [
        ("heads=3", "nano", 16, "heads=3 on nano@16: 32 channels do not divide into 3 heads"),
        ("acmix", "nano", 8, "a 2x2 map is too small for attention window 7"),
        ("window=9", "nano", 16, "a 4x4 map is too small for attention window 9"),
        ("operator=operators_of_mine:Missing", "nano", 16, "unknown name 'Missing'"),
        ("operator=operators_of_mine:Works", "swin-t", 112, r"makes it from \(channels, heads, window_size\)"),
        ("operator=operators_of_mine:Works,gian=2", "nano", 16, "unexpected keyword argument 'gian'"),
        ("acmix", "san10", 64, "needs at least 4 pixels each way; use a larger image"),
    ],
)
def test_what_cannot_be_is_refused_before_it_is_measured(variant: str, backbone: str, size: int, message: str) -> None:
    reasons = local.misfits([cell_of(variant, "inference", backbone, size)], 120)
    assert list(reasons) == [variant]
    assert re.search(message, reasons[variant])
    assert backbone == "nano" or "use window" not in reasons[variant], "advice that the command then refuses"


def test_a_module_that_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match=r"no Python module named 'nowhere'; write package\.module:NAME"):
        cell_of("operator=nowhere:Thing", "params")


def test_a_device_that_is_not_there_is_refused() -> None:
    protocol = QUICK.model_copy(update={"device": "nonsense"})
    (reason,) = local.misfits([cell_of("acmix", "inference", protocol=protocol)], 120).values()
    assert "device=nonsense: is not here; there is cpu" in reason


def test_accuracy_of_an_operator_alone_is_refused() -> None:
    (reason,) = local.misfits([cell_of("acmix", "accuracy", "operator-8")], 120).values()
    assert "no classes to learn" in reason


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("numpy", None),
        ("nan", "a meter gave score=nan, which is not a finite number"),
        ("text", "meter operators_of_mine:METER_TEXT must give a number as 'score', but 'high'"),
        ("other", "meter operators_of_mine:METER_OTHER must give a number as 'score', but only speed"),
        ("flag", "meter operators_of_mine:METER_FLAG must give a number as 'score', but True"),
        ("tensor", None),
        ("object", "a meter gave inner.score=<object object"),
        ("nothing", "a meter must give a dict of JSON values, and gave None"),
        ("raises", "KeyError: 'no'"),
    ],
)
def test_what_a_meter_gives_is_checked_where_it_comes_in(value: str, reason: str | None) -> None:
    outcome = measure(cell_of("conv3x3", f"operators_of_mine:METER_{value.upper()}"), 120)
    if reason is None:
        assert outcome.status == "ok"
        assert json.loads(json.dumps(outcome.values)) == outcome.values
    else:
        assert outcome.status == "crashed"
        assert outcome.reason.startswith(reason)


@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float16", marks=full), "float64"])
def test_every_dtype_is_timed_and_trained(dtype: str) -> None:
    protocol = QUICK.model_copy(update={"dtype": dtype})
    assert measure(cell_of("acmix", "training", protocol=protocol), 120).status == "ok"
    if dtype == "bfloat16" and FULL:  # which some CPUs compute slowly
        assert measure(cell_of("acmix", "accuracy", protocol=protocol), 300).values["accuracy"] > 0.3


def test_backbone_names() -> None:
    assert backbones.find_model("nano-shift-tensor@24").variant.shift == "tensor"
    assert backbones.find_model("operator-64-acmix").case == Case(backbone="operator-64", image_size=28, data="digits")
    assert backbones.find_model("nano").variant.operator == "plain"
    for name, message in (
        ("nano@big", "not an image size"),
        ("nano-x", "unknown variant 'x'"),
        ("x", "unknown backbone"),
    ):
        with pytest.raises(UserError, match=message):
            backbones.find_model(name)
