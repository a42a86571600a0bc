"""What `make test` leaves to `nox -s full`, for its time: it has to pass in minutes on two slow cores."""

from __future__ import annotations

import os

import pytest

FULL = bool(os.environ.get("ACMIX_BENCH_FULL"))
full = pytest.mark.skipif(not FULL, reason="nox -s full")
