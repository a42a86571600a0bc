"""What has a name: what this package declares, files of a library, and what installed packages enter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from acmix_bench import backbones, data, meters, ops
from acmix_bench.spec import library, plugins
from acmix_bench.spec.variant import AXES

OURS: dict[str, Mapping[str, Any]] = {
    "operator": ops.OPERATORS,
    "backbone": backbones.BACKBONES,
    "data set": {**data.DATASETS, f"{data.FOLDER}PATH": data.FOLDER_SUMMARY},
    "meter": meters.METERS,
    "axis": {axis: declared for axis, declared in AXES.items() if axis != "options"},
}


def all_names() -> list[str]:
    """Every name that `show` takes, but for models and keys of --set."""
    files = [name for kind in library.FOLDERS for name in library.known(kind)]
    return files + [name for kind, ours in OURS.items() for name in (*ours, *plugins.installed(kind))]
