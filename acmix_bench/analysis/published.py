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
DENSE = ("ade20k", "coco")  # the data sets of the papers
BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error, yaml.YAMLError)


@dataclass(frozen=True, kw_only=True)
class Figure:
    """What is printed of a model, each where it is: parameters in millions, MACs in billions, scores in percent.

    Attributes:
        scores: of dense tasks, by metric and schedule.
    """

    model: str
    kind: str
    params_m: float | None
    macs_g: float | None
    top1: float | None
    source: str
    scores: tuple[tuple[str, float], ...] = ()

    def __str__(self) -> str:
        """What is known, in a line."""
        told = [
            f"{self.params_m:g} M parameters" if self.params_m else "",
            f"{self.macs_g:g} G MACs (FLOPs)" if self.macs_g else "",
            f"top-1 {self.top1:g} %" if self.top1 else "",
            *(f"{what} {value:g} %" for what, value in self.scores),
        ]
        return ", ".join(filter(None, told))


def figures_of(row: Row) -> dict[str, Figure]:
    """What is known of a row's model, by kind (`published`, `counted`): only at the size for which it was printed."""
    if row.case.head:
        return _dense_of(row)
    if row.case.image_size != 224 or row.case.data != "imagenet":
        return {}
    name = _key(_name(row))
    return {figure.kind: figure for figure in _all() if _key(figure.model) == name}


def _dense_of(row: Row) -> dict[str, Figure]:
    """What `dense.csv` has of a model with its head, whose figures hold for the data of the papers."""
    height, width = row.case.input_size
    path = FOLDER / "dense.csv"
    try:
        with path.open(encoding="utf-8") as file:
            lines = [line for line in csv.DictReader(file) if line["head"] == row.case.head]
        found = [
            line
            for line in lines
            if line["backbone"] == _name(row) and line["input"] == f"{height}x{width}" and row.case.data in DENSE
        ]
        if not found:
            return {}
        counts = [float(found[0][key]) if found[0][key] else None for key in ("params_m", "macs_g")]
        scores = tuple((f"{line['metric']}, {line['schedule']}", float(line["value"])) for line in found)
    except BROKEN as error:
        raise UserError(f"{path}: is no table of figures ({type(error).__name__})") from error
    sources = "; ".join(dict.fromkeys(line["source"] for line in found))
    return {
        "published": Figure(
            model=str(row.case),
            kind="published",
            params_m=counts[0],
            macs_g=counts[1],
            top1=None,
            source=sources,
            scores=scores,
        )
    }


def reasons_of(row: Row) -> list[str]:
    """Why ours differs from a figure, where that is known (results/published/differences.yaml)."""
    path = FOLDER / "differences.yaml"
    try:
        reasons: list[dict[str, Any]] = yaml.safe_load(path.read_text("utf-8"))
        name = _key(_name(row)) + f"+{row.case.head}" * bool(row.case.head)
        return [entry["reason"] for entry in reasons if fnmatch(name, entry["models"])]
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
