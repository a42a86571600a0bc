"""What has a name: what this package declares, files of a library, and what installed packages enter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from acmix_bench import backbones, data, heads, meters, ops
from acmix_bench.errors import UserError
from acmix_bench.spec import library, plugins
from acmix_bench.spec.axis import Axis
from acmix_bench.spec.claim import Claim, load_claims
from acmix_bench.spec.meter import Meter
from acmix_bench.spec.variant import AXES

OURS: dict[str, Mapping[str, Any]] = {
    "operator": ops.OPERATORS,
    "backbone": backbones.BACKBONES,
    "head": heads.HEADS,
    "data set": {**data.DATASETS, **{f"{form}PATH": summary for form, summary in data.OWN.items()}},
    "meter": meters.METERS,
    "axis": {axis: declared for axis, declared in AXES.items() if axis != "options"},
}


# What each kind but operators is declared as.
FORMS: dict[type, str] = {
    backbones.Backbone: "backbone",
    heads.Head: "head",
    data.DataSet: "data set",
    Meter: "meter",
    Axis: "axis",
}


def claims() -> dict[str, Claim]:
    """The claims that have a name; none where their file says something wrong, which `claims` tells."""
    try:
        return {claim.name: claim for claim in load_claims().claims}
    except UserError:
        return {}


def all_names() -> list[str]:
    """Every name that `show` takes, but for models and keys of --set."""
    files = [name for kind in library.FOLDERS for name in library.known(kind)]
    files += claims()
    return files + [name for kind, ours in OURS.items() for name in (*ours, *plugins.installed(kind))]
