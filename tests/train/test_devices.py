"""Devices by name, the one that a process computes on, and what they say when they fail."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fake_accelerator import ASSERTED
from fake_accelerator import fake as fake

from acmix_bench.errors import UserError
from acmix_bench.train import devices

CUDA1 = torch.device("cuda", 1)


def test_the_devices_that_are_here_are_named(fake: Any) -> None:
    assert devices.here() == ["cpu"]
    fake("cuda", 2)
    assert devices.here() == ["cpu", "cuda:0", "cuda:1"]
    fake("xpu", 1)
    assert devices.here() == ["cpu", "xpu:0"]
    fake("mps", 1)
    assert devices.here() == ["cpu", "mps"]


@pytest.mark.parametrize(
    ("kind", "name", "there"),
    [
        ("cuda", "cuda:2", "cpu, cuda:0, cuda:1"),
        ("cuda", "mps", "cpu, cuda:0, cuda:1"),
        ("mps", "cuda", "cpu, mps"),
        ("xpu", "cuda:0", "cpu, xpu:0, xpu:1"),
    ],
)
def test_one_that_is_not_here_is_told_beside_those_that_are(fake: Any, kind: str, name: str, there: str) -> None:
    fake(kind)
    with pytest.raises(UserError, match=rf"^device={name}: is not here; there is {there}$"):
        devices.found(name)


def test_the_process_is_set_to_its_device_before_anything_is_there(fake: Any) -> None:
    one = fake("cuda", 2)
    assert devices.use("cuda:1") == CUDA1
    assert one.log == ["set 1", "allocate cuda:1"]


def test_a_kind_alone_leaves_the_process_on_its_current_device(fake: Any) -> None:
    one = fake("cuda", 2)
    assert devices.use("cuda") == torch.device("cuda")
    assert one.log == ["allocate cuda"]
    assert devices.use("cpu") == torch.device("cpu")
    assert len(one.log) == 1


def test_one_that_does_not_answer_is_told_in_a_line(fake: Any) -> None:
    fake("cuda", 2).error = RuntimeError("CUDA driver initialization failed, you might not have a CUDA gpu.\nMore.")
    with pytest.raises(
        UserError, match=r"^device=cuda:0: cannot be used here: CUDA driver initialization failed[^\n]*$"
    ):
        devices.use("cuda:0")


def test_a_lost_device_is_known_by_asking_it(fake: Any) -> None:
    one = fake("cuda", 2)
    assert not devices.is_lost(CUDA1)
    assert one.log == ["synchronize cuda:1"]
    one.error = ASSERTED
    assert devices.is_lost(CUDA1)
    assert not devices.is_lost(torch.device("cpu"))


def test_a_lost_device_names_what_ran_on_it(fake: Any) -> None:
    one = fake("cuda", 2)
    devices.refuse_lost(CUDA1, "shift=tensor", ASSERTED)  # an error that left the device as it was
    one.error = ASSERTED
    with pytest.raises(devices.DeviceLost) as told:
        devices.refuse_lost(CUDA1, "shift=tensor", ASSERTED)
    assert str(told.value) == "shift=tensor: AcceleratorError: CUDA error: device-side assert triggered"
    assert not devices.ran_out_of_memory(told.value)


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (torch.AcceleratorError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasGemmEx(...)`"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 5.05 GB, max allowed: 9.07 GB)."), True),
        (RuntimeError("level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_BAD_PARAM"), False),
        (RuntimeError("out of resource: shared memory, Required: 147456, Hardware limit: 101376"), False),
        (ASSERTED, False),
    ],
)
def test_full_memory_of_any_accelerator_is_known(error: Exception, is_memory: bool) -> None:
    assert devices.ran_out_of_memory(error) is is_memory


@pytest.mark.parametrize("kind", ["cuda", "xpu", "mps"])
def test_the_cache_of_whatever_is_here_is_emptied(fake: Any, kind: str) -> None:
    one = fake(kind)
    devices.free_memory()
    assert one.log == ["empty cache"]


def test_a_number_type_that_a_device_lacks_is_refused() -> None:
    with pytest.raises(UserError, match=r"^dtype=float64: device=mps has no such numbers; set dtype=float32"):
        devices.refuse_dtype(torch.device("mps"), "float64")
    devices.refuse_dtype(torch.device("mps"), "bfloat16")
    devices.refuse_dtype(torch.device("cuda"), "float64")
