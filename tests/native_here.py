"""Whether the operator in C++ can be built here."""

from __future__ import annotations

import os

import pytest

from acmix_bench.ops.native import build

try:
    build.instructions()
    MISSING = ""
except build.CannotBuild as error:
    MISSING = str(error)
needs_compiler = pytest.mark.skipif(bool(MISSING), reason=MISSING)
FULL = bool(os.environ.get("ACMIX_BENCH_FULL"))
