"""Data sets that torchvision downloads, told in one line where it cannot."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

from acmix_bench.errors import UserError


def fetched(name: str, root: Path, download: Callable[[], object]) -> None:
    """Let torchvision download a data set into a folder, which is made; what is there already is kept.

    Raises:
        UserError: where that fails.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        with redirect_stdout(sys.stderr):  # what it prints is no result
            download()
    except (OSError, RuntimeError) as error:  # no network is an OSError, a wrong sum a RuntimeError
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise UserError(f"{root}: {name} cannot be downloaded ({lines[-1]})") from error
