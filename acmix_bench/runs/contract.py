"""Does what a user brings keep its contract? Every promise is tried, and told in a line: `acmix-bench check`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from acmix_bench import backbones, data
from acmix_bench.errors import UserError
from acmix_bench.registered import FORMS, OURS
from acmix_bench.spec import plugins


@dataclass(frozen=True, kw_only=True)
class Promise:
    """What was tried, whether it holds (None where nobody promised it), and what came out."""

    name: str
    holds: bool | None
    told: str


class Broken(Exception):
    """A promise that does not hold, in words."""


class NotPromised(Exception):
    """Something that nobody promised, in words."""


def tried(name: str, attempt: Callable[[], str]) -> Promise:
    """Try one promise; whatever a user's code raises is what came out."""
    try:
        return Promise(name=name, holds=True, told=attempt())
    except NotPromised as reason:
        return Promise(name=name, holds=None, told=str(reason))
    except Exception as error:  # noqa: BLE001 - as said
        what = "" if isinstance(error, UserError | Broken) else f"{type(error).__name__}: "
        return Promise(name=name, holds=False, told=what + (str(error).strip().splitlines() or [""])[0])


def kind_of(name: str) -> str:
    """Whether a name or a reference stands for an operator, backbone, head, data set, meter or axis.

    Raises:
        UserError: for an unknown one.
    """
    if data.is_own(name):
        return "data set"
    name = name.partition(",")[0]  # an operator may have keyword arguments
    ours: dict[str, Mapping[str, Any]] = {**OURS, "axis": {}}  # those of this package have nothing to keep
    for kind, entries in ours.items():
        if name in entries or name in plugins.installed(kind):
            return kind
    if backbones.is_single_operator(name):
        return "backbone"
    entry = plugins.load("name", name, known={known: None for entries in ours.values() for known in entries})
    found = FORMS.get(type(entry), "operator")
    if found == "operator" and not isinstance(entry, type):
        raise UserError(f"'{name}' is no class of an operator, and no Backbone, Head, DataSet, Meter or Axis")
    return found


def promises(name: str, attention: str, root: str) -> list[Promise]:
    """Try everything that is promised of what a name or a reference stands for.

    Args:
        attention: for an operator, that of the backbones that it is for.
        root: for a data set, the folder of those that are not embedded.
    """
    from acmix_bench.runs import contract_data, contract_operator, contract_others

    kind = kind_of(name)
    tries: Iterator[Promise]
    if kind == "operator":
        tries = contract_operator.promises(name, attention)
    elif kind == "data set":
        tries = contract_data.promises(name, root)
    elif kind == "backbone":
        tries = contract_others.of_backbone(name)
    elif kind == "head":
        tries = contract_others.of_head(name)
    elif kind == "meter":
        tries = contract_others.of_meter(name)
    else:
        tries = contract_others.of_axis(name)
    return list(tries)
