"""Narrower heads, for the tests' time."""

from __future__ import annotations

import pytest

from acmix_bench.heads import cascade, mask_rcnn, upernet


@pytest.fixture
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linear layers of regions, and UPerNet, a sixteenth and an eighth as wide as they are."""
    for module in (mask_rcnn, cascade):
        monkeypatch.setattr(module, "WIDTH", 64)
    monkeypatch.setattr(upernet, "CHANNELS", 64)
