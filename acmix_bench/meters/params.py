"""Parameters that train."""

from __future__ import annotations

from typing import Any

from acmix_bench.meters.subject import Subject


def measure(subject: Subject) -> dict[str, Any]:
    """Count them. A fixed grouped convolution is a buffer, and not among them."""
    return {"parameters": sum(p.numel() for p in subject.build("cpu").parameters())}
