"""The papers' figures beside ours: which model is which, by how much they differ, and why where that is known."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

import yaml

from acmix_bench.errors import UserError
from acmix_bench.spec import library
from acmix_bench.spec.cell import Row
from acmix_bench.spec.variant import Variant

FOLDER = library.SHIPPED / "results" / "published"
BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error, yaml.YAMLError)


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A line of results/published/imagenet.csv: parameters in millions, MACs in billions, top-1 in percent or None."""

    model: str
    kind: str
    params_m: float
    macs_g: float
    top1: float | None
    source: str


def figures_of(row: Row) -> dict[str, Figure]:
    """What is known of a row's model, by kind (`published`, `counted`): only at 224x224, where it was printed."""
    if row.case.image_size != 224 or row.case.data != "imagenet":
        return {}
    return {figure.kind: figure for figure in _all() if _key(figure.model) == _key(_name(row))}


def reasons_of(row: Row) -> list[str]:
    """Why ours differs from a figure, where that is known (results/published/differences.yaml)."""
    path = FOLDER / "differences.yaml"
    try:
        reasons: list[dict[str, Any]] = yaml.safe_load(path.read_text("utf-8"))
        return [entry["reason"] for entry in reasons if fnmatch(_key(_name(row)), entry["models"])]
    except BROKEN as error:
        raise UserError(f"{path}: is no list of models and reasons ({type(error).__name__})") from error


def _all() -> list[Figure]:
    path = FOLDER / "imagenet.csv"
    try:
        with path.open(encoding="utf-8") as file:
            return [
                Figure(
                    model=line["model"],
                    kind=line["kind"],
                    params_m=float(line["params_m"]),
                    macs_g=float(line["macs_g"]),
                    top1=float(line["top1"]) if line["top1"] else None,
                    source=line["source"],
                )
                for line in csv.DictReader(file)
            ]
    except BROKEN as error:
        raise UserError(f"{path}: is no table of figures ({type(error).__name__})") from error


def _name(row: Row) -> str:
    """A row's model as the papers call it: stand-alone self-attention has a name of its own."""
    variant = _function(row.variant)
    for name, called in (("plain", "{}"), ("acmix", "{}-acmix"), ("attention-only", "sasa-{}")):
        if variant == _function(library.load_variant(name)):
            return called.format(row.case.backbone)
    return f"{row.case.backbone}-{row.label}"


def _function(variant: Variant) -> dict[str, Any]:
    """What it is, however it is run."""
    return {axis: value for axis, value in variant.content().items() if axis != "implementation"}


def _key(model: str) -> str:
    return model.lower().replace("-", "")
