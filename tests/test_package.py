"""The built wheel holds what a user needs, and works in an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

from acmix_bench.spec import library

ROOT = Path(__file__).parent.parent


def test_the_wheel_holds_variants_experiments_and_published_figures(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("acmix_bench-*.whl")
    unpacked = tmp_path / "unpacked"
    zipfile.ZipFile(wheel).extractall(unpacked)
    for kind, (folder, suffix) in library.FOLDERS.items():
        for name in library.known(kind):
            assert (unpacked / "acmix_bench" / "shipped" / folder / f"{name}{suffix}").exists()
    listed = subprocess.run(
        [sys.executable, "-m", "acmix_bench", "list"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(unpacked)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert "shift-tensor" in listed.stdout
