"""Parameters that train."""

from __future__ import annotations

from typing import Any

from acmix_bench.meters.subject import Subject


def measure(subject: Subject) -> dict[str, Any]:
    """Count parameters in all, and by the model's top-level parts.

    A fixed grouped convolution is a buffer: it is not counted.
    """
    model = subject.build("cpu")
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    return {"parameters": sum(p.numel() for p in model.parameters()), "parameters_by_part": parts}
