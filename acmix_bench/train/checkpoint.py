"""What training goes on from after it was stopped anywhere, and the weights that it leaves.

A checkpoint holds tensors, numbers and texts alone, and is read by a reader that makes nothing else: no code of a file
runs. It is written beside the old one and then takes its place, so that one good one is always there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from acmix_bench import files
from acmix_bench.backbones.saved import refuse_bomb, write
from acmix_bench.errors import UserError, a_few

LAST, BEST, WEIGHTS = "last.ckpt", "best.safetensors", "last.safetensors"


def save(path: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint, and make its folder.

    Raises:
        UserError: where it cannot be written; the one before is then as it was.
    """

    def writer(unfinished: Path) -> None:
        unfinished.parent.mkdir(parents=True, exist_ok=True)
        torch.save(dict(content), unfinished)

    write(path, writer)


def load(path: Path, plan: Mapping[str, Any]) -> dict[str, Any]:
    """Read a checkpoint of the same plan.

    Raises:
        UserError: where it is not there, cannot be read, or is of another plan: naming what differs.
    """
    try:
        with files.opened(path) as file:
            refuse_bomb(file, path)
            content = torch.load(file, map_location="cpu", weights_only=True)
        theirs = dict(content["plan"])
    except FileNotFoundError as error:
        raise UserError(f"{path}: is not there; without --resume training starts anew") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except UserError:
        raise
    except Exception as error:  # torch's reader raises whatever a broken file leads it to
        raise broken(path) from error
    different = [
        f"{key} is {plan.get(key)!r:.60} and was {theirs.get(key)!r:.60}"
        for key in sorted(plan.keys() | theirs.keys())
        if plan.get(key) != theirs.get(key)
    ]
    if different:
        raise UserError(f"{path}: is of another training: {a_few(different)}")
    return content


def broken(path: Path) -> UserError:
    """Build the error for a file that training cannot go on from."""
    return UserError(f"{path}: is no checkpoint of acmix-bench train, or a broken one")
