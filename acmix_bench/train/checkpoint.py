"""What training goes on from after it was stopped anywhere, and the weights that it leaves.

A checkpoint holds tensors, numbers and texts alone, and is read by a reader that makes nothing else: no code of a file
runs. It is written beside the old one and then takes its place, so that one good one is always there.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from acmix_bench.errors import UserError, a_few

LAST, BEST, WEIGHTS = "last.ckpt", "best.safetensors", "last.safetensors"


def save(path: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint.

    Raises:
        UserError: where it cannot be written; the one before is then as it was.
    """
    write(path, lambda unfinished: torch.save(dict(content), unfinished))


def write(path: Path, writer: Callable[[Path], None]) -> None:
    """Let a file be written beside its place, and put it there once it is whole and on disk.

    Raises:
        UserError: where it cannot be written; what was there before is then as it was.
    """
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        writer(unfinished)
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        unfinished.replace(path)
    except (OSError, RuntimeError) as error:  # torch's writer knows a full disk as a RuntimeError
        unfinished.unlink(missing_ok=True)
        reason = getattr(error, "strerror", None) or (str(error).splitlines() or ["no reason given"])[0]
        kept = "; the one before is intact" if path.exists() else ""
        raise UserError(f"{path}: cannot be written ({reason}){kept}") from error


def load(path: Path, plan: Mapping[str, Any]) -> dict[str, Any]:
    """Read a checkpoint of the same plan.

    Raises:
        UserError: where it is not there, cannot be read, or is of another plan: naming what differs.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        theirs = dict(content["plan"])
    except FileNotFoundError as error:
        raise UserError(f"{path}: is not there; without --resume training starts anew") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: is no checkpoint of acmix-bench train, or a broken one") from error
    different = [
        f"{key} is {plan.get(key)!r:.60} and was {theirs.get(key)!r:.60}"
        for key in sorted(plan.keys() | theirs.keys())
        if plan.get(key) != theirs.get(key)
    ]
    if different:
        raise UserError(f"{path}: is of another training: {a_few(different)}")
    return content
