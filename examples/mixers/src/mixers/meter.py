"""A meter: a function of a subject, and its declaration."""

from typing import Any

from acmix_bench.spec.meter import Meter, Metric


def depth(subject: Any) -> dict[str, int]:
    """How many convolutions and linear layers a network has."""
    kinds = ("Conv2d", "Linear")
    layers = [module for module in subject.build("cpu").modules() if type(module).__name__ in kinds]
    return {"depth": len(layers)}


DEPTH = Meter(summary="convolutions and linear layers", measure=depth, metrics=(Metric(key="depth", title="depth"),))
