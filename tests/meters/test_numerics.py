"""The arithmetic of a GPU: what is set is set for products and convolutions, and nothing that reads it raises."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import suppress

import pytest
import torch
from cells import QUICK, cell_of

from acmix_bench.errors import UserError
from acmix_bench.meters import numerics
from acmix_bench.runs import local


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "before")
    yield
    numerics.hold({"products": "ieee", "cudnn_benchmark": False})
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.mkldnn.matmul.fp32_precision = "none"


@pytest.mark.parametrize("products", ["ieee", "tf32"])
@pytest.mark.parametrize("searches", [False, True])
def test_products_and_convolutions_multiply_alike(products: str, searches: bool) -> None:
    for first in ("tf32", "ieee"):  # whatever was set before
        numerics.hold({"products": first, "cudnn_benchmark": not searches})
        told = numerics.hold({"products": products, "cudnn_benchmark": searches})
        assert told == {
            "products": products,
            "convolutions": products,
            "cudnn_benchmark": searches,
            "deterministic": False,
        }


@pytest.mark.parametrize("products", ["ieee", "tf32"])
def test_what_reads_the_old_names_does_not_raise(products: str) -> None:
    """As torch.compile does: it raises where only the new names were set."""
    numerics.hold({"products": products, "cudnn_benchmark": False})
    assert torch.backends.cuda.matmul.allow_tf32 == (products == "tf32")
    assert torch.backends.cudnn.allow_tf32 == (products == "tf32")
    assert torch.get_float32_matmul_precision() == ("high" if products == "tf32" else "highest")


def test_only_algorithms_that_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    told = numerics.hold({"products": "ieee", "cudnn_benchmark": False, "deterministic": True})
    assert told["deterministic"] is True
    assert torch.are_deterministic_algorithms_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    numerics.hold({"products": "ieee", "cudnn_benchmark": False, "deterministic": False})
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_protocol_of_the_cpu_sets_nothing() -> None:
    numerics.hold({"products": "tf32", "cudnn_benchmark": True})
    assert numerics.hold(cell_of("acmix", "inference").protocol) == {}
    assert torch.backends.cudnn.benchmark


def test_it_is_set_before_a_meter_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever then comes of the meter: here there may be no such device."""
    monkeypatch.setattr(gc, "disable", lambda: None)
    protocol = QUICK.model_copy(update={"device": "cuda", "products": "tf32"})
    with suppress(UserError):
        local._measure([cell_of("acmix", "as_timed", protocol=protocol)], turns=None, folder=None)
    assert torch.backends.cuda.matmul.fp32_precision == "tf32"
