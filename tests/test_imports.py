"""The import direction: a module imports only what is listed before it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import acmix_bench

ROOT = Path(acmix_bench.__file__).parent
# From the bottom up. A package stands for its modules, but for those that are listed themselves: a table of contents is
# what others look names up in, so it stands lower than the code that it names.
LAYERS = [
    "errors",
    "files",
    "stats",
    "cores",
    "spec.strict",
    "spec.plugins",
    "spec.axis",
    "spec.meter",
    "spec.recipe",
    "ops.__init__",
    "meters.__init__",
    "spec",
    "heads.__init__",
    "backbones.__init__",
    "data.__init__",
    "registered",
    "ops",
    "data",
    "backbones",
    "heads",
    "tasks.__init__",
    "tasks",
    "train",
    "meters",
    "runs",
    "analysis",
    "report",
    "ablate",
    "regress",
    "claims",
    "api",
    "cli",
    "__main__",
]
TABLES = ["ops.__init__", "backbones.__init__", "data.__init__", "meters.__init__", "heads.__init__", "tasks.__init__"]
MODULES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def layer(module: str) -> int:
    if module not in LAYERS:
        module = module.partition(".")[0]
    return LAYERS.index(module)


def imported(path: Path, *, inside: bool | None = None) -> set[str]:
    """What a module imports of this package, however it writes it.

    Args:
        inside: only what functions import in their bodies, or only what is imported outside of them.
    """
    found, tree = set(), ast.parse(path.read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    within = {id(node) for function in functions for node in ast.walk(function)}
    for node in ast.walk(tree):
        if inside is not None and inside != (id(node) in within):
            continue
        if isinstance(node, ast.ImportFrom) and node.level:
            raise AssertionError(f"{path} imports relatively; write the whole name")
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "acmix_bench":
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("acmix_bench.")}
    return {resolved(name.removeprefix("acmix_bench.").split(".")) for name in found}


def resolved(parts: list[str]) -> str:
    """The module that a dotted name lies in."""
    for end in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:end])
        if path.is_dir():
            return ".".join([*parts[:end], "__init__"])
        if path.with_suffix(".py").exists():
            return ".".join(parts[:end])
    return "errors" if parts == ["__version__"] else ".".join(parts)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_downward_only(path: Path) -> None:
    module = name_of(path)
    for name in imported(path, inside=False if module in TABLES else None):
        beside = layer(name) == layer(module) and "." in module
        assert layer(name) < layer(module) or beside, f"{module} imports {name}"


@pytest.mark.parametrize("package", ["ops", "backbones", "heads", "data", "meters", "tasks", "train"])
def test_only_tables_of_contents_import_in_the_bodies_of_functions(package: str) -> None:
    """Else a cell's key would not follow it: what is chosen when a cell runs is named by `run.code.code_of`."""
    named = {"meters.subject": {"backbones.fuse"}}
    for path in (ROOT / package).rglob("*.py"):
        if name_of(path) not in TABLES:
            assert imported(path, inside=True) <= named.get(name_of(path), set()), name_of(path)


def test_operators_depend_on_nothing_but_errors() -> None:
    for path in (ROOT / "ops").glob("*.py"):
        if name_of(path) not in TABLES:
            assert {name for name in imported(path) if not name.startswith("ops")} <= {"errors"}


def test_what_is_named_and_shown_needs_no_torch() -> None:
    """Neither does any module of spec, analysis, the tables, or what is kept of a run."""
    kept = ("runs/record", "runs/store", "runs/environment", "runs/code")
    light = [*ROOT.glob("spec/*.py"), *ROOT.glob("analysis/*.py"), *ROOT.glob("report/table/*.py")]
    light += [ROOT / f"{name}.py" for name in kept] + [ROOT / "ablate.py", ROOT / "regress.py"]
    names = [name_of(path).removesuffix(".__init__") for path in light]
    code = "import sys\n" + "\n".join(f"import acmix_bench.{name}" for name in names)
    subprocess.run([sys.executable, "-c", f"{code}\nassert 'torch' not in sys.modules"], check=True)


def test_every_module_has_a_layer() -> None:
    assert all(layer(name_of(path)) >= 0 for path in MODULES)


def test_no_file_is_longer_than_320_lines() -> None:
    folders = [ROOT, ROOT.parent / "tests"]
    long = [path for folder in folders for path in folder.rglob("*.py") if len(path.read_text().splitlines()) > 320]
    assert not long


def test_tests_stand_where_the_code_stands() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    folders = {path.parent.name for path in (ROOT.parent / "tests").glob("*/test_*.py")}
    assert folders - {"benchmarks", "gpu"} <= packages
