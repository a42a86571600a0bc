"""The one declaration of an axis: its meaning, when it has no effect, and what it may change of an operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic.dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One thing that variants differ in.

    An axis of this package is declared at its field of `Variant`, which holds its values and its default. One of your
    own needs `meaning`, `values` and `apply`, and may change any parameter and operation; the rest is not read of it.

    Attributes:
        meaning: what it decides, in a line.
        has_effect: whether its value changes anything in a variant.
        parameters: it may add, take away or reshape the parameters with one of these in their names; None: any.
        operations: it may bring or take away these operations that compute; None: any.
        same_as: the changes that make a variant into another way to compute the same function, before any training;
            None where this axis claims nothing of the kind.
        decides: whether its value can leave other axes without effect, so that an error names it.
        values: of an axis of your own: the values that it takes, the first one being the default.
        apply: of an axis of your own: `(model, value)` changes a built network in place, or returns another one.
    """

    meaning: str
    has_effect: Callable[[Any], bool] = lambda variant: True
    parameters: tuple[str, ...] | None = None
    operations: frozenset[str] | None = None
    same_as: Callable[[Any], dict[str, Any] | None] = lambda variant: None
    decides: bool = False
    values: tuple[Any, ...] = ()
    apply: Callable[[Any, Any], Any] | None = None
