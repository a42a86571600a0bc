"""What is built holds what a user needs, and a checkout's own files count at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from package import ROOT, run_in

from acmix_bench.spec import library


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git would clone, without the shown runs."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("acmix_bench", "variants", "experiments", "recipes", "results/published"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def python(*arguments: str | Path, folder: Path) -> None:
    subprocess.run([sys.executable, *map(str, arguments)], cwd=folder, check=True, capture_output=True)


def test_a_wheel_from_an_sdist_works_in_an_empty_folder(checkout: Path, tmp_path: Path) -> None:
    python("-m", "hatchling", "build", "-t", "sdist", "-d", tmp_path, folder=checkout)
    (sdist,) = tmp_path.glob("acmix_bench-*.tar.gz")
    command = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, sdist]
    python(*command, folder=tmp_path)
    (wheel,) = tmp_path.glob("acmix_bench-*.whl")
    unpacked, empty = tmp_path / "unpacked", tmp_path / "empty"
    zipfile.ZipFile(wheel).extractall(unpacked)
    empty.mkdir()
    for kind, (folder, suffix) in library.FOLDERS.items():
        for name in library.known(kind):
            assert (unpacked / "acmix_bench" / "shipped" / folder / f"{name}{suffix}").exists()
    assert (unpacked / "acmix_bench" / "shipped" / "results" / "published" / "differences.yaml").exists()
    code, listed, err = run_in(empty, "list", path=unpacked)
    assert code == 0, err
    assert "shift-tensor" in listed
    code, _, err = run_in(empty, "ablate", "--experiment", "smoke", "--set", "meters=params", path=unpacked)
    assert code == 0, err
    code, out, err = run_in(empty, "flops", "resnet26@64", "--set", "meters=params", path=unpacked)
    assert code == 0, err
    assert "13.7 M" in out


def test_an_edited_variant_counts_at_once_in_an_editable_install(checkout: Path, tmp_path: Path) -> None:
    """hatchling copies what it includes into an editable install too; nobody reads the copies."""
    environment = tmp_path / "venv"
    python("-m", "venv", "--without-pip", environment, folder=tmp_path)
    (site,) = environment.glob("lib/python*/site-packages")
    (ours,) = {path for path in sys.path if path.endswith("site-packages")}
    (site / "of_the_tests.pth").write_text(ours)
    command = ["-m", "pip", "--python", environment, "install", "--quiet", "--no-deps"]
    python(*command, "--editable", checkout, folder=tmp_path)

    def listed() -> str:
        variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        tool = environment / "bin" / "acmix-bench"
        ended = subprocess.run([tool, "list"], cwd=tmp_path, check=True, capture_output=True, text=True, env=variables)
        return ended.stdout

    assert "taps are moved by tensor shifts" in listed()
    path = checkout / "variants" / "shift-tensor.yaml"
    path.write_text(path.read_text().replace("taps are moved by tensor shifts", "an edited line"))
    (checkout / "variants" / "one-more.yaml").write_text("summary: one more\nclaim: none\nheads: 2\n")
    after = listed()
    assert "an edited line" in after
    assert "one more" in after


def test_nox_takes_a_base_in_either_form() -> None:
    for words in (["--base=nowhere"], ["--base", "nowhere"]):
        command = [sys.executable, "-m", "nox", "-s", "regress", "--", *words]
        ended = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
        assert ended.returncode != 0
        assert "'nowhere' is no commit of this repository" in ended.stderr
