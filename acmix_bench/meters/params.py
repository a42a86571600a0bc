"""Parameters that train."""

from __future__ import annotations

from typing import Any

from acmix_bench.meters.subject import Subject


def measure(subject: Subject) -> dict[str, Any]:
    """Count them. A fixed grouped convolution is a buffer, and not among them."""
    try:
        model = subject.hollow()
    except Exception:  # noqa: BLE001 - a user's code may need values to build
        model = subject.build("cpu")
    return {"parameters": sum(p.numel() for p in model.parameters())}
