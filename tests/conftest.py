"""Shared by all tests: reproducible examples, and small subjects."""

from __future__ import annotations

import os

# Before torch is imported, and for all processes that tests start: threads that wait must not spin, because tests run
# beside each other and share the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

settings.register_profile("steady", deadline=None, derandomize=True, max_examples=20)
settings.register_profile("thorough", deadline=None, max_examples=1000)
settings.load_profile("thorough" if os.environ.get("ACMIX_BENCH_FULL") == "1" else "steady")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _autocast_as_it_was() -> Iterator[None]:
    """A step of inference in a half type, once made, has autocast remember for as long as its process lives."""
    yield
    for _ in range(torch.autocast_increment_nesting()):
        torch.autocast_decrement_nesting()
    torch.clear_autocast_cache()
